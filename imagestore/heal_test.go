package imagestore

import (
	"errors"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
)

// damagedIndex is a store with one index run of which a page is damaged.
func damagedIndex(t *testing.T, data []byte) (*baddrive.Drive, lifeboat.RestorePoint) {
	t.Helper()
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	s.Close()
	runs, err := drive.Dir().List("index")
	if err != nil || len(runs) == 0 {
		t.Fatal(err)
	}
	for _, r := range runs {
		drive.FlipBit("index/"+r.Name(), 8*(format.RunPageSize+100))
	}
	return drive, p
}

func TestDamagedIndexNeverStopsAnExport(t *testing.T) {
	data := randomDisk(41, 9<<20)
	drive, p := damagedIndex(t, data)
	w := openStore(t, drive.Dir(), Write)
	mustCapture(t, w, testMachine("m2", map[string]Source{"disk0": &memoryDisk{data: randomDisk(42, 9<<20)}}))
	again := mustCapture(t, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	if again.Disks[0].NewBytes != 0 {
		t.Errorf("%d bytes were written again, though the packs are whole", again.Disks[0].NewBytes)
	}
	checkDisk(t, w, p.ID, "disk0", data)
	w.Close()
	checkHealed(t, drive)
}

func TestIndexThatAVerificationFoundDamagedIsMadeAnew(t *testing.T) {
	data := randomDisk(43, 9<<20)
	drive, p := damagedIndex(t, data)
	r := openStore(t, drive.Dir(), Read)
	report, err := r.Verify(t.Context(), VerifyOptions{})
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Hurt) != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	checkDisk(t, r, p.ID, "disk0", data)
	r.Close()
	w := openStore(t, drive.Dir(), Write)
	w.Close()
	checkHealed(t, drive)
}

func TestIndexRunThatDoesNotOpenIsReplaced(t *testing.T) {
	data := randomDisk(44, 9<<20)
	drive, p := damagedIndex(t, data)
	runs, _ := drive.Dir().List("index")
	for _, r := range runs {
		drive.FlipBit("index/"+r.Name(), 8*40) // its id
	}
	w := openStore(t, drive.Dir(), Write)
	checkDisk(t, w, p.ID, "disk0", data)
	w.Close()
	checkHealed(t, drive)
}

func checkHealed(t *testing.T, drive *baddrive.Drive) {
	t.Helper()
	s := openStore(t, drive.ReadOnlyDir(), Read)
	if report, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Errorf("%+v, %v", report, err)
	}
	if list, err := s.uncovered(t.Context(), func(map[format.RunPack]bool) {}); err != nil || len(list) > 0 {
		t.Errorf("%d packs are in no run: %v", len(list), err)
	}
}

// A point that no head lists yet, because its commit was cut off, must not be
// forgotten by the next commit when its file cannot be read for a while.
func TestCommitNeverForgetsAPointThatCannotBeReadNow(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}})
	mustCapture(t, s, c)
	p := mustCapture(t, s, c)
	s.Close()
	for _, suffix := range []string{copyA, copyB} {
		if err := drive.Dir().Remove(headName(p.Sequence) + suffix); err != nil {
			t.Fatal(err)
		}
	}
	sick := drive.Clone(1)
	id, _ := format.ParseShortID(p.ID)
	for _, suffix := range []string{copyA, copyB} {
		sick.Unreadable(pointName(p.Sequence, id)+suffix, 0, 4096)
	}
	w := openStore(t, sick.Dir(), Write)
	if _, err := w.Capture(t.Context(), c); err == nil {
		t.Error("a commit left a point out that may be good")
	}
	w.Close()
	w = openStore(t, drive.Dir(), Write)
	mustCapture(t, w, c)
	if points, faults, err := w.Points(t.Context()); len(points) != 3 || len(faults) != 0 || err != nil {
		t.Errorf("%d points, %v, %v", len(points), faults, err)
	}
}

func TestWriterHealsTheSecondCopies(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}})
	mustCapture(t, s, c)
	mustCapture(t, s, c)
	s.Close()
	var copies []string
	for _, folder := range []string{"points", "heads", "slots"} {
		names, err := listTwins(drive.Dir(), folder)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, folder+"/"+names[len(names)-1])
	}
	for i, name := range append(copies, superblockName) {
		for _, damage := range []func(d *baddrive.Drive, name string){
			func(d *baddrive.Drive, name string) { d.FlipBit(name, 8*100) },
			func(d *baddrive.Drive, name string) { d.Truncate(name, 90) },
			func(d *baddrive.Drive, name string) { d.Unreadable(name, 0, 100) },
		} {
			d := drive.Clone(uint64(i))
			damage(d, name+[]string{copyA, copyB}[i%2])
			openStore(t, d.Dir(), Write).Close()
			r := openStore(t, d.ReadOnlyDir(), Read)
			if report, err := r.Verify(t.Context(), VerifyOptions{}); err != nil {
				t.Errorf("%s: %+v, %v", name, report, err)
			}
		}
	}
}

func TestWriterRemovesPacksThatHoldNothingAndNoOthers(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}}))
	h := format.Header{Kind: format.KindDataPack, Generation: 1, Drive: s.driveID, File: format.ID{1}}
	s.Close()
	write := func(file format.ID, b []byte) string {
		name := packName(format.RunPack{ID: file})
		f, err := drive.Dir().Create(name)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(b)
		f.Close()
		return name
	}
	empty := []string{
		write(format.ID{1}, h.Append(nil)), write(format.ID{2}, nil),
		write(format.ID{3}, make([]byte, 5<<20)), write(format.ID{4}, append(h.Append(nil), make([]byte, 1000)...)),
	}
	unclear := write(format.ID{5}, append(make([]byte, 4<<20), 1))
	openStore(t, drive.Dir(), Write).Close()
	for _, name := range empty {
		if _, err := drive.Dir().Stat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	if _, err := drive.Dir().Stat(unclear); err != nil {
		t.Errorf("a pack was removed that may hold something: %v", err)
	}
	s = openStore(t, drive.ReadOnlyDir(), Read)
	if report, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Errorf("%+v, %v", report, err)
	}
}
