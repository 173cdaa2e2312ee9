package rotation

import (
	"fmt"
	"time"
)

// How far the clock may be from what drives and ledger know before nothing is
// forgotten without a person.
const (
	clockBehind = 10 * time.Minute    // two computers' clocks differ by less
	clockAhead  = 45 * 24 * time.Hour // longer than any holiday
)

// ClockJump finds when the clock last jumped, in the times of entries of a ledger
// in the order in which they were made: the moment of the last entry that is more
// than 45 days after the one before it, or before it by more than some minutes.
// It is zero where the clock never did.
func ClockJump(recorded []time.Time) (at time.Time) {
	for i := 1; i < len(recorded); i++ {
		if by := recorded[i].Sub(recorded[i-1]); by > clockAhead || by < -clockBehind {
			at = recorded[i]
			// What was recorded before it was set back lies in the future still.
			if recorded[i-1].After(at) {
				at = recorded[i-1]
			}
		}
	}
	return at
}

// doubt says why the clock is not believed, or "". Retention counts in days, and
// a wrong clock would count too many of them.
func (j *judge) doubt() string {
	now, confirmed := j.now, j.s.ClockConfirmedAt
	if last := j.s.LastCommit; !last.IsZero() && !j.confirmedNow() {
		switch {
		case now.Before(last.Add(-clockBehind)):
			return fmt.Sprintf("the clock says %s, and something was committed on %s already: it went back", j.stamp(now), j.stamp(last))
		case now.Sub(last) > clockAhead:
			return fmt.Sprintf("the clock says %s, and the last commit was on %s, %d days ago: either nobody exported for so long, or the clock is ahead", j.stamp(now), j.stamp(last), int(now.Sub(last)/(24*time.Hour)))
		}
	}
	if jump := j.s.ClockJumpAt; !jump.IsZero() && jump.After(confirmed) && !j.confirmedNow() {
		return fmt.Sprintf("the clock jumped on %s, and nobody has said since that it is right", j.stamp(jump))
	}
	if j.confirmedNow() {
		return ""
	}
	for _, d := range j.s.Drives {
		for _, p := range d.Points {
			if at := later(p.TakenAt, p.CommittedAt); now.Before(at.Add(-clockBehind)) {
				return fmt.Sprintf("a point on drive %s was made on %s, which has not come yet", d.Label, j.stamp(at))
			}
		}
	}
	return ""
}

// confirmedNow says that a person called this clock right, and that it has gone on
// from there as clocks do.
func (j *judge) confirmedNow() bool {
	confirmed := j.s.ClockConfirmedAt
	if confirmed.IsZero() || j.now.Before(confirmed.Add(-clockBehind)) {
		return false
	}
	known := confirmed
	if last := j.s.LastCommit; last.After(known) && !last.After(j.now) {
		known = last
	}
	return j.now.Sub(known) <= clockAhead
}

func (j *judge) stamp(t time.Time) string {
	return t.In(j.p.Calendar.zone()).Format("2006-01-02 15:04")
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
