package imagestore

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// A name is not sealed. One with a huge number must not make the count of the
// commits begin anew: then a point would be written that nobody lists.
func TestAStrangersNumberNeverHidesAPoint(t *testing.T) {
	for _, sequence := range []string{"ffffffffffffffff", "4000000000000001", "4000000000000000", "3fffffffffffffff"} {
		drive := newDrive(t)
		stranger := "points/" + sequence + "-" + NewID() + copyA
		if err := durable.WriteFileAtomic(drive.Dir(), stranger, []byte("no point of yours")); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, drive.Dir(), Write)
		c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}})
		var committed []string
		for range 2 {
			if p, err := s.Capture(t.Context(), c); err == nil {
				committed = append(committed, p.ID)
			} else if !errors.Is(err, lifeboat.ErrDamaged) {
				t.Errorf("%s: %v", sequence, err)
			}
		}
		points, _, err := s.Points(t.Context())
		if err != nil || len(points) != len(committed) {
			t.Errorf("%s: %d points were committed, and %d are listed: %v", sequence, len(committed), len(points), err)
		}
	}
}

// Footers are not sealed, and a sparse file is as long as anybody likes: what a
// drive announces must not decide how much memory is taken.
func TestHostileDriveDoesNotTakeMemory(t *testing.T) {
	path := t.TempDir()
	dir, err := durable.OpenOS(path, false)
	if err != nil {
		t.Fatal(err)
	}
	createStore(t, dir)
	s := openStore(t, dir, Write)
	data := randomDisk(3, 3<<20)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	drive := s.driveID
	s.Close()

	run := format.Header{Kind: format.KindRun, Generation: 1, Drive: drive, File: format.ID{1}}
	footer := format.RunFooter{Entries: 1 << 26, Packs: 1, FilterBlocks: 1 << 26}
	makeSparse(t, filepath.Join(path, runName(run.File)), run.Append(nil), footer.Append(nil), footer.FileSize())
	pack := format.Header{Kind: format.KindDataPack, Generation: 1, Drive: drive, File: format.ID{1}}
	end := format.PackFooter{Offset: format.HeaderSize, Size: 3 << 30, Frames: 1}
	size := int64(end.Offset) + int64(end.Size) + format.PackFooterSize
	makeSparse(t, filepath.Join(path, packName(format.RunPack{ID: pack.File})), pack.Append(nil), end.Append(nil, pack.File), size)

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s = openStore(t, dir, Write)
	if _, err := s.Verify(t.Context(), VerifyOptions{}); err != nil && !errors.Is(err, lifeboat.ErrDamaged) {
		t.Error(err)
	}
	checkDisk(t, s, p.ID, "disk0", data)
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 256<<20 {
		t.Errorf("%d MiB were taken", taken>>20)
	}
}

func makeSparse(t *testing.T, name string, head, foot []byte, size int64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Skipf("this file system has no sparse files of %d bytes: %v", size, err)
	}
	if _, err := f.WriteAt(head, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(foot, size-int64(len(foot))); err != nil {
		t.Fatal(err)
	}
}
