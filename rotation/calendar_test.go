package rotation_test

import (
	"fmt"
	"testing"
	"time"

	"lifeboat/rotation"
)

func TestDaysAreCountedAsTheCalendarDoes(t *testing.T) {
	for _, year := range []int{-401, 1, 1600, 1899, 1900, 1969, 2000, 2026, 2028, 2100, 9999} {
		for n := range 800 {
			at := time.Date(year, time.January, 1+n, 12, 0, 0, 0, time.UTC)
			d := rotation.DateOf(at)
			if d.Weekday() != at.Weekday() || d.AddDays(0) != d || d.AddDays(37) != rotation.DateOf(at.AddDate(0, 0, 37)) || d.AddDays(-400) != rotation.DateOf(at.AddDate(0, 0, -400)) {
				t.Fatalf("%s: %s, 37 days later %s, 400 earlier %s", at, d.Weekday(), d.AddDays(37), d.AddDays(-400))
			}
		}
	}
}

func TestARunAfterMidnightBelongsToTheEveningBefore(t *testing.T) {
	c := rotation.Calendar{Zone: berlin}
	for at, want := range map[string]string{
		"2026-11-20T22:00:00+01:00": "2026-11-20",
		"2026-11-21T03:00:00+01:00": "2026-11-20",
		"2026-11-21T05:59:59+01:00": "2026-11-20",
		"2026-11-21T06:00:00+01:00": "2026-11-21",
		// The night of 25 hours: 02:30 comes twice. Both belong to Saturday.
		"2026-10-25T00:30:00Z": "2026-10-24",
		"2026-10-25T01:30:00Z": "2026-10-24",
		"2026-10-25T04:59:00Z": "2026-10-24",
		"2026-10-25T05:00:00Z": "2026-10-25",
		// The night of 23 hours: 06:00 comes after 23 hours less one.
		"2026-03-29T03:59:00Z": "2026-03-28",
		"2026-03-29T04:00:00Z": "2026-03-29",
		// The same moments seen from another zone are the same day of the site.
		"2026-11-20T16:00:00-06:00": "2026-11-20",
	} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Day(when); got.String() != want {
			t.Errorf("%s belongs to %s, not to %s", at, want, got)
		}
	}
}

func TestADayEndsOnTheWallAlsoInANightOf23Or25Hours(t *testing.T) {
	c := rotation.Calendar{Zone: berlin}
	for day, want := range map[string]time.Duration{"2026-10-24": 25 * time.Hour, "2026-03-28": 23 * time.Hour, "2026-11-20": 24 * time.Hour} {
		d, err := rotation.ParseDate(day)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.EndOf(d).Sub(c.EndOf(d.AddDays(-1))); got != want {
			t.Errorf("%s has %s, not %s", day, got, want)
		}
	}
}

func TestSwapsAvoidHolidaysAndWeeksWithoutWorkdays(t *testing.T) {
	p := twoDrives()
	day := func(text string) rotation.Date {
		d, err := rotation.ParseDate(text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	p.Calendar.Holidays = []rotation.Date{day("2026-12-25"), day("2027-01-01")}
	for n := range 5 {
		p.Calendar.Holidays = append(p.Calendar.Holidays, day("2027-01-04").AddDays(n)) // closed for a week
	}
	for text, want := range map[string]string{
		"2026-12-14": "2026-W51 until 2026-12-18",
		"2026-12-21": "2026-W52 until 2026-12-24", // Friday is a holiday
		"2026-12-25": "2026-W53 until 2026-12-31", // and belongs to the next turn
		"2026-12-31": "2026-W53 until 2026-12-31",
		"2027-01-01": "2027-W02 until 2027-01-15", // the week without workdays has no swap
		"2027-01-08": "2027-W02 until 2027-01-15",
		"2027-01-16": "2027-W03 until 2027-01-22",
	} {
		d := rotation.Decide(p.Calendar.EndOf(day(text)).Add(-time.Hour), p, rotation.Shelf{})
		if got := fmt.Sprintf("%s until %s", d.Period, d.SwapOn); got != want {
			t.Errorf("%s is in %s, not in %s", text, got, want)
		}
	}
}
