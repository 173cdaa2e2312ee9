package imagestore

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"testing"

	"lifeboat/fixtures/baddrive"
	"lifeboat/internal/durable"
)

// stored is a drive with two points of one machine and one of another, and what
// their disks hold.
type stored struct {
	drive *baddrive.Drive
	disks map[string][]byte // by the point's id
}

func newStored(t *testing.T, megabytes int) stored {
	t.Helper()
	d := stored{drive: newDrive(t), disks: map[string][]byte{}}
	s := openStore(t, d.drive.Dir(), Write)
	first := randomDisk(21, megabytes<<20+513)
	second := slices.Clone(first)
	copy(second[1<<20:], randomDisk(22, 1<<20))
	for i, data := range [][]byte{first, second, randomDisk(23, 1<<20)} {
		p := mustCapture(t, s, testMachine(fmt.Sprintf("m%d", i/2+1), map[string]Source{"disk0": &memoryDisk{data: data}}))
		d.disks[p.ID] = data
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return d
}

// sibling is another drive of the site with the same disks.
func (d stored) sibling(t *testing.T) *Store {
	t.Helper()
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	n := 0
	for _, data := range d.disks {
		n++
		mustCapture(t, s, testMachine(fmt.Sprintf("m%d", n), map[string]Source{"disk0": &memoryDisk{data: data}}))
	}
	s.Close()
	return openStore(t, drive.ReadOnlyDir(), Read)
}

// check restores every point and compares it.
func (d stored) check(t *testing.T, dir durable.Dir) {
	t.Helper()
	s := openStore(t, dir, Read)
	defer s.Close()
	points, _, err := s.Points(t.Context())
	if err != nil || len(points) != len(d.disks) {
		t.Fatalf("%d points of %d: %v", len(points), len(d.disks), err)
	}
	for id, want := range d.disks {
		checkDisk(t, s, id, "disk0", want)
	}
}

// checkWhole says that a verification finds nothing, and every point is right.
func (d stored) checkWhole(t *testing.T, drive *baddrive.Drive) {
	t.Helper()
	s := openStore(t, drive.ReadOnlyDir(), Read)
	report, err := s.Verify(t.Context(), VerifyOptions{})
	if err != nil || report.WithoutParity > 0 {
		t.Fatalf("after the repair: %+v, %v", report.Faults, err)
	}
	if !s.marks.empty() {
		t.Errorf("marks that are not true any more: %v", s.marks.places)
	}
	parityState(t, s)
	s.Close()
	d.check(t, drive.ReadOnlyDir())
}

func repairDrive(t testing.TB, dir durable.Dir, o RepairOptions) (RepairReport, error) {
	t.Helper()
	mode := Alone
	if o.DryRun {
		mode = Read
	}
	s, err := openWith(dir, mode)
	if err != nil {
		return RepairReport{}, err
	}
	report, err := s.Repair(t.Context(), o)
	return report, errors.Join(err, s.Close())
}

// files are the names of all files in some folders of a store, with their sizes.
func filesIn(t testing.TB, dir durable.Dir, folders ...string) (names []string, sizes map[string]int64) {
	t.Helper()
	sizes = map[string]int64{}
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
			names = append(names, name)
			sizes[name] = fileSize(e)
		}
	}
	for _, folder := range folders {
		walk(folder)
	}
	return names, sizes
}

func packFiles(t testing.TB, dir durable.Dir, suffix string) (names []string, sizes map[string]int64) {
	all, sizes := filesIn(t, dir, "packs")
	for _, name := range all {
		if path.Ext(name) == suffix {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return int(sizes[b] - sizes[a]) })
	return names, sizes
}
