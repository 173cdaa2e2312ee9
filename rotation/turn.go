package rotation

import (
	"slices"
	"time"
)

// longestMemory is how far back missed turns are looked for.
const longestMemory = 750 // days: two years and a little

// turn is what runs now: which period, which set goes out at its end, and which
// is written after it.
type turn struct {
	period period
	// out and in are indexes of sets; -1 is none. left says that out has gone.
	out, in int
	left    bool
	missed  int
	// since is when the last set left the house before this turn, as a whole.
	since time.Time
}

// gone says that a drive of a set of several left in this turn already, while the
// others did not.
func (j *judge) gone(t turn, d *ShelfDrive) bool {
	return offsite(*d) && j.depositedAt(*d).After(t.since)
}

// turnNow finds the turn. The rule is in DESIGN.md: a turn that nobody ended runs
// on, however many swaps were missed, and is then ended once.
func (j *judge) turnNow() turn {
	cur := j.p.periodOf(j.day)
	none := turn{period: cur, out: -1, in: -1}
	if !j.anyUsable() {
		return none
	}
	deposits := j.deposits()
	closed, by := j.lastClosed(deposits)
	switch {
	case by >= 0 && !closed.before(cur):
		return turn{period: closed, out: by, in: j.setAfter(cur, by), left: true}
	case by >= 0 && j.p.next(closed) == cur:
		// The way home of the last turn may still be open.
		if in := j.setAfter(closed, by); in >= 0 && !j.here(in) {
			return turn{period: closed, out: by, in: in, left: true, missed: j.missedSince(closed, cur)}
		}
	}
	first := j.firstOpen(closed, by, cur)
	since := time.Time{}
	if len(deposits) > 0 {
		since = deposits[len(deposits)-1].at
	}
	out := j.setFor(first, -1)
	return turn{period: first, out: out, in: j.setAfter(cur, out), missed: j.missedSince(first, cur), since: since}
}

// here says that all drives of a set came home, though one may be on its way out
// again.
func (j *judge) here(set int) bool {
	return !slices.ContainsFunc(j.sets[set].drives, func(d *ShelfDrive) bool { return offsite(*d) || carried(*d) && d.Homeward })
}

// firstOpen is the first period whose swap did not happen: the one after the last
// that was ended, or the one in which the drives were made.
func (j *judge) firstOpen(closed period, by int, cur period) period {
	first := j.day
	if by >= 0 {
		first = closed.swap.AddDays(1)
	} else {
		for _, d := range j.s.Drives {
			if day := j.p.Calendar.Day(d.CreatedAt); j.inScheme(d) && day.Before(first) {
				first = day
			}
		}
		if first.Before(j.p.Scheme.Start) {
			first = j.p.Scheme.Start
		}
	}
	if oldest := j.day.AddDays(-longestMemory); first.Before(oldest) {
		first = oldest
	}
	if open := j.p.periodOf(first); open.before(cur) {
		return open
	}
	return cur
}

func (j *judge) missedSince(first, cur period) (missed int) {
	for q := first; q.before(cur); q = j.p.next(q) {
		missed++
	}
	return missed
}

// deposit says when a set was last brought away, as a whole.
type deposit struct {
	set int
	at  time.Time
}

// lastClosed is the last period that was ended by a set leaving the house, and
// the set; by is -1 if there is none. A set that leaves on the swap day, or on
// the workday before, ends that period; one that leaves earlier was late for the
// period before, if that was still open.
func (j *judge) lastClosed(deposits []deposit) (closed period, by int) {
	by = -1
	for _, d := range deposits {
		day := j.p.Calendar.Day(d.at)
		q := j.p.periodOf(day)
		if day.Before(j.p.Calendar.WorkdayBefore(q.swap)) {
			if before := j.p.previous(q); by < 0 || closed.before(before) {
				q = before
			}
		}
		if by < 0 || !q.before(closed) {
			closed, by = q, d.set
		}
	}
	return closed, by
}

// setAfter is the set that is written after set out has gone at the end of q or,
// if q is long past, now. It is -1 where no other set is left.
func (j *judge) setAfter(q period, out int) int {
	set := j.setFor(j.p.next(q), out)
	if set == out {
		return -1
	}
	return set
}

// setFor is the set whose turn period q is; gone is taken as gone at this moment
// (-1: none is). Where sets take turns it is the one that left longest ago, and
// one that is in the house before one that has to be fetched.
func (j *judge) setFor(q period, gone int) int {
	if j.p.Scheme.Kind == SchemeGFS || j.p.Scheme.Kind == SchemeHanoi {
		return j.ofRank(max(j.p.plannedRank(q), j.owed(q, gone)), gone)
	}
	if set := j.longestAgo(gone, j.here); set >= 0 {
		return set
	}
	if set := j.longestAgo(gone, func(int) bool { return true }); set >= 0 {
		return set
	}
	return gone
}

// owed is the highest rank whose turn came before q and was never taken: missed
// turns do not pile up, and the rarest of them is made up for, once.
func (j *judge) owed(q period, gone int) (highest int) {
	left := j.rankLeft(gone)
	top := len(left) - 1
	oldest := j.day.AddDays(-longestMemory)
	for before := j.p.previous(q); highest < top && oldest.Before(before.start) && left[top].Before(before.start); before = j.p.previous(before) {
		if rank := min(j.p.plannedRank(before), top); rank > highest && left[rank].Before(before.start) {
			highest = rank
		}
	}
	return highest
}

// rankLeft says when a set of each rank, or of a higher one, last left the house.
// A rank owes nothing from before its sets were made.
func (j *judge) rankLeft(gone int) []Date {
	left := make([]Date, j.ranks())
	for i := range j.sets {
		rank, at := j.p.Scheme.rank(i), j.sets[i].depositedAt
		lowest := 0
		if at.IsZero() {
			lowest, at = rank, j.sets[i].createdAt
		}
		day := j.p.Calendar.Day(at)
		if i == gone {
			lowest, day = 0, j.day
		}
		for r := lowest; r <= rank; r++ {
			if left[r].Before(day) {
				left[r] = day
			}
		}
	}
	return left
}

func (j *judge) ranks() (n int) {
	for i := range j.sets {
		n = max(n, j.p.Scheme.rank(i)+1)
	}
	return n
}

// ofRank is the set of a rank that left longest ago. Where none of it can be
// used, a set of the next rank below takes the turn, or of the next above.
func (j *judge) ofRank(rank, gone int) int {
	at := func(rank int) int {
		return j.longestAgo(gone, func(set int) bool { return j.p.Scheme.rank(set) == rank })
	}
	for r := rank; r >= 0; r-- {
		if set := at(r); set >= 0 {
			return set
		}
	}
	for r := rank + 1; r < j.ranks(); r++ {
		if set := at(r); set >= 0 {
			return set
		}
	}
	return gone
}

// longestAgo is the usable set that suits and left longest ago, or never did; of
// several the first in the policy's order, and -1 if there is none.
func (j *judge) longestAgo(gone int, suits func(set int) bool) int {
	found := -1
	for i := range j.sets {
		if i == gone || !j.sets[i].usable() || !suits(i) {
			continue
		}
		if found < 0 || j.sets[i].depositedAt.Before(j.sets[found].depositedAt) {
			found = i
		}
	}
	return found
}
