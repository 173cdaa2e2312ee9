package main

import (
	"slices"
	"time"

	"lifeboat/rotation"
)

// coming are the steps that people do in so many days from now, if all goes as
// planned: each turn is decided on the shelf as the one before would leave it. They
// are in the order of their days, and on one day in the order of the checklist.
// What is overdue is to be done today.
func (j judgement) coming(days int) (steps []rotation.Step) {
	shelf, d := j.shelf, j.decision
	last := d.Day.AddDays(days)
	for {
		for _, s := range d.Steps {
			if s.Due.Before(d.Day) {
				s.Due = d.Day
			}
			if s.Done == nil && !s.Seen && !last.Before(s.Due) {
				steps = append(steps, s)
			}
			if s.Done == nil {
				shelf = rotation.After(j.policy, shelf, s, j.policy.Calendar.EndOf(s.Due).Add(-time.Second))
			}
		}
		end := j.policy.Calendar.EndOf(d.SwapOn)
		if d.SwapOn.Before(d.Day) {
			end = j.policy.Calendar.EndOf(d.Day)
		}
		// The next turn begins with the day after, and has its first export.
		now := end.Add(12 * time.Hour)
		if last.Before(j.policy.Calendar.Day(now)) {
			slices.SortStableFunc(steps, func(x, y rotation.Step) int { return x.Due.Compare(y.Due) })
			return steps
		}
		shelf.ConfirmClock(now, now)
		d = rotation.Decide(now, j.policy, shelf)
	}
}
