package rotation

import (
	"slices"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/custody"
)

func TestWhatOfADriveStaysUntouched(t *testing.T) {
	day := time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC)
	point := func(id string, sequence uint64, days int, verified bool) ShelfPoint {
		p := ShelfPoint{ID: id, MachineID: "web", Sequence: sequence, TakenAt: day.AddDate(0, 0, days)}
		if verified {
			p.VerifiedAt = p.TakenAt
		}
		return p
	}
	together := func(p ShelfPoint, drives ...string) ShelfPoint {
		p.Together = drives
		return p
	}
	drive := func(id string, state custody.State, suspect string, points ...ShelfPoint) ShelfDrive {
		return ShelfDrive{Drive: lifeboat.Drive{ID: id}, Place: custody.Place{State: state}, Suspect: suspect, Points: points}
	}
	copied := point("copied", 9, -30, true)
	copied.Copied = true
	for name, c := range map[string]struct {
		here []ShelfPoint
		away []ShelfDrive
		want []string
	}{
		"the only drive":               {[]ShelfPoint{point("old", 1, 0, true), point("new", 2, 1, true)}, nil, []string{"new"}},
		"newer ones are not verified":  {[]ShelfPoint{point("old", 1, 0, true), point("new", 2, 1, false)}, nil, []string{"old"}},
		"nothing was ever verified":    {[]ShelfPoint{point("old", 1, 0, false), point("new", 2, 1, false)}, nil, []string{"new"}},
		"the clock went back":          {[]ShelfPoint{point("old", 1, 5, true), point("new", 2, 1, true)}, nil, []string{"new"}},
		"an older point was copied":    {[]ShelfPoint{point("new", 2, 1, true), copied}, nil, []string{"new"}},
		"it is elsewhere as well":      {[]ShelfPoint{point("new", 2, 1, true)}, []ShelfDrive{drive("B", custody.Offsite, "", point("new", 7, 1, true))}, nil},
		"a newer one is elsewhere":     {[]ShelfPoint{point("new", 2, 1, true)}, []ShelfDrive{drive("B", custody.Offsite, "", point("newer", 7, 2, true))}, nil},
		"only an older one is":         {[]ShelfPoint{point("new", 2, 1, true)}, []ShelfDrive{drive("B", custody.Offsite, "", point("old", 7, 0, true))}, []string{"new"}},
		"that was never read":          {[]ShelfPoint{point("new", 2, 1, true)}, []ShelfDrive{drive("B", custody.Offsite, "", point("new", 7, 1, false))}, []string{"new"}},
		"on a lost drive":              {[]ShelfPoint{point("new", 2, 1, true)}, []ShelfDrive{drive("B", custody.Lost, "", point("new", 7, 1, true))}, []string{"new"}},
		"on one that is put aside":     {[]ShelfPoint{point("new", 2, 1, true)}, []ShelfDrive{drive("B", custody.Quarantined, "", point("new", 7, 1, true))}, []string{"new"}},
		"on a retired one":             {[]ShelfPoint{point("new", 2, 1, true)}, []ShelfDrive{drive("B", custody.Retired, "", point("new", 7, 1, true))}, []string{"new"}},
		"on one that is not believed":  {[]ShelfPoint{point("new", 2, 1, true)}, []ShelfDrive{drive("B", custody.Onsite, "forked", point("new", 7, 1, true))}, []string{"new"}},
		"whole only with this drive":   {[]ShelfPoint{point("new", 2, 1, true)}, []ShelfDrive{drive("B", custody.Offsite, "", together(point("newer", 7, 2, true), "A", "B"))}, []string{"new"}},
		"whole with a lost drive":      {[]ShelfPoint{point("new", 2, 1, true)}, []ShelfDrive{drive("B", custody.Offsite, "", together(point("newer", 7, 2, true), "B", "C")), drive("C", custody.Lost, "")}, []string{"new"}},
		"not verified, and elsewhere":  {[]ShelfPoint{point("new", 2, 1, false)}, []ShelfDrive{drive("B", custody.Offsite, "", point("old", 7, 0, true))}, nil},
		"not verified, and lost there": {[]ShelfPoint{point("new", 2, 1, false)}, []ShelfDrive{drive("B", custody.Lost, "", point("old", 7, 0, true))}, []string{"new"}},
	} {
		s := Shelf{Drives: append([]ShelfDrive{drive("A", custody.Onsite, "", c.here...)}, c.away...)}
		if got := Untouched(s, "A"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}
