package imagestore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"filippo.io/age"
	"pgregory.net/rapid"

	"lifeboat/fixtures/baddrive"
	"lifeboat/fixtures/secondreader"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// storeFiles copies what is in a folder into memory, as the second reader takes it.
func storeFiles(t testing.TB, dir durable.Dir) fs.FS {
	t.Helper()
	all := fstest.MapFS{}
	var walk func(folder string)
	walk = func(folder string) {
		entries, err := dir.List(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := path.Join(folder, e.Name())
			if e.IsDir() {
				walk(name)
				continue
			}
			b, err := durable.ReadWhole(dir, name, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = &fstest.MapFile{Data: b}
		}
	}
	walk(".")
	return all
}

// secondReader opens a store with the reader that was written from docs/format.md alone.
func secondReader(t testing.TB, files fs.FS) *secondreader.Store {
	t.Helper()
	identity, err := age.ParseX25519Identity(testIdentity().SecretText())
	if err != nil {
		t.Fatal(err)
	}
	s, err := secondreader.Open(files, identity)
	if err != nil {
		t.Fatalf("second reader: %v", err)
	}
	return s
}

// wantSecond checks that the second reader restores a disk byte for byte.
func wantSecond(t testing.TB, s *secondreader.Store, point, key string, want []byte) {
	t.Helper()
	for _, p := range s.Points() {
		if hex.EncodeToString(p.ID[:]) != point {
			continue
		}
		got := &memoryTarget{data: make([]byte, len(want))}
		if err := s.Restore(p, key, got); err != nil {
			t.Fatalf("second reader: restore %s of %s: %v", key, point, err)
		}
		if !bytes.Equal(got.data, want) {
			t.Fatalf("second reader: disk %s of point %s is not what was captured", key, point)
		}
		return
	}
	t.Fatalf("second reader: point %s is not listed", point)
}

// wantRoot checks that the second reader computes the root of a disk from its bytes
// alone.
func wantRoot(t testing.TB, s *secondreader.Store, key string, want []byte) {
	t.Helper()
	root, err := s.Root(bytes.NewReader(want), int64(len(want)))
	if err != nil {
		t.Fatal(err)
	}
	points := s.Points()
	for _, d := range points[len(points)-1].Disks {
		if d.Key == key && (d.Root != root || d.Size != int64(len(want))) {
			t.Fatalf("second reader: disk %s has root %x and %d bytes, not %x and %d", key, d.Root, d.Size, root, len(want))
		}
	}
}

// wantClean checks that the second reader finds nothing wrong anywhere.
func wantClean(t testing.TB, s *secondreader.Store) {
	t.Helper()
	for _, fault := range s.Check() {
		t.Errorf("second reader: %s", fault)
	}
}

func TestSecondReaderReadsWhatWasExported(t *testing.T) {
	wholeOnly(t)
	d := newDrive(t)
	disks := map[string][]byte{
		"root":  randomDisk(1, 9<<20+512),
		"data":  randomDisk(2, 4<<20+5),
		"empty": make([]byte, 13<<20),
		"none":  {},
		"tiny":  []byte("one"),
	}
	s := openStore(t, d.Dir(), Write)
	sources := map[string]Source{}
	for key, b := range disks {
		sources[key] = &memoryDisk{data: b}
	}
	p := mustCapture(t, s, testMachine("m1", sources))
	second := secondReader(t, storeFiles(t, d.Dir()))
	for key, b := range disks {
		wantSecond(t, second, p.ID, key, b)
		wantRoot(t, second, key, b)
	}
	wantClean(t, second)
	if second.Fingerprint() != s.Fingerprint() {
		t.Errorf("fingerprint %s, not %s", second.Fingerprint(), s.Fingerprint())
	}
}

// The parity of a pack, computed by the second reader's own slow arithmetic, heals
// what the writer's parity file promises: four cells of a stripe.
func TestSecondReaderHealsAPackFromItsParity(t *testing.T) {
	wholeOnly(t)
	d := newDrive(t)
	s := openStore(t, d.Dir(), Write)
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(4, 4<<20+77)}}))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files := storeFiles(t, d.Dir())
	packs, err := fs.Glob(files, "packs/*/*.par")
	if err != nil || len(packs) < 2 {
		t.Fatal("there is no parity", packs, err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for _, name := range packs {
		par, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		good, err := fs.ReadFile(files, strings.TrimSuffix(name, ".par"))
		if err != nil {
			t.Fatal(err)
		}
		cells := (len(good) + 4095) / 4096
		stripes := 1
		for 128*stripes < cells {
			stripes *= 2
		}
		for _, lost := range []int{0, 1, 4 * stripes, 4*stripes + 1} {
			lost = min(lost, cells)
			first := r.IntN(cells - lost + 1)
			hurt := bytes.Clone(good)
			for i := first * 4096; i < min((first+lost)*4096, len(hurt)); i++ {
				hurt[i] ^= byte(1 + r.IntN(255))
			}
			healed, err := secondreader.Heal(hurt, par)
			if lost > 4*stripes {
				if err == nil {
					t.Errorf("%s: %d cells of %d stripes were healed, which is more than can be", name, lost, stripes)
				}
			} else if err != nil || !bytes.Equal(healed, good) {
				t.Errorf("%s: %d cells from %d of %d are not healed: %v", name, lost, first, cells, err)
			}
		}
	}
}

// Blocks that nearly vanish when compressed make a directory grow faster than its
// pack: a reader refuses one of more than 16 MiB.
func TestPackIsFullWhenItsDirectoryIs(t *testing.T) {
	job := &frameJob{ids: make([]format.ID, 64)}
	most := (format.MaxDirectorySize - 4 - 10) / 36
	for _, c := range []struct {
		chunks int
		room   bool
	}{{most - 64, true}, {most - 63, false}} {
		p := &packWriter{size: format.HeaderSize, chunks: make([]format.DirectoryChunk, c.chunks)}
		if got := p.hasRoom(job, format.MaxPackSize); got != c.room {
			t.Errorf("%d chunks, and 64 more: room is %v", c.chunks, got)
		}
	}
}

// secondStory is a drive that lives on: each step is checked by the second reader.
type secondStory struct {
	t      *testing.T
	drive  *baddrive.Drive
	disks  map[string][]byte // by point
	points []string
}

func (y *secondStory) export(machine string, disk []byte) {
	y.t.Helper()
	s := openStore(y.t, y.drive.Dir(), Write)
	p := mustCapture(y.t, s, testMachine(machine, map[string]Source{"disk0": &memoryDisk{data: disk}}))
	if err := s.Close(); err != nil {
		y.t.Fatal(err)
	}
	y.disks[p.ID] = slices.Clone(disk)
	y.points = append(y.points, p.ID)
}

// alone does what needs a store that is opened alone.
func (y *secondStory) alone(do func(s *Store) error) {
	y.t.Helper()
	s := openStore(y.t, y.drive.Dir(), Alone)
	if err := errors.Join(do(s), s.Close()); err != nil {
		y.t.Fatal(err)
	}
}

// check reads all points with the second reader. Where the store is clean, it has
// to agree in everything else as well.
func (y *secondStory) check(step string, clean bool) {
	y.t.Helper()
	second := secondReader(y.t, storeFiles(y.t, y.drive.Dir()))
	if len(second.Points()) != len(y.points) {
		y.t.Fatalf("%s: the second reader lists %d points, not %d: %v", step, len(second.Points()), len(y.points), second.Faults)
	}
	for i, p := range second.Points() {
		if hex.EncodeToString(p.ID[:]) != y.points[i] {
			y.t.Fatalf("%s: point %d is %x, not %s", step, i, p.ID, y.points[i])
		}
	}
	for _, id := range y.points {
		wantSecond(y.t, second, id, "disk0", y.disks[id])
	}
	faults := second.Check()
	if clean != (len(faults) == 0) {
		y.t.Errorf("%s: the second reader says %q", step, faults)
	}
}

func TestSecondReaderFollowsADriveThroughItsLife(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	y := &secondStory{t: t, drive: newDrive(t), disks: map[string][]byte{}}
	y.check("new", true)
	disk := randomDisk(21, 5<<20+777)
	y.export("m1", disk)
	y.check("first point", true)
	for night := range 4 { // many small runs, which are merged
		copy(disk[night<<20:], randomDisk(uint64(30+night), 600<<10))
		clear(disk[2<<20 : 3<<20])
		y.export("m1", disk)
	}
	y.export("twin of m1", disk)
	y.check("nights", true)

	runs, err := y.drive.Dir().List("index")
	if err != nil || len(runs) == 0 {
		t.Fatal("there is no run", err)
	}
	lost := y.drive.Clone(2)
	for _, r := range runs {
		if err := lost.Dir().Remove("index/" + r.Name()); err != nil {
			t.Fatal(err)
		}
	}
	whole := y.drive
	y.drive = lost
	y.check("lost index", true)
	y.export("m1", disk)
	y.check("index made anew", true)
	y.points, y.drive = y.points[:len(y.points)-1], whole.Clone(3)

	heads, err := listTwins(y.drive.Dir(), "heads")
	if err != nil {
		t.Fatal(err)
	}
	points, err := listTwins(y.drive.Dir(), "points")
	if err != nil {
		t.Fatal(err)
	}
	slots, err := listTwins(y.drive.Dir(), "slots")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{superblockName + copyA, "heads/" + heads[0] + copyB, "points/" + points[0] + copyA} {
		y.drive.FlipBit(name, 8*100)
	}
	if err := y.drive.Dir().Remove("slots/" + slots[0] + copyA); err != nil {
		t.Fatal(err)
	}
	y.check("one copy of each is bad", false)
	y.drive = whole

	y.alone(func(s *Store) error { return s.Rotate(t.Context(), RotateOptions{}) })
	y.check("rotated", true)
	copy(disk[2<<20:], randomDisk(50, 2<<20))
	y.export("m1", disk)
	y.check("exported with the new key", true)
	y.points = y.points[len(y.points)-2:]
	y.alone(func(s *Store) error {
		_, err := s.Prune(t.Context(), PruneOptions{Keep: y.points}, nil)
		return err
	})
	y.check("pruned", true)
}

// After every cut of the power the second reader lists and restores what the store does.
func TestSecondReaderAgreesAfterAPowerCutAtEveryCall(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	n := newNight(t, false)
	baddrive.Sweep(t, 5, n.base, n.export, func(t *testing.T, after durable.Dir, done error) {
		second := secondReader(t, storeFiles(t, after))
		points := second.Points()
		if len(points) == 0 || len(points) > 2 || done == nil && len(points) != 2 {
			t.Fatalf("%d points", len(points))
		}
		for i, p := range points {
			wantSecond(t, second, hex.EncodeToString(p.ID[:]), "disk0", [][]byte{n.first, n.second}[i])
		}
	})
}

func TestSecondReaderReadsAnyDisk(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.SampledFrom([]int{0, 1, 511, 4096, 4097, 300 << 10, 1 << 20, 4<<20 + 1}).Draw(rt, "size")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 3))
		disk := make([]byte, size)
		kinds := rapid.IntRange(1, 6).Draw(rt, "kinds") // few contents: many duplicates
		for at := 0; at < size; at += 4096 * (1 + r.IntN(40)) {
			for i := at; i < min(size, at+4096*(1+r.IntN(70))); i += 4096 {
				disk[i] = byte(r.IntN(kinds))
			}
		}
		d := newDrive(t)
		s := openStore(t, d.Dir(), Write)
		p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: disk}}))
		s.Close()
		second := secondReader(t, storeFiles(t, d.Dir()))
		wantSecond(t, second, p.ID, "disk0", disk)
		wantRoot(t, second, "disk0", disk)
		wantClean(t, second)
	})
}
