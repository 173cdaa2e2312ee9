package main

import "slices"

// turns decides which machine is exported next: no more at the same time than
// the run may, and no more of one host than that host may, so that a slow host
// does not take all places.
type turns struct {
	waiting []exportJob
	// limit is the run's, perHost the hosts' own by name; 0 means none.
	limit   int
	perHost map[string]int

	running map[string]int
	busy    int
}

// next takes the first machine that may begin now.
func (t *turns) next() (exportJob, bool) {
	if t.busy >= max(1, t.limit) {
		return exportJob{}, false
	}
	i := slices.IndexFunc(t.waiting, func(j exportJob) bool {
		own := t.perHost[j.host]
		return own == 0 || t.running[j.host] < own
	})
	if i < 0 {
		return exportJob{}, false
	}
	j := t.waiting[i]
	t.waiting = slices.Delete(t.waiting, i, i+1)
	if t.running == nil {
		t.running = map[string]int{}
	}
	t.running[j.host]++
	t.busy++
	return j, true
}

// ended says that a machine is done.
func (t *turns) ended(j exportJob) {
	t.running[j.host]--
	t.busy--
}
