package imagestore

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"filippo.io/age"

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

// wantSecond checks that the second reader restores a disk byte for byte, and finds
// the root that it computes from those bytes.
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
		root, err := s.Root(bytes.NewReader(want), int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range p.Disks {
			if d.Key == key && (d.Root != root || d.Size != int64(len(want))) {
				t.Fatalf("second reader: disk %s of point %s has root %x and %d bytes, not %x and %d", key, point, d.Root, d.Size, root, len(want))
			}
		}
		return
	}
	t.Fatalf("second reader: point %s is not listed", point)
}

// wantClean checks that the second reader finds nothing wrong anywhere.
func wantClean(t testing.TB, s *secondreader.Store) {
	t.Helper()
	for _, fault := range s.Check() {
		t.Errorf("second reader: %s", fault)
	}
}

func TestSecondReaderReadsWhatWasExported(t *testing.T) {
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
	}
	wantClean(t, second)
	if second.Fingerprint() != s.Fingerprint() {
		t.Errorf("fingerprint %s, not %s", second.Fingerprint(), s.Fingerprint())
	}
}

// The parity of a pack, computed by the second reader's own slow arithmetic, heals
// what the writer's parity file promises: four cells of a stripe.
func TestSecondReaderHealsAPackFromItsParity(t *testing.T) {
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
