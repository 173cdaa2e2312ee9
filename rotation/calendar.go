package rotation

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// DefaultDayEnds is when a day ends where the policy does not say: an export
// that runs past midnight belongs to the evening on which it began.
const DefaultDayEnds = 6 * time.Hour

// DateOf is the day of t in t's own zone.
func DateOf(t time.Time) Date {
	y, m, d := t.Date()
	return Date{y, m, d}
}

// ParseDate reads a day as 2026-11-20.
func ParseDate(text string) (Date, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return Date{}, fmt.Errorf("%q is not a day like 2026-11-20", text)
	}
	return DateOf(t), nil
}

// String is the day as 2026-11-20, or "" for no day.
func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return d.noon().Format(time.DateOnly)
}

// MarshalText makes a day a string in JSON.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Date) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Date{}
		return nil
	}
	var err error
	*d, err = ParseDate(string(text))
	return err
}

// IsZero says that no day is meant.
func (d Date) IsZero() bool { return d == Date{} }

// noon stands for the day in arithmetic. It is UTC, which has no daylight saving,
// so that a day is always 24 hours.
func (d Date) noon() time.Time { return time.Date(d.Year, d.Month, d.Day, 12, 0, 0, 0, time.UTC) }

// AddDays is the day n days later, or earlier.
func (d Date) AddDays(n int) Date { return dateOfDay(d.days() + n) }

// Weekday is the day of the week.
func (d Date) Weekday() time.Weekday {
	return time.Weekday((d.days()%7 + 8) % 7)
}

// Compare is -1, 0 or 1: d is before e, the same, or after it.
func (d Date) Compare(e Date) int {
	return cmp.Or(cmp.Compare(d.Year, e.Year), cmp.Compare(d.Month, e.Month), cmp.Compare(d.Day, e.Day))
}

// Before says that d is an earlier day than e.
func (d Date) Before(e Date) bool { return d.Compare(e) < 0 }

func laterDay(d, e Date) Date {
	if d.Before(e) {
		return e
	}
	return d
}

// Week is the ISO week, as 2026-W47. The days around a new year may belong to a
// week of the other year.
func (d Date) Week() string {
	year, week := d.noon().ISOWeek()
	return fmt.Sprintf("%04d-W%02d", year, week)
}

// firstMonday is a Monday before all times that matter; days and weeks are counted
// from it.
var firstMonday = Date{1970, time.January, 5}

// epochMonday is the first Monday in days from 1 March of the year 0, which begins
// a cycle of 400 years of the calendar.
const epochMonday = 719_472

// days counts the days from the first Monday; it is negative before it. Years are
// taken to begin in March here, so that a leap day is the last day of its year.
func (d Date) days() int {
	month := int(d.Month) - 1
	year := d.Year + floorDiv(month, 12)
	month -= 12 * floorDiv(month, 12)
	if month < 2 {
		year, month = year-1, month+12
	}
	return 365*year + floorDiv(year, 4) - floorDiv(year, 100) + floorDiv(year, 400) + (153*(month-2)+2)/5 + d.Day - 1 - epochMonday
}

// dateOfDay is the day with that number.
func dateOfDay(number int) Date {
	const inCycle = 146_097 // days of 400 years
	number += epochMonday
	cycle := floorDiv(number, inCycle)
	day := number - cycle*inCycle
	year := (day - day/1460 + day/36_524 - day/146_096) / 365
	day -= 365*year + year/4 - year/100
	month := (5*day + 2) / 153
	d := Date{Year: year + 400*cycle, Month: time.Month(month + 3), Day: day - (153*month+2)/5 + 1}
	if d.Month > time.December {
		d.Year, d.Month = d.Year+1, d.Month-12
	}
	return d
}

func floorDiv(a, b int) int {
	if a < 0 {
		return -((-a + b - 1) / b)
	}
	return a / b
}

// Day is the working day that t belongs to: until DayEnds, the one before. Only
// the clock on the wall counts, so nights of 23 and of 25 hours are one night.
func (c Calendar) Day(t time.Time) Date {
	t = t.In(c.zone())
	h, m, s := t.Clock()
	sinceMidnight := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
	if sinceMidnight < c.dayEnds() {
		return DateOf(t).AddDays(-1)
	}
	return DateOf(t)
}

// EndOf is the moment at which a day ends: DayEnds on the wall of the next one.
func (c Calendar) EndOf(d Date) time.Time {
	next := d.AddDays(1)
	wall := c.dayEnds()
	return time.Date(next.Year, next.Month, next.Day, int(wall/time.Hour), int(wall/time.Minute)%60, int(wall/time.Second)%60, 0, c.zone())
}

// Workday says that people work on that day.
func (c Calendar) Workday(d Date) bool {
	return c.workedWeekday(d.Weekday()) && !slices.Contains(c.Holidays, d)
}

func (c Calendar) workedWeekday(day time.Weekday) bool {
	if len(c.Workdays) == 0 {
		return day != time.Saturday && day != time.Sunday
	}
	return slices.Contains(c.Workdays, day)
}

// longestBreak bounds the search for a workday: a calendar may have none.
const longestBreak = 400

// WorkdayBefore is the last workday before d; a calendar without any gives the
// day before.
func (c Calendar) WorkdayBefore(d Date) Date {
	for i := 1; i <= longestBreak; i++ {
		if day := d.AddDays(-i); c.Workday(day) {
			return day
		}
	}
	return d.AddDays(-1)
}

// WorkdayFrom is d, or the first workday after it; a calendar without any gives d.
func (c Calendar) WorkdayFrom(d Date) Date {
	for i := range longestBreak {
		if day := d.AddDays(i); c.Workday(day) {
			return day
		}
	}
	return d
}

func (c Calendar) zone() *time.Location {
	if c.Zone == nil {
		return time.UTC
	}
	return c.Zone
}

func (c Calendar) dayEnds() time.Duration {
	if c.DayEnds <= 0 || c.DayEnds >= 24*time.Hour {
		return DefaultDayEnds
	}
	return c.DayEnds
}
