package runbook

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// addEstimate says when each machine would serve, by what earlier runs measured:
// along the graph, with as many starting at the same time as their hosts start.
// What people take counts for nothing, and a machine that was never measured for
// the middle of those that were.
func (r *resolver) addEstimate() {
	times := map[string]machineTime{}
	var boots, services []time.Duration
	for _, m := range r.plan.Machines {
		if t, ok := r.measured(m.Name); ok {
			times[m.Name] = t
			boots, services = append(boots, t.boot), append(services, t.service)
		}
	}
	r.plan.Known = len(times)
	if len(times) == 0 {
		return
	}
	middle := machineTime{median(boots), median(services)}
	ends := r.simulate(func(machine string) machineTime {
		if t, ok := times[machine]; ok {
			return t
		}
		return middle
	})
	for i := range r.plan.Machines {
		m := &r.plan.Machines[i]
		r.plan.Estimate = max(r.plan.Estimate, ends[m.Name])
		if _, known := times[m.Name]; known {
			m.Estimate = ends[m.Name]
		}
	}
}

// machineTime is what a machine takes by itself: until it runs, and from then until
// its checks pass.
type machineTime struct{ boot, service time.Duration }

// measured is what the newest run with that machine measured of it.
func (r *resolver) measured(machine string) (t machineTime, ok bool) {
	var newest time.Time
	for _, p := range r.s.Past {
		m, has := p.Machines[machine]
		if !has || m.RTA <= 0 || p.Began.Before(newest) {
			continue
		}
		newest, ok = p.Began, true
		t = machineTime{m.Spent[SpentOpen] + m.Spent[SpentDefine] + m.Spent[SpentBoot], m.Spent[SpentService]}
		if t.boot+t.service == 0 {
			t.service = max(m.RTA-m.Spent[SpentWaiting]-m.Spent[SpentFind], 0)
		}
	}
	return t, ok
}

// simulate runs the steps of the plan in thought and returns when the checks of
// each machine end. Of the steps that can begin, the one that can begin first does.
func (r *resolver) simulate(timeOf func(machine string) machineTime) map[string]time.Duration {
	free := r.bootSlots()
	at, waits, behind := map[string]int{}, make([]int, len(r.plan.Steps)), make([][]int, len(r.plan.Steps))
	for i, s := range r.plan.Steps {
		at[s.ID] = i
	}
	var open turns
	for i, s := range r.plan.Steps {
		waits[i] = len(s.After)
		for _, id := range s.After {
			behind[at[id]] = append(behind[at[id]], i)
		}
		if waits[i] == 0 {
			open = append(open, turn{step: i})
		}
	}
	ends, from := map[string]time.Duration{}, make([]time.Duration, len(r.plan.Steps))
	for heap.Init(&open); open.Len() > 0; {
		next := heap.Pop(&open).(turn)
		s, begin, took := r.plan.Steps[next.step], next.from, time.Duration(0)
		switch s.Kind {
		case StepPause:
			took = s.Step.Limit
		case StepBoot:
			took = timeOf(s.Machine).boot
			if slots := free[s.Machine]; len(slots) > 0 {
				slot := slices.Index(slots, slices.Min(slots))
				begin = max(begin, slots[slot])
				slots[slot] = begin + took
			}
		case StepCheck:
			took = timeOf(s.Machine).service
			ends[s.Machine] = max(ends[s.Machine], begin+took)
		}
		for _, b := range behind[next.step] {
			from[b] = max(from[b], begin+took)
			if waits[b]--; waits[b] == 0 {
				heap.Push(&open, turn{b, from[b]})
			}
		}
	}
	return ends
}

// bootSlots are, for each machine, the moments at which its host can start the next
// one. Machines of one host share them.
func (r *resolver) bootSlots() map[string][]time.Duration {
	free := map[string][]time.Duration{}
	for _, h := range r.plan.Hosts {
		slots := make([]time.Duration, h.Boots)
		for _, m := range h.Machines {
			free[m] = slots
		}
	}
	return free
}

// turn is a step that can begin at a moment; turns are those of them that have not
// begun, as a heap.
type turn struct {
	step int
	from time.Duration
}

type turns []turn

func (t turns) Len() int      { return len(t) }
func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t turns) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(t[i].from, t[j].from), cmp.Compare(t[i].step, t[j].step)) < 0
}
func (t *turns) Push(v any) { *t = append(*t, v.(turn)) }
func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// median is the middle one of some times; of none it is zero.
func median(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
