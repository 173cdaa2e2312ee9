package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/fixtures/medium"
	"lifeboat/internal/durable"
)

// nodeKinds are what somebody may have put in the place of a file or folder.
var nodeKinds = map[string]func(name string) error{
	"pipe":   func(name string) error { return unix.Mkfifo(name, 0o600) },
	"folder": func(name string) error { return os.Mkdir(name, 0o700) },
	"file":   func(name string) error { return os.WriteFile(name, []byte("no folder"), 0o600) },
	"loop":   func(name string) error { return os.Symlink(filepath.Base(name), name) },
	"link":   func(name string) error { return os.Symlink("/etc", name) },
	"device": func(name string) error { return unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 8))) }, // random bytes without end
}

// TestWhatIsNoFileHoldsNobodyUp puts pipes, folders, links and devices in the
// place of each file and folder of a store, in turn.
func TestWhatIsNoFileHoldsNobodyUp(t *testing.T) {
	from, data := t.TempDir(), randomDisk(4, 1<<20)
	h := hostile{point: exportTo(t, from, data), data: data}
	kinds := slices.Sorted(maps.Keys(nodeKinds))
	for i, place := range storePlaces(t, from) {
		for j, kind := range kinds {
			// A pipe everywhere; the others in turn, or all of them in a soak.
			if kind != "pipe" && i%len(kinds) != j && os.Getenv("LIFEBOAT_SOAK") == "" {
				continue
			}
			t.Run(kind+" at "+place, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "store")
				if err := os.CopyFS(path, os.DirFS(from)); err != nil {
					t.Fatal(err)
				}
				name := filepath.Join(path, place)
				if err := errors.Join(os.RemoveAll(name), nodeKinds[kind](name)); err != nil {
					t.Skipf("this system makes no %s: %v", kind, err)
				}
				done := goOn(func() { h.tryFolder(t, path) })
				select {
				case <-done:
				case <-time.After(hostileTime):
					t.Fatal("it waits for ever")
				}
			})
		}
	}
}

func goOn(f func()) <-chan bool {
	done := make(chan bool)
	go func() { defer close(done); f() }()
	return done
}

// exportTo makes a store with one point in a folder.
func exportTo(t *testing.T, path string, data []byte) string {
	t.Helper()
	dir := openFolder(t, path)
	createStore(t, dir)
	s := openStore(t, dir, Write)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	if _, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return p.ID
}

func openFolder(t *testing.T, path string) durable.Dir {
	t.Helper()
	dir, err := durable.OpenOS(path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.(*durable.OSDir).Close() })
	return dir
}

// storePlaces are a file of each sort, and every folder but the 256 of packs.
func storePlaces(t *testing.T, path string) (places []string) {
	t.Helper()
	seen := map[string]bool{}
	err := filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == path {
			return err
		}
		place, err := filepath.Rel(path, name)
		sort := filepath.Dir(place) + filepath.Ext(place)
		if strings.HasPrefix(place, "packs/") {
			sort = "packs" + strings.Join(strings.SplitAfter(filepath.Base(place), ".")[1:], "")
		} else if e.IsDir() || filepath.Dir(place) == "." {
			sort = place
		}
		if !seen[sort] {
			seen[sort] = true
			places = append(places, place)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return places
}

// tryFolder reads and writes; only wrong bytes and panics are failures.
func (h hostile) tryFolder(t *testing.T, path string) {
	ctx, cancel := context.WithTimeout(t.Context(), hostileTime)
	defer cancel()
	for _, mode := range []Mode{Read, Write} {
		dir, err := durable.OpenOS(path, false)
		if err != nil {
			t.Error(err)
			return
		}
		s, err := openWith(dir, mode)
		if err == nil {
			s.Verify(ctx, VerifyOptions{})
			h.restore(t, ctx, s)
			if mode == Write {
				s.Capture(ctx, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: h.data}}))
			}
			s.Close()
		}
		dir.(*durable.OSDir).Close()
	}
}

// TestFoldersFullOfStrangeNamesAreReadOver fills the folders with what somebody
// may have copied there: long names, names that nearly fit, thousands of them.
func TestFoldersFullOfStrangeNamesAreReadOver(t *testing.T) {
	path, data := t.TempDir(), randomDisk(4, 1<<20)
	h := hostile{point: exportTo(t, path, data), data: data}
	for _, folder := range []string{".", "slots", "packs", "packs/00", "index", "points", "heads", "marks", "checks"} {
		for i := range 500 {
			name := fmt.Sprintf("%064x%s", i, []string{"", ".run.bak", ".DATA", ".data.data", ".a", ".mark~", " .b"}[i%7])
			if i%50 == 0 {
				name = strings.Repeat("ü", 120) + fmt.Sprint(i)
			}
			if err := os.WriteFile(filepath.Join(path, folder, name), []byte("LIFEBOAT"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	began := time.Now()
	dir := openFolder(t, path)
	for _, mode := range []Mode{Read, Write} {
		s := openStore(t, dir, mode)
		if err := h.restore(t, t.Context(), s); err != nil {
			t.Error(err)
		}
		if mode == Write {
			mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(5, 1<<20)}}))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > hostileTime {
		t.Errorf("it took %v", took)
	}
}

// TestADriveThatFillsUpKeepsEveryPoint writes until a real file system is full.
func TestADriveThatFillsUpKeepsEveryPoint(t *testing.T) {
	wholeOnly(t)
	for _, kind := range []medium.Kind{medium.Ext4, medium.ExFAT, medium.NTFS} {
		t.Run(string(kind), func(t *testing.T) {
			l := &mediumLife{t: t, m: medium.New(t, kind, 32<<20), disks: map[string][]byte{}}
			dir := mounted(t, l.m)
			createStore(t, dir)
			full := false
			for i := uint64(0); !full && i < 40; i++ {
				data := randomDisk(i, 12<<20)
				p, err := openAndCapture(dir, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
				if err == nil {
					l.disks[p.ID] = data
					continue
				}
				if full = errors.Is(err, lifeboat.ErrDriveFull); !full {
					t.Fatal(err)
				}
			}
			if !full {
				t.Fatal("it never became full")
			}
			dir.Close()
			l.m.Again(t, "")
			l.use(Read, l.verify)
			l.use(Write, l.verify)
		})
	}
}
