package rotation

import "math/bits"

// period is the time that one set is written: from the day after a swap to the
// next swap, both included. Periods follow each other without a gap.
type period struct {
	name        string
	start, swap Date
	// index counts periods as the pattern of the calendar has them, holidays or
	// not: a turn that falls on a holiday is skipped and moves no other.
	index int
}

func (p period) before(q period) bool { return p.swap.Before(q.swap) }

// periodOf is the period that a day belongs to. It ends on the swap day, or on
// the last workday before it; a week without a workday has no swap, and belongs
// to the next one. Where sets change daily, each workday is a period, together
// with the free days before it.
func (p Policy) periodOf(day Date) period {
	if !p.Scheme.Weekly {
		swap := p.Calendar.WorkdayFrom(day)
		return period{name: swap.String(), start: p.Calendar.WorkdayBefore(swap).AddDays(1), swap: swap, index: p.workedDays(swap)}
	}
	week := floorDiv(day.days()-p.swapOffset()+6, 7)
	last, swap := p.swapFrom(week, day)
	return period{name: p.nominalSwap(last).Week(), start: p.swapBefore(last).AddDays(1), swap: swap, index: last - p.startWeek()}
}

func (p Policy) next(q period) period { return p.periodOf(q.swap.AddDays(1)) }

func (p Policy) previous(q period) period { return p.periodOf(q.start.AddDays(-1)) }

// swapOffset is how many days after its Monday the swap day of a week is.
func (p Policy) swapOffset() int { return (int(p.Scheme.SwapDay%7) + 6) % 7 }

func (p Policy) nominalSwap(week int) Date { return firstMonday.AddDays(7*week + p.swapOffset()) }

// swapOf is the day on which sets change at the end of a week that ends on the
// swap day; ok is false for a week without a workday.
func (p Policy) swapOf(week int) (day Date, ok bool) {
	for i := range 7 {
		if day := p.nominalSwap(week).AddDays(-i); p.Calendar.Workday(day) {
			return day, true
		}
	}
	return Date{}, false
}

// swapFrom is the first swap on or after day, from that week on. A calendar
// without workdays has its swaps on the swap day itself.
func (p Policy) swapFrom(week int, day Date) (int, Date) {
	for w := week; w <= week+longestBreak/7; w++ {
		if swap, ok := p.swapOf(w); ok && !swap.Before(day) {
			return w, swap
		}
	}
	return week, p.nominalSwap(week)
}

func (p Policy) swapBefore(week int) Date {
	for w := week - 1; w >= week-longestBreak/7; w-- {
		if swap, ok := p.swapOf(w); ok {
			return swap
		}
	}
	return p.nominalSwap(week - 1)
}

func (p Policy) startWeek() int {
	if p.Scheme.Start.IsZero() {
		return 0
	}
	return floorDiv(p.Scheme.Start.days()-p.swapOffset()+6, 7)
}

// workedDays counts the days that are worked by their weekday, from the start of
// the scheme to day. It leaves holidays aside, or a holiday that is added to the
// policy would change whose turn every other day is.
func (p Policy) workedDays(day Date) int {
	start := firstMonday
	if !p.Scheme.Start.IsZero() {
		start = p.Scheme.Start
	}
	return p.workedUntil(day.days()) - p.workedUntil(start.days())
}

// workedUntil counts the worked weekdays before the day with that number.
func (p Policy) workedUntil(number int) int {
	weeks := floorDiv(number, 7)
	count, inWeek := 0, 0
	for i := range 7 {
		if p.Calendar.workedWeekday(firstMonday.AddDays(i).Weekday()) {
			inWeek++
			if i < number-7*weeks {
				count++
			}
		}
	}
	return weeks*inWeek + count
}

// rank says how rarely a set is written: the rarer it is, the worse it would be
// to leave its turn out.
func (s Scheme) rank(set int) int {
	switch {
	case s.Kind == SchemeHanoi:
		return set
	case s.Kind == SchemeGFS && s.Sets[set].Role == RoleFather:
		return 1
	case s.Kind == SchemeGFS && s.Sets[set].Role == RoleGrandfather:
		return 2
	}
	return 0
}

// plannedRank is the rank whose turn a period is by the calendar alone.
func (p Policy) plannedRank(q period) int {
	switch p.Scheme.Kind {
	case SchemeHanoi:
		return ruler(q.index, len(p.Scheme.Sets))
	case SchemeGFS:
		next := p.next(q).swap
		switch {
		case next.Year != q.swap.Year && p.hasRank(2):
			return 2
		case next.Year != q.swap.Year || next.Month != q.swap.Month:
			return 1
		}
	}
	return 0
}

func (p Policy) hasRank(rank int) bool {
	for i := range p.Scheme.Sets {
		if p.Scheme.rank(i) == rank {
			return true
		}
	}
	return false
}

// ruler is the tower of Hanoi: the first of n sets every second turn, the next
// every fourth, and so on; the last one takes turn 0.
func ruler(turn, n int) int {
	if n <= 1 {
		return 0
	}
	if turn == 0 {
		return n - 1
	}
	return min(bits.TrailingZeros64(uint64(turn)), n-1)
}
