package runbook

import (
	"slices"
	"time"
)

// waitedForPeople is how long a run waited for people and did nothing else: while a
// confirm or a pause was open, and no other step was under way.
func waitedForPeople(r *Record) time.Duration {
	type edge struct {
		at     time.Time
		people bool
		begins int
	}
	var edges []edge
	for _, s := range r.Steps {
		if s.Began.IsZero() || s.Ended.Before(s.Began) {
			continue
		}
		people := kindClass(s.Kind) == "people"
		edges = append(edges, edge{s.Began, people, 1}, edge{s.Ended, people, -1})
	}
	slices.SortStableFunc(edges, func(x, y edge) int { return x.at.Compare(y.at) })
	var all time.Duration
	people, others := 0, 0
	for i, e := range edges {
		if i > 0 && people > 0 && others == 0 {
			all += bounded(e.at.Sub(edges[i-1].at))
		}
		if e.people {
			people += e.begins
		} else {
			others += e.begins
		}
	}
	return all
}
