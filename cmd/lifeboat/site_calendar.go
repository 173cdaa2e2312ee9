package main

import (
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"lifeboat/rotation"
	"lifeboat/yamlfile"
)

var defaultWorkdays = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}

// calendar reads the calendar; without one it is this computer's zone, Monday to
// Friday, and a day ends at six.
func (r *rotationReader) calendar(n *yaml.Node) rotation.Calendar {
	f := r.Fields(n, "calendar", "zone", "dayEnds", "workdays", "holidays")
	c := rotation.Calendar{Zone: time.Local, DayEnds: rotation.DefaultDayEnds, Workdays: r.weekdays(f["workdays"], "workdays"), Holidays: r.dates(f["holidays"], "holidays")}
	if len(c.Workdays) == 0 {
		c.Workdays = slices.Clone(defaultWorkdays)
	}
	if name := r.Text(f["zone"], "zone"); name != "" {
		zone, err := time.LoadLocation(name)
		if err != nil {
			r.Wrong(f["zone"], "calendar.zone: %q is not a time zone that this computer knows, such as Europe/Berlin", name)
		} else {
			c.Zone = zone
		}
	}
	if text := r.Text(f["dayEnds"], "dayEnds"); text != "" {
		t, err := time.Parse("15:04", text)
		if err != nil || t.Hour() >= 12 {
			r.Wrong(f["dayEnds"], "calendar.dayEnds: %q is not a time of the morning, such as \"06:00\"", text)
		}
		c.DayEnds = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	return c
}

var weekdayNames = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

func (r *rotationReader) weekday(n *yaml.Node, what string) time.Weekday {
	return r.weekdayOf(n, what, r.Text(n, what))
}

// weekdayOf reads a day by its name or the first three letters of it.
func (r *rotationReader) weekdayOf(n *yaml.Node, what, text string) time.Weekday {
	for i, name := range weekdayNames {
		if lower := strings.ToLower(text); lower == name || lower == name[:3] {
			return time.Weekday(i)
		}
	}
	r.Wrong(n, "%s: %q is not a day of the week%s", what, text, yamlfile.Meant(text, weekdayNames))
	return time.Sunday
}

// weekdays reads days and ranges of days: "monday to thursday".
func (r *rotationReader) weekdays(n *yaml.Node, what string) (all []time.Weekday) {
	for _, item := range r.Items(n, what) {
		first, last, isRange := strings.Cut(r.Text(item, what), " to ")
		d := r.weekdayOf(item, what, first)
		end := d
		if isRange {
			end = r.weekdayOf(item, what, last)
		}
		for ; ; d = (d + 1) % 7 {
			if !slices.Contains(all, d) {
				all = append(all, d)
			}
			if d == end {
				break
			}
		}
	}
	return all
}

func (r *rotationReader) date(n *yaml.Node, what string) rotation.Date {
	return r.dateOf(n, what, r.Text(n, what))
}

func (r *rotationReader) dateOf(n *yaml.Node, what, text string) rotation.Date {
	d, err := rotation.ParseDate(text)
	if err != nil {
		r.Wrong(n, "%s: %v", what, err)
	}
	return d
}

// holidayLimit bounds one range of holidays.
const holidayLimit = 366

// dates reads days and ranges of days: "2026-12-24 to 2027-01-01".
func (r *rotationReader) dates(n *yaml.Node, what string) (all []rotation.Date) {
	for _, item := range r.Items(n, what) {
		first, last, isRange := strings.Cut(r.Text(item, what), " to ")
		from := r.dateOf(item, what, first)
		to := from
		if isRange {
			to = r.dateOf(item, what, last)
		}
		if to.Before(from) || from.AddDays(holidayLimit).Before(to) {
			r.Wrong(item, "%s: %q is not a range from one day to a later one, within a year", what, item.Value)
			continue
		}
		for d := from; !to.Before(d); d = d.AddDays(1) {
			all = append(all, d)
		}
	}
	return all
}
