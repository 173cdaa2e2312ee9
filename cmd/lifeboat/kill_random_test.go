package main

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// killDisk is the size of the disk that is exported while it is killed.
const killDisk = 48 << 20

// killable are the commands that write to a drive or read all of it, for a place
// and a second drive of the same site.
func killable(p *place, second string) map[string][]string {
	return map[string][]string{
		"export":     {"export", "--file", p.disk, "--as", "big", "--drive", p.drive},
		"verify":     {"verify", "--drive", p.drive},
		"key rotate": {"key", "rotate", "--drive", p.drive, "--yes"},
		"prune":      {"prune", p.drive, "--yes"},
		"copy":       {"copy", "--latest", "--from", p.drive, "--to", second},
	}
}

// Kill at random moments: no half point, nothing lost, and the drive free again.
func TestWhateverIsKilledLeavesNoHalfPoint(t *testing.T) {
	t.Parallel()
	rounds := 10
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		rounds = 200
	}
	p := newPlace(t, "", killDisk)
	second := t.TempDir()
	p.must("drive", "init", second, "--label", "S"+newID()[:6])
	p.export(p.before, "before").mustEnd(0)
	works := killable(p, second)
	// A work that is killed is an export every other time; a command that this
	// program does not have is left out, and said.
	names := []string{"export"}
	takes := map[string]time.Duration{}
	for _, name := range []string{"export", "verify", "key rotate", "prune", "copy"} {
		if help := p.must(append(strings.Fields(name), "--help")...); !strings.Contains(help.stdout, "lifeboat "+name) {
			t.Logf("this program has no command %s", name)
			continue
		}
		began := time.Now()
		p.must(works[name]...)
		takes[name] = time.Since(began)
		if name != "export" {
			names = append(names, "export", name)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, whole runs take %v", seed, takes)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		name := names[round%len(names)]
		if name == "export" {
			if err := writeRandom(p.disk, killDisk, itoa(int(seed))+itoa(round)); err != nil {
				t.Fatal(err)
			}
		}
		p.killAndLook(name, works[name], time.Duration(random.Int64N(int64(takes[name]))))
		if name == "copy" {
			p.must("verify", "--drive", second)
		}
		if round%5 == 4 {
			p.export(p.disk, "big").mustEnd(0)
			p.mustRestore("big", p.disk)
		}
	}
	p.mustRestore("before", p.before)
	if takes["copy"] > 0 {
		p.must(works["copy"]...)
		on := *p
		on.drive = second
		on.mustRestore("before", p.before)
	}
}

// killAndLook kills a work after a while, and looks at the drive: all points
// there were are whole, and only an export may have added one.
func (p *place) killAndLook(name string, args []string, moment time.Duration) {
	p.t.Helper()
	before := len(p.points())
	cmd := p.command(args...)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	time.AfterFunc(moment, func() { cmd.Process.Kill() })
	ended := p.wait(cmd)
	if ended.code != 0 && ended.code != -1 {
		p.t.Fatalf("%s ended by itself with %d\n%s", name, ended.code, ended.stderr)
	}
	p.must("verify", "--drive", p.drive)
	added := len(p.points()) - before
	if added < 0 || added > 0 && name != "export" || added > 1 || name == "export" && ended.code == 0 && added != 1 {
		p.t.Fatalf("%s, killed after %v: %d points became %d", name, moment, before, before+added)
	}
}
