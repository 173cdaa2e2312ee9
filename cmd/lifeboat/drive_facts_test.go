package main

import (
	"testing"
	"time"

	"lifeboat/blockdev"
	"lifeboat/catalog"
	"lifeboat/rotation"
)

func TestADriveIsFullWhenItsOwnPastSaysSo(t *testing.T) {
	at := time.Date(2026, 11, 2, 17, 0, 0, 0, time.UTC)
	weeks := func(free ...int64) (all []rotation.Fill) {
		for i, f := range free {
			all = append(all, rotation.Fill{At: at.AddDate(0, 0, 7*i), FreeBytes: f})
		}
		return all
	}
	for name, c := range map[string]struct {
		fills []rotation.Fill
		want  time.Time
	}{
		"ten a week, thirty left": {weeks(60, 50, 40, 30), at.AddDate(0, 0, 42)},
		"two are enough":          {weeks(20, 10), at.AddDate(0, 0, 14)},
		"one is not":              {weeks(20), time.Time{}},
		"it gets emptier":         {weeks(10, 20, 30), time.Time{}},
		"it stays":                {weeks(10, 10), time.Time{}},
		"full in a century":       {weeks(1<<40, 1<<40-1), time.Time{}},
		"all in one day":          {[]rotation.Fill{{At: at, FreeBytes: 20}, {At: at.Add(time.Hour), FreeBytes: 10}}, time.Time{}},
		"all at one moment":       {[]rotation.Fill{{At: at, FreeBytes: 20}, {At: at, FreeBytes: 10}}, time.Time{}},
		"nothing known":           {nil, time.Time{}},
		"full by now":             {weeks(10, 0), at.AddDate(0, 0, 7)},
	} {
		got, known := fullIn(c.fills)
		if known != !c.want.IsZero() || known && got.Sub(c.want).Abs() > time.Minute {
			t.Errorf("%s: %v %v, want %v", name, got, known, c.want)
		}
	}
}

func TestADriveIsSlowerThanItWas(t *testing.T) {
	before := []catalog.DriveFact{{ReadBytesPerSecond: 100}, {ReadBytesPerSecond: 120}, {}}
	for now, want := range map[int64]bool{0: false, 59: true, 60: false, 200: false} {
		if _, slow := slower(before, now); slow != want {
			t.Errorf("%d: %v", now, slow)
		}
	}
}

func TestADriveThatIsAwayIsSaidToBeWhereTheLedgerHasIt(t *testing.T) {
	now := time.Date(2026, 11, 2, 17, 0, 0, 0, time.UTC)
	k := knownDrive{PendingKeys: 2, FullAt: now.AddDate(0, 0, 20), Last: &catalog.DriveFact{Health: string(blockdev.HealthFailing), HealthWhy: "3 sectors cannot be read"}}
	if got, want := k.remarks(now), "SMART: 3 sectors cannot be read; full in week 47 of 2026; 2 key changes pending"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := k.away("2 h ago"); got != "not attached, seen 2 h ago" {
		t.Error(got)
	}
}
