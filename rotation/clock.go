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

// ConfirmClock is what a person's word does who says at a moment, by this clock,
// that the clock is right: it settles the doubts that were there before, and none
// that comes later. newest is the newest moment that anything bore then: a clock
// that was ahead leaves such behind. The shelf must know of nothing later yet.
func (s *Shelf) ConfirmClock(at, newest time.Time) {
	s.ClockConfirmedAt, s.ClockSettledUpTo, s.ClockJumpAt = at, newest, time.Time{}
	s.LastCommit = at // the clock was read, and it was right
}

// Settled says that a moment lies in the future of the clock that a person called
// right, and that it was there already. Who made it since then left an entry in
// the ledger.
func (s *Shelf) Settled(at time.Time) bool {
	return !s.ClockConfirmedAt.IsZero() && at.After(s.ClockConfirmedAt) && !at.After(s.ClockSettledUpTo)
}

// doubt says why the clock is not believed, or "". Retention counts in days, and
// a wrong clock would count too many of them.
func (j *judge) doubt() string {
	now, confirmed, last := j.now, j.s.ClockConfirmedAt, j.s.LastCommit
	switch known := later(last, confirmed); {
	case !last.IsZero() && now.Before(last.Add(-clockBehind)):
		return fmt.Sprintf("the clock says %s, and something was committed on %s already: it went back", j.stamp(now), j.stamp(last))
	case now.Before(confirmed.Add(-clockBehind)):
		return fmt.Sprintf("the clock says %s, and somebody called it right on %s already: it went back", j.stamp(now), j.stamp(confirmed))
	case !j.s.ClockJumpAt.IsZero():
		return fmt.Sprintf("the clock jumped on %s, and nobody has said since that it is right", j.stamp(j.s.ClockJumpAt))
	case !known.IsZero() && now.Sub(known) > clockAhead:
		return fmt.Sprintf("the clock says %s, and the last commit was on %s, %d days ago: either nobody exported for so long, or the clock is ahead", j.stamp(now), j.stamp(known), int(now.Sub(known)/(24*time.Hour)))
	}
	for _, d := range j.s.Drives {
		for _, p := range d.Points {
			if at := later(p.TakenAt, p.CommittedAt); now.Before(at.Add(-clockBehind)) && !j.s.Settled(at) {
				return fmt.Sprintf("a point on drive %s was made on %s, which has not come yet", d.Label, j.stamp(at))
			}
		}
	}
	return ""
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
