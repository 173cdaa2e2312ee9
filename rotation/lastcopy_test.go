package rotation

import (
	"slices"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/custody"
)

func TestOnlyTheLastGoodCopyNeedsItsMachinesName(t *testing.T) {
	at := time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC)
	point := func(id string, sequence uint64, verified bool) ShelfPoint {
		p := ShelfPoint{ID: id, MachineID: "web", Sequence: sequence, TakenAt: at.AddDate(0, 0, int(sequence))}
		if verified {
			p.VerifiedAt = p.TakenAt
		}
		return p
	}
	drive := func(id string, state custody.State, points ...ShelfPoint) ShelfDrive {
		return ShelfDrive{Drive: lifeboat.Drive{ID: id}, Place: custody.Place{State: state}, Points: points}
	}
	good, newer, fresh := point("good", 1, true), point("newer", 2, true), point("fresh", 3, false)
	for name, c := range map[string]struct {
		drives []ShelfDrive
		ids    []string
		last   bool
	}{
		"the only one":                  {[]ShelfDrive{drive("A", custody.Onsite, good)}, []string{"good"}, true},
		"only unverified ones stay":     {[]ShelfDrive{drive("A", custody.Onsite, good, fresh)}, []string{"good"}, true},
		"a verified one stays":          {[]ShelfDrive{drive("A", custody.Onsite, good, newer, fresh)}, []string{"newer", "fresh"}, false},
		"the unverified one goes":       {[]ShelfDrive{drive("A", custody.Onsite, good, fresh)}, []string{"fresh"}, false},
		"nothing is verified":           {[]ShelfDrive{drive("A", custody.Onsite, fresh, point("p", 4, false))}, []string{"p"}, false},
		"nothing is verified, all go":   {[]ShelfDrive{drive("A", custody.Onsite, fresh, point("p", 4, false))}, []string{"p", "fresh"}, true},
		"a good one is offsite":         {[]ShelfDrive{drive("A", custody.Onsite, newer), drive("B", custody.Offsite, good)}, []string{"newer"}, false},
		"a good one was lost":           {[]ShelfDrive{drive("A", custody.Onsite, newer), drive("B", custody.Lost, good)}, []string{"newer"}, true},
		"an unverified one is offsite":  {[]ShelfDrive{drive("A", custody.Onsite, newer), drive("B", custody.Offsite, fresh)}, []string{"newer"}, true},
		"one drive is listed twice":     {[]ShelfDrive{drive("A", custody.Onsite, newer), drive("B", custody.Offsite, good), drive("B", custody.Offsite, good)}, []string{"newer"}, true},
		"unverified here, good offsite": {[]ShelfDrive{drive("A", custody.Onsite, fresh), drive("B", custody.Offsite, good)}, []string{"fresh"}, false},
		"one that is not on it":         {[]ShelfDrive{drive("A", custody.Onsite, fresh), drive("B", custody.Offsite, good)}, []string{"good"}, false},
	} {
		want := []string(nil)
		if c.last {
			want = []string{"web"}
		}
		if got := Loses(Shelf{Drives: c.drives}, "A", c.ids); !slices.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
		// The same points are there afterwards: nothing was changed in the shelf.
		if len(c.drives[0].Points) == 0 {
			t.Errorf("%s: the shelf was changed", name)
		}
	}
}
