package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// killDisk is the size of the disk that is exported while it is killed.
const killDisk = 48 << 20

// killable is a command that writes to a drive or reads all of it.
type killable struct {
	name string
	args []string
	// before makes something for the command to do, if it needs that.
	before func()
	// after ends what a killed command left half done, where that is for a person
	// to do before the drive is whole again.
	after []string
}

// killables are these commands for a place and a second drive of the same site.
func killables(p *place, second string) []killable {
	return []killable{
		{name: "export", args: []string{"export", "--file", p.disk, "--as", "big", "--drive", p.drive}, before: func() { p.newDisk() }},
		{name: "verify", args: []string{"verify", "--drive", p.drive, "--restart"}},
		{name: "key rotate", args: []string{"key", "rotate", "--drive", p.drive, "--yes"}},
		{name: "key rotate --all-data", args: []string{"key", "rotate", "--all-data", "--only-copy", "--drive", p.drive, "--yes"}},
		{name: "prune", args: []string{"prune", p.drive, "--rewrite-below", "100", "--yes"}, before: func() { p.exportAndForget() }},
		{name: "copy", args: []string{"copy", "--latest", "--from", p.drive, "--to", second}},
		{name: "repair", args: []string{"repair", p.drive}, before: func() { p.damage() }, after: []string{"repair", p.drive}},
	}
}

// newDisk fills the disk that is exported with other bytes.
func (p *place) newDisk() {
	p.t.Helper()
	if err := writeRandom(p.disk, killDisk, newID()); err != nil {
		p.t.Fatal(err)
	}
}

// exportAndForget leaves a pack on the drive of which one half is needed.
func (p *place) exportAndForget() {
	p.t.Helper()
	disk := filepath.Join(p.t.TempDir(), "half.img")
	if err := writeRandom(disk, 8<<20, newID()); err != nil {
		p.t.Fatal(err)
	}
	point, err := jsonAt([]byte(p.export(disk, "half").mustEnd(0).stdout), "result:machines.0.point.id")
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.Truncate(disk, 4<<20); err != nil {
		p.t.Fatal(err)
	}
	p.export(disk, "half").mustEnd(0)
	p.must("point", "forget", strings.Trim(point, `"`), "--yes", "--drive", p.drive)
}

// damage flips a byte in a third of the packs, which parity heals.
func (p *place) damage() {
	p.t.Helper()
	packs, err := filepath.Glob(filepath.Join(p.drive, "lifeboat/store/packs/*/*.data"))
	if err != nil || len(packs) == 0 {
		p.t.Fatalf("no pack to damage: %v", err)
	}
	for i, name := range packs {
		if i%3 == 0 {
			p.flip(name)
		}
	}
}

// flip changes the byte in the middle of a file.
func (p *place) flip(name string) {
	p.t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		p.t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], info.Size()/2); err != nil {
		p.t.Fatal(err)
	}
	b[0] ^= 0x5a
	if _, err := f.WriteAt(b[:], info.Size()/2); err != nil {
		p.t.Fatal(err)
	}
}

// Kill at random moments: no half point, nothing lost, and the drive free again.
func TestWhateverIsKilledLeavesNoHalfPoint(t *testing.T) {
	t.Parallel()
	rounds := 12
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		rounds = 200
	}
	p := newPlace(t, "", killDisk)
	second := t.TempDir()
	p.must("drive", "init", second, "--label", "S"+newID()[:6])
	p.export(p.before, "before").mustEnd(0)
	// A work that is killed is an export every other time.
	var order []killable
	takes := map[string]time.Duration{}
	works := killables(p, second)
	for _, w := range works {
		if w.before != nil {
			w.before()
		}
		began := time.Now()
		p.must(w.args...)
		takes[w.name] = time.Since(began)
		if w.name != "export" {
			order = append(order, works[0], w)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, whole runs take %v", seed, takes)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		w := order[round%len(order)]
		p.killAndLook(w, time.Duration(random.Int64N(int64(takes[w.name]))))
		if w.name == "copy" {
			p.must("verify", "--drive", second)
		}
		if round%6 == 5 {
			p.export(p.disk, "big").mustEnd(0)
			p.mustRestore("big", p.disk)
		}
	}
	p.mustRestore("before", p.before)
	p.must("copy", "--latest", "--from", p.drive, "--to", second)
	on := *p
	on.drive = second
	on.mustRestore("before", p.before)
	on.mustRestore("big", p.disk)
}

// killAndLook kills a work after a while, and looks at the drive: all points
// there were are whole, and only an export may have added one.
func (p *place) killAndLook(w killable, moment time.Duration) {
	p.t.Helper()
	if w.before != nil {
		w.before()
	}
	before := len(p.points())
	cmd := p.command(w.args...)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	time.AfterFunc(moment, func() { cmd.Process.Kill() })
	ended := p.wait(cmd)
	if ended.code != 0 && ended.code != -1 {
		p.t.Fatalf("%s ended by itself with %d\n%s", w.name, ended.code, ended.stderr)
	}
	if w.after != nil {
		p.must(w.after...)
	}
	p.must("verify", "--drive", p.drive)
	added := len(p.points()) - before
	if added < 0 || added > 0 && w.name != "export" || added > 1 || w.name == "export" && ended.code == 0 && added != 1 {
		p.t.Fatalf("%s, killed after %v: %d points became %d", w.name, moment, before, before+added)
	}
}
