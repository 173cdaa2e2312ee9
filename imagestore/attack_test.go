package imagestore

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// victim is a drive that somebody without a key has in hand, another drive of
// the same site, the victim as it was a commit ago, and what is on it.
type victim struct {
	drive             *baddrive.Drive
	dir, older, other durable.Dir
	// contents are the disk of each point by its id.
	contents    map[string][]byte
	fingerprint string
	head        Head
}

func newVictim(t *testing.T) victim {
	t.Helper()
	base := newDrive(t)
	v := victim{contents: map[string][]byte{}}
	capture := func(seed uint64) {
		s := openStore(t, base.Dir(), Write)
		data := randomDisk(seed, 1<<20)
		p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
		if seed == 1 {
			if err := s.remember(format.Mark{{Pack: format.ID{9}, Offset: 64}}); err != nil {
				t.Fatal(err)
			}
		}
		v.contents[p.ID] = data
		v.head, v.fingerprint = s.Head(), s.Fingerprint()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	capture(1)
	capture(2)
	v.older = base.Clone(1).Dir()
	capture(3)
	v.drive, v.dir = base, base.Dir()

	other := baddrive.New(2, baddrive.Options{})
	err := Create(t.Context(), other.Dir(), CreateOptions{Drive: lifeboat.Drive{ID: "fedcba9876543210fedcba9876543210", Label: "C1"}, Site: testSite(),
		Slots: []NewSlot{{Name: "control machine", Recipient: testIdentity().Recipient()}}, Program: "test", Now: testTime})
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, other.Dir(), Write)
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(4, 1<<20)}}))
	if err := s.remember(format.Mark{{Pack: format.ID{9}, Offset: 64}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	v.other = other.Dir()
	return v
}

// verdict is how an attack shows: "" if it does not show at all.
func (v victim) verdict(t *testing.T, dir durable.Dir) string {
	t.Helper()
	s, err := openWith(dir, Read)
	if err != nil {
		var p *lifeboat.Problem
		if !errors.As(err, &p) {
			t.Errorf("no words for an operator: %v", err)
		}
		return "it does not open"
	}
	defer s.Close()
	points, faults, err := s.Points(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range points {
		want, known := v.contents[p.ID]
		if !known {
			if s.Fingerprint() == v.fingerprint {
				t.Errorf("a point that nobody made is listed: %s", p.ID)
			}
			continue
		}
		// Whatever was done: the right bytes, or an error.
		target := &memoryTarget{data: make([]byte, len(want))}
		err := s.Restore(t.Context(), p.ID, "disk0", target, RestoreOptions{})
		if err == nil && !bytes.Equal(target.data, want) {
			t.Errorf("point %s came back with wrong bytes", p.ID)
		}
		if err != nil && !errors.Is(err, lifeboat.ErrDamaged) {
			t.Errorf("point %s: %v", p.ID, err)
		}
	}
	report, err := s.Verify(t.Context(), VerifyOptions{})
	stray, strayErr := s.StraySlots(t.Context())
	switch {
	case s.Fingerprint() != v.fingerprint:
		return "its key is another"
	case s.Head() != v.head:
		return "its last commit is another"
	case len(faults) > 0 || len(report.Faults) > 0 || err != nil:
		return "damage"
	case len(stray) > 0 || strayErr != nil:
		return "a stray key slot"
	case len(points) != len(v.contents):
		t.Errorf("%d points of %d, and nobody says why", len(points), len(v.contents))
	}
	return ""
}

// theirs lists the files of a kind on a drive: whole names, sorted.
func theirs(t *testing.T, dir durable.Dir, folder, suffix string) []string {
	t.Helper()
	var names []string
	for _, name := range filesOf(t, dir, ".") {
		if strings.HasPrefix(name, folder) && strings.HasSuffix(name, suffix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		t.Fatalf("no file %s*%s", folder, suffix)
	}
	return names
}

// put writes one file over another, as somebody with a file manager would.
func put(t *testing.T, to durable.Dir, name string, from durable.Dir, source string) {
	t.Helper()
	if err := durable.CopyFile(to, name, from, source); err != nil {
		t.Fatal(err)
	}
}

// kinds are where files of each kind lie.
var kinds = map[string][2]string{
	"superblock": {"store", ".a"}, "slot": {"slots/", ".a"}, "data pack": {"packs/", ".data"}, "tree pack": {"packs/", ".tree"},
	"run": {"index/", ".run"}, "point": {"points/", ".a"}, "head": {"heads/", ".a"}, "mark": {"marks/", ".mark"},
}

// both names a file and its second copy, if there is one.
func both(name string) []string {
	if stem, ok := strings.CutSuffix(name, copyA); ok {
		return []string{name, stem + copyB}
	}
	return []string{name}
}

func TestNobodyWithoutAKeyChangesADriveUnseen(t *testing.T) {
	base := newVictim(t)
	if got := base.verdict(t, base.dir); got != "" {
		t.Fatalf("nothing was done to it, and %s", got)
	}
	type attack struct {
		do   func(t *testing.T, v victim)
		want []string
	}
	attacks := map[string]attack{}
	for kind, at := range kinds {
		// What a mark says is lost with it, and no point is.
		want := []string{"damage", "its last commit is another"}
		switch kind {
		case "superblock", "slot":
			want = []string{"it does not open"}
		case "mark", "run":
			want = []string{"", "damage"}
		}
		attacks["a "+kind+" of another drive in its place"] = attack{func(t *testing.T, v victim) {
			mine, other := theirs(t, v.dir, at[0], at[1]), theirs(t, v.other, at[0], at[1])
			for i, name := range both(mine[len(mine)-1]) {
				put(t, v.dir, name, v.other, both(other[0])[i])
			}
		}, want}
		attacks["the newest "+kind+" removed"] = attack{func(t *testing.T, v victim) {
			mine := theirs(t, v.dir, at[0], at[1])
			for _, name := range both(mine[len(mine)-1]) {
				if err := v.dir.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}, want}
		if kind == "superblock" || kind == "slot" || kind == "mark" {
			continue // there is one
		}
		attacks["a "+kind+" under the name of another"] = attack{func(t *testing.T, v victim) {
			mine := theirs(t, v.dir, at[0], at[1])
			for i, name := range both(mine[len(mine)-1]) {
				put(t, v.dir, name, v.dir, both(mine[0])[i])
			}
		}, want}
	}
	attacks["the newest head and point taken away"] = attack{func(t *testing.T, v victim) {
		for _, at := range [][2]string{kinds["head"], kinds["point"]} {
			mine := theirs(t, v.dir, at[0], at[1])
			for _, name := range both(mine[len(mine)-1]) {
				v.dir.Remove(name)
			}
		}
	}, []string{"its last commit is another"}}
	attacks["the drive of a night before, whole"] = attack{func(t *testing.T, v victim) {
		replace(t, v.dir, v.older)
	}, []string{"its last commit is another"}}
	attacks["another store with its id, that opens for its owner"] = attack{func(t *testing.T, v victim) {
		forged := baddrive.New(3, baddrive.Options{})
		createStore(t, forged.Dir()) // to the owner's public key, which is no secret
		replace(t, v.dir, forged.Dir())
	}, []string{"its key is another"}}
	attacks["a slot of the attacker's own, for its owner"] = attack{func(t *testing.T, v victim) {
		forged := baddrive.New(3, baddrive.Options{})
		createStore(t, forged.Dir())
		slot := theirs(t, forged.Dir(), "slots/", ".a")[0]
		put(t, v.dir, "slots/0000000000000000.a", forged.Dir(), slot)
	}, []string{"a stray key slot"}}
	attacks["packs and an index run of a forged store added"] = attack{func(t *testing.T, v victim) {
		forged := baddrive.New(3, baddrive.Options{})
		createStore(t, forged.Dir())
		s := openStore(t, forged.Dir(), Write)
		mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(9, 1<<20)}}))
		s.Close()
		for _, folder := range []string{"packs/", "index/", "points/"} {
			for _, name := range theirs(t, forged.Dir(), folder, "") {
				put(t, v.dir, name, forged.Dir(), name)
			}
		}
	}, []string{"", "damage"}}
	attacks["a slot under another name"] = attack{func(t *testing.T, v victim) {
		slot := theirs(t, v.dir, "slots/", ".a")[0]
		put(t, v.dir, "slots/ffffffffffffffff.a", v.dir, slot)
	}, []string{""}} // a name is a hint; it opens what it opened
	attacks["names that lead nowhere"] = attack{func(t *testing.T, v victim) {
		point := theirs(t, v.dir, "points/", ".a")[0]
		for _, name := range []string{"points/...a", "points/0000000000000009-.a", "heads/ffffffffffffffffff.a", "index/x.run", "packs/zz.data", "marks/.mark", "slots/~.a"} {
			put(t, v.dir, name, v.dir, point)
		}
	}, []string{""}} // they are not looked at

	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			v := base
			v.dir = base.drive.Clone(5).Dir()
			a.do(t, v)
			if got := v.verdict(t, v.dir); !slices.Contains(a.want, got) {
				t.Errorf("it shows as %q, want one of %q", got, a.want)
			}
			// A writer neither makes it worse nor believes more.
			if s, err := openWith(v.dir, Write); err == nil {
				s.Close()
				v.verdict(t, v.dir)
			}
		})
	}
}

// replace makes a folder what another one is.
func replace(t *testing.T, to, from durable.Dir) {
	t.Helper()
	for _, name := range filesOf(t, to, ".") {
		if err := to.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range filesOf(t, from, ".") {
		put(t, to, name, from, name)
	}
}

// A drive in a folder of this computer, whose entries lead out of it.
func TestLinksOnADriveLeadNowhere(t *testing.T) {
	for _, what := range []string{"points", "slots", "packs/ab", "a pack", "a point"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			path, outside := t.TempDir(), t.TempDir()
			dir, err := durable.OpenOS(path, false)
			if err != nil {
				t.Fatal(err)
			}
			createStore(t, dir)
			s := openStore(t, dir, Write)
			mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}}))
			s.Close()
			target := map[string]string{"a pack": "packs/*/*.data", "a point": "points/*.a", "a superblock": "store.a"}[what]
			if target == "" {
				target = what
			}
			found, err := filepath.Glob(filepath.Join(path, target))
			if err != nil || len(found) == 0 {
				t.Fatal("nothing to replace", err)
			}
			// What it was lies outside, so that following the link would work.
			moved := filepath.Join(outside, "moved")
			if err := os.Rename(found[0], moved); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(moved, found[0]); err != nil {
				t.Fatal(err)
			}
			before := listing(t, outside)
			for _, mode := range []Mode{Read, Write, Alone} {
				s, err := openWith(dir, mode)
				if err != nil {
					continue
				}
				if mode != Read {
					s.Capture(t.Context(), testMachine("m2", map[string]Source{"disk0": &memoryDisk{data: randomDisk(2, 1<<20)}}))
				}
				if mode == Alone {
					s.Rotate(t.Context(), RotateOptions{})
				}
				s.Close()
			}
			if after := listing(t, outside); after != before {
				t.Errorf("outside of the drive there was\n%s\nand now there is\n%s", before, after)
			}
		})
	}
}

// listing names the files below a folder with their sizes and times.
func listing(t *testing.T, folder string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			all.WriteString(path + " " + info.ModTime().String() + " " + info.Mode().String() + "\n")
		} else if err == nil {
			all.WriteString(path + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// A sparse file costs nobody anything, and may be of any kind.
func TestHugeFilesOfAnyKindTakeNoMemory(t *testing.T) {
	path := t.TempDir()
	dir, err := durable.OpenOS(path, false)
	if err != nil {
		t.Fatal(err)
	}
	createStore(t, dir)
	s := openStore(t, dir, Write)
	data := randomDisk(3, 1<<20)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	if _, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.remember(format.Mark{{Pack: format.ID{9}, Offset: 64}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	const huge = 1 << 40
	// One copy of each kind grows, and one more of each kind appears.
	for _, name := range filesOf(t, dir, ".") {
		if strings.HasPrefix(name, "lock.") || strings.HasSuffix(name, copyB) || strings.HasPrefix(name, "packs/") || strings.HasPrefix(name, "index/") {
			continue
		}
		if err := os.Truncate(filepath.Join(path, name), huge); err != nil {
			t.Skipf("this file system has no sparse files of %d bytes: %v", int64(huge), err)
		}
	}
	id := strings.Repeat("ab", 32)
	for kind, name := range map[format.Kind]string{
		format.KindSlot: "slots/0000000000000000.a", format.KindPoint: "points/00000000000000ff-" + id[:32] + ".a", format.KindHead: "heads/00000000000000ff.a",
		format.KindMark: "marks/" + id + ".mark", format.KindChecks: "checks/00000000000000ff.a", format.KindRun: "index/" + id + ".run",
		format.KindDataPack: "packs/ab/" + id + ".data", format.KindTreePack: "packs/ab/" + id + ".tree", format.KindParity: "packs/ab/" + id + ".data.par",
	} {
		h := format.Header{Kind: kind, Generation: 1, Drive: s.driveID, File: format.ID(bytes.Repeat([]byte{0xab}, 32))}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(path, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		// All ones: the largest count in every field.
		makeSparse(t, filepath.Join(path, name), append(h.Append(nil), bytes.Repeat([]byte{255}, 4096)...), bytes.Repeat([]byte{255}, 64), huge)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, mode := range []Mode{Read, Write} {
		s := openStore(t, dir, mode)
		checkDisk(t, s, p.ID, "disk0", data)
		if _, err := s.Verify(t.Context(), VerifyOptions{}); err != nil && !errors.Is(err, lifeboat.ErrDamaged) {
			t.Error(err)
		}
		s.Close()
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 512<<20 {
		t.Errorf("%d MiB were taken", taken>>20)
	}
}
