package lifeboat_test

import (
	"slices"
	"testing"
	"time"

	"lifeboat"
)

func TestNewestGoesByCommitsAndForCopiesByTheirMoment(t *testing.T) {
	const own, copied = "", "another drive"
	at := func(sequence uint64, hour int, from string) lifeboat.RestorePoint {
		return lifeboat.RestorePoint{Sequence: sequence, TakenAt: time.Date(2026, 11, 20, hour, 0, 0, 0, time.UTC), CopiedFrom: from}
	}
	for name, c := range map[string]struct {
		points []lifeboat.RestorePoint
		want   uint64
	}{
		"only exports":                      {[]lifeboat.RestorePoint{at(1, 1, own), at(2, 2, own)}, 2},
		"a clock that went back":            {[]lifeboat.RestorePoint{at(1, 9, own), at(2, 2, own)}, 2},
		"an older copy":                     {[]lifeboat.RestorePoint{at(1, 3, own), at(2, 2, copied)}, 1},
		"a newer copy":                      {[]lifeboat.RestorePoint{at(1, 3, own), at(2, 4, copied)}, 2},
		"copies in no order":                {[]lifeboat.RestorePoint{at(1, 4, copied), at(2, 5, copied), at(3, 3, copied)}, 2},
		"copies of one moment":              {[]lifeboat.RestorePoint{at(1, 4, copied), at(2, 4, copied)}, 2},
		"an export after the copy":          {[]lifeboat.RestorePoint{at(1, 4, copied), at(2, 5, own)}, 2},
		"an export after it, wrong clock":   {[]lifeboat.RestorePoint{at(1, 9, copied), at(2, 5, own)}, 2},
		"each newer than another, by clock": {[]lifeboat.RestorePoint{at(1, 20, copied), at(2, 10, own), at(3, 15, copied)}, 3},
	} {
		for range 2 { // in whatever order
			if got := lifeboat.Newest(c.points)[""]; got.Sequence != c.want {
				t.Errorf("%s: %d, want %d", name, got.Sequence, c.want)
			}
			slices.Reverse(c.points)
		}
	}
}
