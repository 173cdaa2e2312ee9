package imagestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

func TestVerifyNamesEveryPointDiskAndRangeThatIsHurt(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	data := randomDisk(1, 9<<20)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	report, err := s.Verify(t.Context(), VerifyOptions{})
	if err != nil || report.Points != 1 || report.Packs < 2 || report.Chunks == 0 {
		t.Fatalf("a whole store: %+v, %v", report, err)
	}
	files, err := s.listPacks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !f.Tree {
			drive.FlipBit(packName(f.RunPack), 8*(format.HeaderSize+format.FrameHeaderSize+100))
			break
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, drive.Dir(), Read)
	report, err = s.Verify(t.Context(), VerifyOptions{})
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Faults) != 1 || len(report.Hurt) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	checkHurtExactly(t, s, report.Hurt[0], data)
	s.Close()

	// The next export writes the damaged chunks again, and heals the point.
	w := openStore(t, drive.Dir(), Write)
	src := &memoryDisk{data: data, tracks: true}
	again := testMachine("m1", map[string]Source{"disk0": src})
	again.Since["disk0"] = "" // no token in the first point
	second := mustCapture(t, w, again)
	if second.Disks[0].NewBytes == 0 {
		t.Error("damaged chunks were taken for present ones")
	}
	checkDisk(t, w, p.ID, "disk0", data)
	if report, err := w.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Errorf("after healing: %+v, %v", report, err)
	}
}

// checkHurtExactly reads each block: those named are damaged, the others right.
func checkHurtExactly(t *testing.T, s *Store, h Hurt, data []byte) {
	t.Helper()
	d, err := s.Disk(context.Background(), h.PointID, h.Disk)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, format.BlockSize)
	for at := int64(0); at < int64(len(data)); at += format.BlockSize {
		named := false
		for _, e := range h.Extents {
			named = named || at >= e.Offset && at < e.End()
		}
		_, err := d.ReadAt(buf, at)
		var damage *Damage
		switch {
		case named && (!errors.As(err, &damage) || !errors.Is(err, lifeboat.ErrDamaged) || damage.Pack == "" || damage.Drive != "B2"):
			t.Fatalf("block at %d should be damaged: %v", at, err)
		case !named && (err != nil || !bytes.Equal(buf, data[at:at+format.BlockSize])):
			t.Fatalf("block at %d should be right: %v", at, err)
		}
	}
}

// Whatever the index says, or no longer says: a verification that finds nothing
// has read everything.
func TestVerifyWithoutAnIndexReadsThePacksAllTheSame(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	data := randomDisk(1, 9<<20)
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	files, err := s.listPacks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	runs, err := drive.Dir().List("index")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		if err := drive.Dir().Remove("index/" + r.Name()); err != nil {
			t.Fatal(err)
		}
	}
	s = openStore(t, drive.ReadOnlyDir(), Read)
	report, err := s.Verify(t.Context(), VerifyOptions{})
	if err != nil || report.Packs != len(files) {
		t.Errorf("%d of %d packs were read: %v", report.Packs, len(files), err)
	}
	s.Close()
	for _, f := range files {
		if !f.Tree {
			drive.FlipBit(packName(f.RunPack), 8*(format.HeaderSize+format.FrameHeaderSize+100))
			break
		}
	}
	s = openStore(t, drive.ReadOnlyDir(), Read)
	report, err = s.Verify(t.Context(), VerifyOptions{})
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Hurt) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	checkHurtExactly(t, s, report.Hurt[0], data)
}

func TestVerifyBesideAnExportFindsNothingMissing(t *testing.T) {
	s := openStore(t, newDrive(t).Dir(), Write)
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 3<<20)}}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 10 {
			if _, err := s.Capture(t.Context(), testMachine("m2", map[string]Source{"disk0": &memoryDisk{data: randomDisk(uint64(300+i), 1<<20)}})); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		if report, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
			t.Errorf("%+v, %v", report, err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestMissingPackIsToldAndWrittenAgain(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	data := randomDisk(1, 3<<20)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	files, err := s.listPacks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, f := range files {
		if err := drive.Dir().Remove(packName(f.RunPack)); err != nil {
			t.Fatal(err)
		}
	}
	r := openStore(t, drive.ReadOnlyDir(), Read)
	report, err := r.Verify(t.Context(), VerifyOptions{})
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Hurt) != 1 || report.Hurt[0].Extents[0].Length != int64(len(data)) {
		t.Fatalf("%+v, %v", report, err)
	}
	r.Close()
	w := openStore(t, drive.Dir(), Write)
	mustCapture(t, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	checkDisk(t, w, p.ID, "disk0", data)
}

func TestEveryFlippedBitIsDetectedAndNeverReadAsRight(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	data := randomDisk(2, 5<<20)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	s.Close()
	var names []string
	sizes := map[string]int64{}
	for _, folder := range []string{"index", "points", "heads"} {
		entries, err := drive.Dir().List(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, folder+"/"+e.Name())
		}
	}
	files, _ := s.listPacks(t.Context())
	for _, f := range files {
		names = append(names, packName(f.RunPack))
	}
	for _, name := range names {
		info, err := drive.Dir().Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		sizes[name] = info.Size()
	}
	r := rand.New(rand.NewPCG(3, 3))
	for i := range 40 {
		name := names[i%len(names)]
		bit := r.Int64N(8 * sizes[name])
		d := drive.Clone(uint64(i))
		d.FlipBit(name, bit)
		s, err := openWith(d.ReadOnlyDir(), Read)
		if err != nil {
			t.Fatalf("bit %d of %s: %v", bit, name, err)
		}
		if _, err := s.Verify(t.Context(), VerifyOptions{}); !errors.Is(err, lifeboat.ErrDamaged) {
			t.Errorf("bit %d of %s was not detected: %v", bit, name, err)
		}
		target := &memoryTarget{data: make([]byte, len(data))}
		err = s.Restore(t.Context(), p.ID, "disk0", target, RestoreOptions{})
		if err == nil && !bytes.Equal(target.data, data) {
			t.Errorf("bit %d of %s: a wrong byte was restored", bit, name)
		}
		if err != nil && !errors.Is(err, lifeboat.ErrDamaged) {
			t.Errorf("bit %d of %s: %v", bit, name, err)
		}
		s.Close()
	}
}

func TestVerifyOfAPointReadsWhatThatPointNeeds(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	one := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(51, 6<<20)}}))
	two := mustCapture(t, s, testMachine("m2", map[string]Source{"disk0": &memoryDisk{data: randomDisk(52, 6<<20)}}))
	all, err := s.Verify(t.Context(), VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	packs := 0
	for _, id := range []string{one.ID, two.ID} {
		report, err := s.Verify(t.Context(), VerifyOptions{Points: []string{id}})
		if err != nil || report.Points != 1 || report.Packs == 0 {
			t.Errorf("%+v, %v", report, err)
		}
		packs += report.Packs
	}
	if packs != all.Packs {
		t.Errorf("%d packs were read for each point alone, %d for both", packs, all.Packs)
	}
	record, err := s.record(t.Context(), two.ID)
	if err != nil {
		t.Fatal(err)
	}
	place, ok, err := s.index.find(record.Disks[0].Root)
	if !ok || err != nil {
		t.Fatal(err)
	}
	drive.FlipBit(packName(s.packs.pack(place.Pack)), 8*int64(place.Offset+format.FrameHeaderSize+9))
	s.Close()
	s = openStore(t, drive.ReadOnlyDir(), Read)
	if report, err := s.Verify(t.Context(), VerifyOptions{Points: []string{two.ID}}); !errors.Is(err, lifeboat.ErrDamaged) || len(report.Hurt) != 1 {
		t.Errorf("damage of the point: %+v, %v", report, err)
	}
	if report, err := s.Verify(t.Context(), VerifyOptions{Points: []string{one.ID}}); err != nil {
		t.Errorf("damage of another point: %+v, %v", report, err)
	}
}

func TestReaderVerifiesBesideAWriterThatMergesAndCommits(t *testing.T) {
	drive := newDrive(t)
	w := openStore(t, drive.Dir(), Write)
	data := randomDisk(61, 3<<20)
	mustCapture(t, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	r := openStore(t, drive.Dir(), Read)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 12 {
			if _, err := w.Capture(t.Context(), testMachine("m2", map[string]Source{"disk0": &memoryDisk{data: randomDisk(uint64(400+i), 2<<20)}})); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		if report, err := r.Verify(t.Context(), VerifyOptions{}); err != nil {
			t.Errorf("%+v, %v", report, err)
		}
		fresh := openStore(t, drive.Dir(), Read)
		points, faults, err := fresh.Points(t.Context())
		if err != nil || len(faults) > 0 {
			t.Errorf("%v, %v", faults, err)
		}
		checkDisk(t, fresh, points[0].ID, "disk0", data)
		fresh.Close()
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestDamageIsToldEvenIfItCannotBeMarked(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}}))
	files, err := s.listPacks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	drive.FlipBit(packName(files[0].RunPack), 8*(format.HeaderSize+format.FrameHeaderSize+100))
	r := openStore(t, drive.Dir(), Read)
	drive.FillAfter(0)
	if report, err := r.Verify(t.Context(), VerifyOptions{}); !errors.Is(err, lifeboat.ErrDamaged) || len(report.Faults) == 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// A few bytes of a directory that the medium does not give hurt no point: its
// frames speak for themselves, also those beside the bad place.
func TestABadSectorInADirectoryHurtsNoPoint(t *testing.T) {
	d := newStored(t, 4)
	names, sizes := packFiles(t, d.drive.Dir(), ".data")
	for _, name := range names {
		b, err := durable.ReadWhole(d.drive.Dir(), name, format.MaxPackSize)
		if err != nil {
			t.Fatal(err)
		}
		directory := binary.LittleEndian.Uint32(b[sizes[name]-format.PackFooterSize+8:])
		d.drive.Unreadable(name, int64(directory), 4)
	}
	s := openStore(t, d.drive.ReadOnlyDir(), Read)
	report, err := s.Verify(t.Context(), VerifyOptions{})
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Hurt) > 0 || report.Lost() || report.VerifiedAt.IsZero() {
		t.Errorf("%+v, %v", report, err)
	}
	s.Close()
	d.check(t, d.drive.ReadOnlyDir())
}
