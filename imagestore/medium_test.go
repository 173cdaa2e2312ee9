package imagestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/fixtures/medium"
	"lifeboat/internal/durable"
)

// mounted opens the folder of a medium; closing it is needed to unmount.
func mounted(t testing.TB, m *medium.Medium) *durable.OSDir {
	t.Helper()
	dir, err := durable.OpenOS(m.Path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.(*durable.OSDir).Close() })
	return dir.(*durable.OSDir)
}

// mediumLife is the life of a store on one file system.
type mediumLife struct {
	t     *testing.T
	m     *medium.Medium
	disks map[string][]byte // by point
}

// use opens the store, does something with it, looks at every point and detaches
// nothing: that is for whoever mounts again.
func (l *mediumLife) use(mode Mode, do func(*Store)) {
	l.t.Helper()
	dir := mounted(l.t, l.m)
	defer dir.Close()
	s := openStore(l.t, dir, mode)
	do(s)
	l.check(s)
	if err := s.Close(); err != nil {
		l.t.Fatal(err)
	}
}

func (l *mediumLife) check(s *Store) {
	l.t.Helper()
	points, faults, err := s.Points(l.t.Context())
	if err != nil || len(faults) > 0 || len(points) != len(l.disks) {
		l.t.Fatalf("%d points of %d, %v, %v", len(points), len(l.disks), faults, err)
	}
	for id, data := range l.disks {
		checkDisk(l.t, s, id, "disk0", data)
	}
}

func (l *mediumLife) export(s *Store, data []byte) {
	l.t.Helper()
	p := mustCapture(l.t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	l.disks[p.ID] = data
}

func (l *mediumLife) verify(s *Store) {
	l.t.Helper()
	report, err := s.Verify(l.t.Context(), VerifyOptions{})
	if err != nil || report.FromMemory != "" {
		l.t.Fatalf("%v: %+v", err, report)
	}
}

func TestAStoreLivesOnEveryFileSystem(t *testing.T) {
	wholeOnly(t)
	for _, kind := range medium.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			l := &mediumLife{t: t, m: medium.New(t, kind, 96<<20), disks: map[string][]byte{}}
			dir := mounted(t, l.m)
			createStore(t, dir)
			dir.Close()
			first := randomDisk(1, 6<<20+513)
			second := slices.Clone(first)
			copy(second[1<<20:], randomDisk(2, 2<<20))
			l.use(Write, func(s *Store) { l.export(s, first) })
			l.m.Again(t, "")
			l.use(Write, func(s *Store) {
				other := mounted(t, l.m)
				defer other.Close()
				if _, err := openWith(other, Write); !errors.Is(err, lifeboat.ErrDriveHeld) {
					t.Errorf("a second writer: %v", err)
				}
				l.export(s, second)
				l.verify(s)
			})
			l.m.Again(t, "ro")
			l.use(Read, l.verify)
			dir = mounted(t, l.m)
			if _, err := openWith(dir, Write); !errors.Is(err, durable.ErrReadOnly) {
				t.Errorf("it was opened for writing: %v", err)
			}
			dir.Close()
			l.m.Again(t, "")
			l.rot(first, second)
			l.use(Alone, l.verify)
		})
	}
}

// rot lets the medium rot below what the computer has in memory, has it found,
// and has it healed.
func (l *mediumLife) rot(disks ...[]byte) {
	l.t.Helper()
	dir := mounted(l.t, l.m)
	defer dir.Close()
	s := openStore(l.t, dir, Write)
	packs, err := filepath.Glob(filepath.Join(l.m.Path, "packs/*/*.data"))
	if err != nil || len(packs) == 0 {
		l.t.Fatal(packs, err)
	}
	for _, name := range packs {
		b, err := os.ReadFile(name)
		if err != nil {
			l.t.Fatal(err)
		}
		l.m.Rot(l.t, b[len(b)/2:len(b)/2+64])
	}
	if _, err := s.Verify(l.t.Context(), VerifyOptions{}); !errors.Is(err, lifeboat.ErrDamaged) {
		l.t.Fatalf("%d packs rotted, and verify said %v", len(packs), err)
	}
	for _, data := range disks {
		l.export(s, data)
	}
	if err := s.Close(); err != nil {
		l.t.Error(err)
	}
}

// shutdowns is how often each file system is shut down in mid-write.
func shutdowns() int {
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		return 100
	}
	return 5
}

// The kernel stops a real file system in the middle of an export, at a moment
// and in a way that the seed decides; with its journal written out or not.
func TestAFileSystemThatStopsInMidExportKeepsEveryPoint(t *testing.T) {
	wholeOnly(t)
	for _, kind := range []medium.Kind{medium.Ext4, medium.XFS} {
		t.Run(string(kind), func(t *testing.T) {
			l := &mediumLife{t: t, m: medium.New(t, kind, 1<<30), disks: map[string][]byte{}}
			dir := mounted(t, l.m)
			createStore(t, dir)
			dir.Close()
			began := time.Now()
			l.use(Write, func(s *Store) { l.export(s, randomDisk(1, 6<<20)) })
			whole := time.Since(began)
			for round := range uint64(shutdowns()) {
				r := rand.New(rand.NewPCG(round, 9))
				flush := medium.Flush(r.IntN(3))
				moment := time.Duration(r.Int64N(int64(whole)))
				t.Run(fmt.Sprintf("round=%d,flush=%d,after=%v", round, flush, moment), func(t *testing.T) {
					(&mediumLife{t, l.m, l.disks}).stopAfter(round, flush, moment)
				})
			}
		})
	}
}

// stopAfter exports while the file system stops, mounts it again and looks.
func (l *mediumLife) stopAfter(seed uint64, flush medium.Flush, moment time.Duration) {
	t := l.t
	dir := mounted(t, l.m)
	data := randomDisk(seed+100, 6<<20)
	stopped := make(chan error)
	time.AfterFunc(moment, func() { stopped <- l.m.ShutDown(flush) })
	p, err := openAndCapture(dir, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	if err := <-stopped; err != nil {
		t.Skip(err)
	}
	if err != nil && !errors.Is(err, lifeboat.ErrDriveGone) {
		t.Errorf("the export ended with %v", err)
	}
	dir.Close()
	l.m.Again(t, "")
	dir = mounted(t, l.m)
	defer dir.Close()
	s := openStore(t, dir, Write)
	points, _, listErr := s.Points(t.Context())
	if listErr != nil {
		t.Fatal(listErr)
	}
	// The point may have come into being before the export heard that it did.
	for _, q := range points {
		if _, known := l.disks[q.ID]; !known {
			l.disks[q.ID] = data
		}
	}
	if _, there := l.disks[p.ID]; err == nil && !there {
		t.Error("a point that was committed is missing")
	}
	l.check(s)
	l.verify(s)
	l.export(s, data)
	l.check(s)
	l.verify(s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func openAndCapture(dir durable.Dir, c Capture) (lifeboat.RestorePoint, error) {
	s, err := openWith(dir, Write)
	if err != nil {
		return lifeboat.RestorePoint{}, err
	}
	p, err := s.Capture(context.Background(), c)
	return p, errors.Join(err, s.Close())
}

// remembering is a folder whose reads may come from a memory.
type remembering struct{ durable.Dir }

func (remembering) Cached() string { return "the server has a memory" }

func TestWhatMayHaveComeFromMemoryIsNotVerified(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}}))
	s.Close()
	s = openStore(t, remembering{drive.Dir()}, Read)
	report, err := s.Verify(t.Context(), VerifyOptions{})
	if err != nil || report.FromMemory == "" || report.NotRecorded == "" || !report.Checked[0].VerifiedAt.IsZero() {
		t.Errorf("%v: %+v", err, report)
	}
	s.Close()
	s = openStore(t, drive.Dir(), Read)
	report, err = s.Verify(t.Context(), VerifyOptions{})
	if err != nil || report.FromMemory != "" || report.Checked[0].VerifiedAt.IsZero() {
		t.Errorf("%v: %+v", err, report)
	}
}
