package main

import (
	"slices"
	"time"

	"lifeboat/custody"
	"lifeboat/rotation"
)

// coming are the steps that people do in so many days from now, if all goes as
// planned: each turn is decided on the shelf as the one before would leave it.
func (j judgement) coming(days int) (steps []rotation.Step) {
	shelf, now, d := cloneShelf(j.shelf), j.now, j.decision
	last := d.Day.AddDays(days)
	for {
		for _, s := range d.Steps {
			if s.Done == nil && !s.Seen && !last.Before(s.Due) {
				steps = append(steps, s)
			}
			walk(&shelf, s, j.policy.Calendar.EndOf(s.Due))
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

// walk does a step on a shelf of paper.
func walk(shelf *rotation.Shelf, s rotation.Step, at time.Time) {
	i := slices.IndexFunc(shelf.Drives, func(d rotation.ShelfDrive) bool { return d.ID == s.DriveID })
	if i < 0 || s.Done != nil {
		return
	}
	d := &shelf.Drives[i]
	switch s.Kind {
	case rotation.StepAttach:
		d.Attached = true
	case rotation.StepEject:
		d.Attached, d.EjectedAt = false, at
	}
	if s.To.State == "" {
		return
	}
	d.Place, d.Since, d.Attached = s.To, at, d.Attached && s.To.State == custody.Onsite
	if s.To.State == custody.Offsite {
		d.DepositedAt = at
	}
}

// cloneShelf copies what walk changes.
func cloneShelf(s rotation.Shelf) rotation.Shelf {
	s.Drives = slices.Clone(s.Drives)
	return s
}
