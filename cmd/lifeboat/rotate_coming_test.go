package main

import (
	"slices"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// The calendar looks eight weeks ahead: A and B go out in turn, each by somebody,
// a holiday moves the swap, and no step stands twice.
func TestTheCalendarAlternatesTheSetsOverEightWeeks(t *testing.T) {
	j := inTurns(t, time.Time{})
	var out []string
	seen := map[string]bool{}
	var before rotation.Date
	for _, s := range j.coming(56) {
		if s.Due.Before(before) {
			t.Errorf("%s of %s stands after a step of %s", s.ID, s.Due, before)
		}
		before = s.Due
		if seen[s.ID] || s.Seen || s.Person == "" {
			t.Errorf("%+v", s)
		}
		seen[s.ID] = true
		if s.Kind == rotation.StepDeposit {
			out = append(out, s.Due.String()+" "+s.Label)
		}
	}
	want := []string{"2026-11-20 A", "2026-11-27 B", "2026-12-04 A", "2026-12-11 B", "2026-12-18 A", "2026-12-24 B", "2027-01-01 A", "2027-01-08 B"}
	if !slices.Equal(out, want) {
		t.Errorf("%q, not %q", out, want)
	}
}

// After missed weeks the calendar begins today with what is overdue, once, and goes
// on from there.
func TestTheCalendarAfterMissedWeeksBeginsToday(t *testing.T) {
	j := inTurns(t, time.Date(2026, 12, 7, 9, 0, 0, 0, time.UTC))
	if j.decision.Missed != 3 {
		t.Fatalf("%d swaps were missed", j.decision.Missed)
	}
	var out []string
	for _, s := range j.coming(21) {
		if s.Due.Before(j.decision.Day) {
			t.Errorf("%s is due on %s, in the past", s.ID, s.Due)
		}
		if s.Kind == rotation.StepDeposit {
			out = append(out, s.Due.String()+" "+s.Label)
		}
	}
	want := []string{"2026-12-07 A", "2026-12-11 B", "2026-12-18 A", "2026-12-24 B"}
	if !slices.Equal(out, want) {
		t.Errorf("%q, not %q", out, want)
	}
}

// inTurns is a site of two drives on 16 November, of which B was brought away on
// the Friday before, or the same site at a later moment.
func inTurns(t *testing.T, at time.Time) judgement {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	p, err := readRotationText(t, wholeRotation)
	if err != nil {
		t.Fatal(err)
	}
	p.Scheme.Sets, p.Scheme.SwapDay = []rotation.Set{{Name: "A", Drives: []string{"A"}}, {Name: "B", Drives: []string{"B"}}}, time.Friday
	p.Calendar.Workdays, p.Calendar.Holidays, p.Calendar.Zone = nil, []rotation.Date{{Year: 2026, Month: 12, Day: 25}}, zone
	now := time.Date(2026, 11, 16, 9, 0, 0, 0, zone)
	point := func(id string) []rotation.ShelfPoint {
		return []rotation.ShelfPoint{{ID: id, MachineID: "m", Sequence: 1, TakenAt: now.Add(-3 * day), CommittedAt: now.Add(-3 * day), VerifiedAt: now.Add(-3 * day)}}
	}
	shelf := rotation.Shelf{Machines: []rotation.ShelfMachine{{ID: "m", Name: "web"}}, LastCommit: now.Add(-3 * day), Drives: []rotation.ShelfDrive{
		{Drive: lifeboat.Drive{ID: "a", Label: "A", CreatedAt: now.Add(-90 * day)}, Place: custody.Place{State: custody.Onsite, Location: "office"}, Points: point("pa")},
		{Drive: lifeboat.Drive{ID: "b", Label: "B", CreatedAt: now.Add(-90 * day)}, Place: custody.Place{State: custody.Offsite, Location: "bank"}, DepositedAt: now.Add(-3 * day), Points: point("pb")},
	}}
	if !at.IsZero() {
		now = at
	}
	return judgement{now: now, policy: p, shelf: shelf, decision: rotation.Decide(now, p, shelf)}
}
