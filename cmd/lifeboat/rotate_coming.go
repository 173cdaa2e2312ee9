package main

import (
	"time"

	"lifeboat/rotation"
)

// coming are the steps that people do in so many days from now, if all goes as
// planned: each turn is decided on the shelf as the one before would leave it.
func (j judgement) coming(days int) (steps []rotation.Step) {
	shelf, now, d := j.shelf, j.now, j.decision
	last := d.Day.AddDays(days)
	for {
		for _, s := range d.Steps {
			if s.Done == nil && !s.Seen && !last.Before(s.Due) {
				steps = append(steps, s)
			}
			if s.Done == nil {
				shelf = rotation.After(j.policy, shelf, s, j.policy.Calendar.EndOf(s.Due))
			}
		}
		end := j.policy.Calendar.EndOf(d.SwapOn)
		if !end.After(now) {
			end = now
		}
		// The next turn begins with the day after, and has its first export.
		now = end.Add(12 * time.Hour)
		if last.Before(j.policy.Calendar.Day(now)) {
			return steps
		}
		shelf.LastCommit, shelf.ClockConfirmedAt = now, now
		d = rotation.Decide(now, j.policy, shelf)
	}
}
