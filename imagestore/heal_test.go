package imagestore

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
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

// A point that no head lists, because its commit was cut off or the heads are
// lost, must not be forgotten by the next commit when its file cannot be read.
func TestCommitNeverForgetsAPointThatCannotBeRead(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}})
	mustCapture(t, s, c)
	p := mustCapture(t, s, c)
	s.Close()
	for _, name := range filesOf(t, drive.Dir(), "heads") {
		if err := drive.Dir().Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	id, _ := format.ParseShortID(p.ID)
	name := pointName(p.Sequence, id)
	kinds := map[string]func(d *baddrive.Drive, file string){
		"unreadable": func(d *baddrive.Drive, file string) { d.Unreadable(file, 0, 4096) },
		"rotten":     func(d *baddrive.Drive, file string) { d.FlipBit(file, 8*200) },
		"of no key":  func(d *baddrive.Drive, file string) { d.FlipBit(file, 8*12) },
	}
	for kind, harm := range kinds {
		t.Run(kind, func(t *testing.T) {
			sick := drive.Clone(1)
			for _, suffix := range []string{copyA, copyB} {
				harm(sick, name+suffix)
			}
			for range 2 {
				w := openStore(t, sick.Dir(), Write)
				mustCapture(t, w, c)
				w.Close()
			}
			s := openStore(t, sick.Dir(), Alone)
			_, faults, err := s.Points(t.Context())
			if err != nil || !slices.ContainsFunc(faults, func(f Fault) bool { return f.PointID == p.ID && f.Lost }) {
				t.Errorf("the point that cannot be read is no fault any more: %v, %v", faults, err)
			}
			if _, err := s.Prune(t.Context(), PruneOptions{}, nil); !errors.Is(err, lifeboat.ErrDamaged) {
				t.Errorf("a prune that does not know what a point needs: %v", err)
			}
			if got, _ := listTwins(sick.Dir(), "points"); len(got) != 4 {
				t.Errorf("%d points have files", len(got))
			}
			if err := s.Forget(t.Context(), p.ID); err != nil {
				t.Errorf("giving it up: %v", err)
			}
			s.Close()
		})
	}
	w := openStore(t, drive.Dir(), Write)
	mustCapture(t, w, c)
	if points, faults, err := w.Points(t.Context()); len(points) != 3 || len(faults) != 0 || err != nil {
		t.Errorf("%d points, %v, %v", len(points), faults, err)
	}
}

func TestTwoLoadsOfTheIndexOpenEachRunOnce(t *testing.T) {
	drive, _ := damagedIndex(t, randomDisk(1, 4<<20))
	s := openStore(t, drive.ReadOnlyDir(), Read)
	want := len(*s.index.runs.Load())
	s.index.close()
	var both sync.WaitGroup
	for range 8 {
		both.Go(func() {
			if err := s.index.load(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if got := len(*s.index.runs.Load()); got != want {
		t.Errorf("%d runs are open of %d", got, want)
	}
}

// A point that a commit could not read is taken in whole by a later one that can.
func TestAPointThatComesBackGetsItsHash(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}})
	p := mustCapture(t, s, c)
	s.state.head.Points[0].Hash, s.state.points[0].Hash = format.ID{}, format.ID{}
	mustCapture(t, s, c)
	if got := s.state.head.Points[0]; got.ID.String() != p.ID || got.Hash.IsZero() {
		t.Errorf("%+v", got)
	}
	s.Close()
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

// halfReadable damages the directory and a frame of a pack: what opens without
// the directory is not all that is in it. Parity reaches both.
func (d stored) halfReadable(t *testing.T) string {
	t.Helper()
	data, sizes := packFiles(t, d.drive.Dir(), ".data")
	d.drive.FlipBit(data[0], 8*(sizes[data[0]]-format.PackFooterSize-100))
	d.drive.FlipBit(data[0], 8*3000)
	return data[0]
}

// What opened of a pack while its directory was rotten is not all of it: once it
// is healed, the index knows the rest as well.
func TestRepairKnowsAllOfAPackThatItHealed(t *testing.T) {
	for name, lost := range map[string]bool{"index made anew": false, "index lost": true} {
		t.Run(name, func(t *testing.T) {
			d := newStored(t, 4)
			d.halfReadable(t)
			if lost {
				runs, _ := filesIn(t, d.drive.Dir(), "index")
				removeAll(d.drive, runs)
			}
			if report, err := repairDrive(t, d.drive.Dir(), RepairOptions{RebuildIndex: !lost}); err != nil {
				t.Errorf("%+v, %v", report, err)
			}
			d.checkWhole(t, d.drive)
		})
	}
}

// putBack gives a file the bytes that it had.
func putBack(d *baddrive.Drive, name string, b []byte) error {
	if err := d.Dir().Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeNew(d.Dir(), name, b)
}

// That a pack has no end is forgotten once its healed directory was read.
func TestRepairForgetsThatAHealedPackLookedTorn(t *testing.T) {
	d := newStored(t, 4)
	name := d.halfReadable(t)
	runs, _ := filesIn(t, d.drive.Dir(), "index")
	removeAll(d.drive, runs)
	par, err := durable.ReadWhole(d.drive.Dir(), name+".par", format.MaxParityFile)
	if err != nil {
		t.Fatal(err)
	}
	removeAll(d.drive, []string{name + ".par"})
	s := openStore(t, d.drive.Dir(), Write)
	p, _ := parsePackName(path.Base(path.Dir(name)), path.Base(name))
	number := s.packs.add(p)
	if !s.packs.isTorn(number) {
		t.Error("a pack without directory and parity counts as whole")
	}
	s.Close()
	if err := putBack(d.drive, name+".par", par); err != nil {
		t.Fatal(err)
	}
	if report, err := repairDrive(t, d.drive.Dir(), RepairOptions{}); err != nil {
		t.Fatalf("%+v, %v", report, err)
	}
	d.checkWhole(t, d.drive)
	s = openStore(t, d.drive.Dir(), Read)
	if number = s.packs.add(p); s.packs.isTorn(number) {
		t.Error("the healed pack still counts as torn")
	}
}

// A repair was cut off and left only the second copy of a pack, and that rots: it
// is healed as the pack itself would be, and its parity stays until then.
func TestRepairHealsTheSecondCopyThatIsLeft(t *testing.T) {
	d := newStored(t, 4)
	data, sizes := packFiles(t, d.drive.Dir(), ".data")
	second := data[0] + healedSuffix
	if err := d.drive.Dir().Rename(data[0], second); err != nil {
		t.Fatal(err)
	}
	d.drive.Unreadable(second, 100<<10, 8192)
	for _, lost := range []bool{false, true} {
		drive := d.drive.Clone(1)
		if lost {
			runs, _ := filesIn(t, drive.Dir(), "index")
			removeAll(drive, runs)
		}
		if report, err := repairDrive(t, drive.Dir(), RepairOptions{}); err != nil {
			t.Errorf("index lost %t: %+v, %v", lost, report, err)
		}
		d.checkWhole(t, drive)
	}
	// Beyond parity it stays, and what is good of it is good.
	d.drive.Unreadable(second, 40<<10, sizes[data[0]]/2)
	if _, err := repairDrive(t, d.drive.Dir(), RepairOptions{}); !errors.Is(err, lifeboat.ErrDamaged) {
		t.Error(err)
	}
	if _, err := d.drive.Dir().Stat(second); err != nil {
		t.Error(err)
	}
}

// A pack that a prune removes does not come back from a second copy of it.
func TestPruneRemovesTheSecondCopyOfAPack(t *testing.T) {
	d := newStored(t, 4)
	data, _ := packFiles(t, d.drive.Dir(), ".data")
	if err := d.drive.Dir().Rename(data[0], data[0]+healedSuffix); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, d.drive.Dir(), Alone)
	p, _ := parsePackName(path.Base(path.Dir(data[0])), path.Base(data[0]))
	if err := writeNew(d.drive.Dir(), data[0]+healedSuffix, []byte("left")); err != nil {
		t.Fatal(err)
	}
	if err := s.removePack(p); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if left, _ := filesIn(t, d.drive.Dir(), path.Dir(data[0])); slices.ContainsFunc(left, func(name string) bool { return strings.HasPrefix(name, data[0]) }) {
		t.Errorf("left: %v", left)
	}
}
