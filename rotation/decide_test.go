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

func lines(d rotation.Decision) (all []string) {
	for _, s := range d.Steps {
		mark := " "
		if s.Done != nil {
			mark = "x"
		}
		line := fmt.Sprintf("%s %s", mark, strings.TrimPrefix(s.ID, d.Period+"/"))
		if s.Waits != "" {
			line += " waits"
		}
		all = append(all, line)
	}
	return all
}

func TestTheOrderOfTheChecklistFollowsFromThePromises(t *testing.T) {
	attached := func(d rotation.ShelfDrive) rotation.ShelfDrive { d.Attached = true; return d }
	ejected := func(at time.Time, d rotation.ShelfDrive) rotation.ShelfDrive { d.EjectedAt = at; return d }
	aHome := drive("A", custody.Onsite, on(13, 17), taken(1, on(19, 22)))
	bAway := drive("B", custody.Offsite, on(13, 16), taken(1, on(12, 22)))
	cNewest := drive("C", custody.Offsite, on(6, 16), taken(1, on(14, 23)))
	cAway := drive("C", custody.Offsite, on(6, 16), taken(1, on(5, 22)))
	homeward := drive("B", custody.Courier, on(20, 15), taken(1, on(12, 22)))
	homeward.Homeward = true
	for name, c := range map[string]struct {
		policy rotation.Policy
		drives []rotation.ShelfDrive
		want   string
	}{
		"two drives": {twoDrives(), []rotation.ShelfDrive{attached(aHome), bAway},
			"x attach/A|x export/A|  eject/A|  depart/A|  deposit/A|  recall/B|  collect/B|  arrive/B"},
		"two drives, ejected": {twoDrives(), []rotation.ShelfDrive{ejected(on(20, 9), aHome), bAway},
			"x attach/A|x export/A|x eject/A|  depart/A|  deposit/A|  recall/B|  collect/B|  arrive/B"},
		"two drives, brought away": {twoDrives(), []rotation.ShelfDrive{drive("A", custody.Offsite, on(20, 14), taken(1, on(19, 22))), bAway},
			"x attach/A|x export/A|x eject/A|x depart/A|x deposit/A|  recall/B|  collect/B|  arrive/B"},
		"two drives, on the way home": {twoDrives(), []rotation.ShelfDrive{drive("A", custody.Offsite, on(20, 14), taken(1, on(19, 22))), homeward},
			"x attach/A|x export/A|x eject/A|x depart/A|x deposit/A|x collect/B|  arrive/B"},
		"three drives": {roundRobin("A", "B", "C"), []rotation.ShelfDrive{attached(aHome), bAway, cAway},
			"x attach/A|x export/A|  recall/C|  collect/C|  arrive/C|  eject/A|  depart/A|  deposit/A"},
		"three drives, the one with the newest comes home": {roundRobin("A", "B", "C"), []rotation.ShelfDrive{attached(aHome), bAway, cNewest},
			"x attach/A|x export/A|  eject/A|  depart/A|  deposit/A|  recall/C|  collect/C|  arrive/C"},
		"a machine that could not be exported": {twoDrives(), []rotation.ShelfDrive{drive("A", custody.Offsite, on(20, 14), taken(1, on(11, 22))), bAway},
			"x attach/A|x export/A|x eject/A|x depart/A|x deposit/A|  recall/B|  collect/B waits|  arrive/B"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(lines(rotation.Decide(on(20, 15), c.policy, shelf(c.drives...))), "|"); got != c.want {
				t.Errorf("the steps are\n%s, not\n%s", got, c.want)
			}
		})
	}
}
