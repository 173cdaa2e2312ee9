package rotation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// on is an hour of a day in November 2026, when the zone of the tests is an hour
// ahead of UTC. 20 November is a Friday.
func on(day, hour int) time.Time { return time.Date(2026, time.November, day, hour, 0, 0, 0, berlin) }

var berlin = mustZone("Europe/Berlin")

func mustZone(name string) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return zone
}

// twoDrives is a policy of drives A and B that change on Fridays.
func twoDrives() rotation.Policy { return roundRobin("A", "B") }

func roundRobin(labels ...string) rotation.Policy {
	p := rotation.Policy{
		Calendar:   rotation.Calendar{Zone: berlin},
		Scheme:     rotation.Scheme{Kind: rotation.SchemeRoundRobin, Weekly: true, SwapDay: time.Friday},
		Locations:  []rotation.Location{{Name: "office"}, {Name: "bank", Offsite: true, LeadTime: 4 * time.Hour}},
		People:     []rotation.Person{{Name: "Ann"}, {Name: "Bob"}},
		Objectives: rotation.Objectives{Offsite: 9 * 24 * time.Hour},
	}
	for _, label := range labels {
		p.Scheme.Sets = append(p.Scheme.Sets, rotation.Set{Name: label, Drives: []string{label}})
	}
	return p
}

// drive is one that lies at a place since a moment.
func drive(label string, state custody.State, since time.Time, points ...rotation.ShelfPoint) rotation.ShelfDrive {
	d := rotation.ShelfDrive{Drive: lifeboat.Drive{ID: "id-" + label, Label: label, CreatedAt: on(1, 12)}, Place: custody.Place{State: state, Location: "office"}, Since: since, Points: points}
	switch state {
	case custody.Offsite, custody.Recall:
		d.Place.Location, d.DepositedAt = "bank", since
	case custody.Courier:
		d.Place.Location = ""
	}
	return d
}

// taken is a point of machine web, verified an hour after it was made.
func taken(sequence uint64, at time.Time) rotation.ShelfPoint {
	return rotation.ShelfPoint{ID: fmt.Sprintf("p%d", sequence), MachineID: "web", RunID: fmt.Sprintf("r%d", sequence), Sequence: sequence, TakenAt: at, CommittedAt: at.Add(time.Minute), VerifiedAt: at.Add(time.Hour)}
}

func shelf(drives ...rotation.ShelfDrive) rotation.Shelf {
	s := rotation.Shelf{Drives: drives, Machines: []rotation.ShelfMachine{{ID: "web", Name: "web"}}, Done: map[string]rotation.DoneStep{}}
	for _, d := range drives {
		for _, p := range d.Points {
			if p.CommittedAt.After(s.LastCommit) {
				s.LastCommit = p.CommittedAt
			}
		}
	}
	return s
}

func labels(picks []rotation.Pick) string {
	var all []string
	for _, p := range picks {
		all = append(all, p.Label)
	}
	return strings.Join(all, " ")
}

func TestDecideNamesTheDriveThatIsWrittenTakenAndBroughtHome(t *testing.T) {
	aHome := drive("A", custody.Onsite, on(13, 17), taken(1, on(16, 22)))
	bAway := drive("B", custody.Offsite, on(13, 17), taken(1, on(12, 22)))
	for name, c := range map[string]struct {
		now                             time.Time
		drives                          []rotation.ShelfDrive
		period, set, write, take, bring string
		missed                          int
	}{
		"in the week":             {on(17, 10), []rotation.ShelfDrive{aHome, bAway}, "2026-W47", "A", "A", "A", "B", 0},
		"on the swap day":         {on(20, 10), []rotation.ShelfDrive{aHome, bAway}, "2026-W47", "A", "A", "A", "B", 0},
		"after midnight":          {on(21, 3), []rotation.ShelfDrive{aHome, bAway}, "2026-W47", "A", "A", "A", "B", 0},
		"a swap that was missed":  {on(23, 10), []rotation.ShelfDrive{aHome, bAway}, "2026-W47", "A", "A", "A", "B", 1},
		"on the way":              {on(20, 10), []rotation.ShelfDrive{drive("A", custody.Courier, on(20, 9), taken(1, on(16, 22))), bAway}, "2026-W47", "A", "", "A", "B", 0},
		"brought away":            {on(20, 15), []rotation.ShelfDrive{drive("A", custody.Offsite, on(20, 14)), bAway}, "2026-W47", "B", "", "", "B", 0},
		"changed":                 {on(20, 18), []rotation.ShelfDrive{drive("A", custody.Offsite, on(20, 14)), drive("B", custody.Onsite, on(20, 17))}, "2026-W47", "B", "B", "", "", 0},
		"the week after":          {on(23, 10), []rotation.ShelfDrive{drive("A", custody.Offsite, on(20, 14)), drive("B", custody.Onsite, on(20, 17))}, "2026-W48", "B", "B", "B", "A", 0},
		"the other never fetched": {on(24, 10), []rotation.ShelfDrive{drive("A", custody.Offsite, on(20, 14)), bAway}, "2026-W47", "B", "", "", "B", 1},
		"one of two is lost":      {on(17, 10), []rotation.ShelfDrive{aHome, drive("B", custody.Lost, on(13, 17))}, "2026-W47", "A", "A", "A", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := rotation.Decide(c.now, twoDrives(), shelf(c.drives...))
			got := []string{d.Period, d.Set, labels(d.Write), labels(d.Take), labels(d.Bring), fmt.Sprint(d.Missed)}
			want := []string{c.period, c.set, c.write, c.take, c.bring, fmt.Sprint(c.missed)}
			if name == "one of two is lost" {
				got[0], want[0], got[5], want[5] = "", "", "", "" // no drive was ever brought away
			}
			if !slices.Equal(got, want) {
				t.Errorf("period, set, write, take, bring, missed are\n%q, not\n%q", got, want)
			}
		})
	}
}
