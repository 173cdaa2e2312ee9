package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"lifeboat/fixtures/medium"
)

// rules puts a rotation into site.yaml that keeps so many last points of each
// machine on each drive; 0 takes it out again.
func (p *place) rules(last int) {
	p.t.Helper()
	file := filepath.Join(p.state, "site.yaml")
	plain := file + ".plain"
	text, err := os.ReadFile(plain)
	if os.IsNotExist(err) {
		if text, err = os.ReadFile(file); err == nil {
			err = os.WriteFile(plain, text, 0o600)
		}
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if last > 0 {
		text = fmt.Appendf(text, `rotation:
  scheme: {kind: round-robin, sets: [one, two], change: weekly}
  people: [{name: Ute}]
  locations: [{name: office}, {name: bank, offsite: true}]
  wrongDrive: export
  retention: {last: %d}
`, last)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// verdicts are the ids of the points that stay and of those that may go.
func (p *place) verdicts() (stay, goes []string) {
	p.t.Helper()
	var v driveVerdicts
	if err := json.Unmarshal([]byte(p.must("point", "forget", "--dry-run", "--drive", p.drive, "--json").stdout), &v); err != nil {
		p.t.Fatal(err)
	}
	for _, one := range v.Points {
		if one.Keep {
			stay = append(stay, one.Point)
		}
	}
	return stay, v.goes()
}

func (p *place) ids() (ids []string) {
	p.t.Helper()
	var list struct{ Points []struct{ ID string } }
	if err := json.Unmarshal([]byte(p.must("point", "list", "--drive", p.drive, "--json").stdout), &list); err != nil {
		p.t.Fatal(err)
	}
	for _, one := range list.Points {
		ids = append(ids, one.ID)
	}
	return ids
}

// An export forgets first what the rules let go. Killed at any moment of that,
// nothing is gone that had to stay, and what is there is whole.
func TestWhoeverIsKilledWhileForgettingKeepsWhatHadToStay(t *testing.T) {
	t.Parallel()
	rounds := 4
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		rounds = 100
	}
	p := newPlace(t, "", 1<<20)
	p.must("verify", p.drive)
	p.rules(1)
	began := time.Now()
	p.export(p.before, "before").mustEnd(0)
	takes := time.Since(began)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, an export takes %v", seed, takes)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		p.rules(0)
		p.export(p.before, "before").mustEnd(0)
		p.export(p.before, "before").mustEnd(0)
		p.rules(1)
		stay, goes := p.verdicts()
		if len(goes) == 0 || len(stay) < 2 {
			t.Fatalf("round %d: %d stay and %d go", round, len(stay), len(goes))
		}
		cmd := p.command("export", "--file", p.before, "--as", "before", "--drive", p.drive)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		moment := time.Duration(random.Int64N(int64(takes)))
		time.AfterFunc(moment, func() { cmd.Process.Kill() })
		p.wait(cmd)
		there := p.ids()
		for _, id := range stay {
			if !slices.Contains(there, id) {
				t.Fatalf("round %d, killed after %v: point %s is gone, and had to stay", round, moment, id)
			}
		}
		p.must("verify", p.drive)
	}
	p.mustRestore("before", p.before)
}

// A drive that is full to its reserve takes the next export all the same: it
// forgets, and is pruned, before the export begins.
func TestAFullDriveForgetsAndTakesTheNextExport(t *testing.T) {
	t.Parallel()
	m := medium.New(t, medium.Ext4, 320<<20)
	if err := os.Remove(m.Path + "/lost+found"); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, m.Path, 40<<20)
	night := func() said {
		if err := writeRandom(p.disk, 40<<20, newID()); err != nil {
			t.Fatal(err)
		}
		return p.export(p.disk, "big")
	}
	nights := 0
	for night().code == 0 {
		if nights++; nights > 12 {
			t.Fatal("the drive does not fill up")
		}
	}
	p.must("verify", "--drive", m.Path)
	stay := len(p.ids())
	p.rules(1)
	said := night().mustEnd(0)
	if got := len(p.ids()); got > stay {
		t.Errorf("%d points were there, and %d are\n%s", stay, got, said.stderr)
	}
	p.must("verify", "--drive", m.Path)
	p.mustRestore("big", p.disk)
	p.mustRestore("before", p.before)
}
