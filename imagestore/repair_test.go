package imagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
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

// TestRepairHealsWhatParityReaches damages each kind of place in a pack.
func TestRepairHealsWhatParityReaches(t *testing.T) {
	d := newStored(t, 5)
	data, sizes := packFiles(t, d.drive.Dir(), ".data")
	trees, _ := packFiles(t, d.drive.Dir(), ".tree")
	for name, damage := range map[string]func(*baddrive.Drive){
		"a bit of a frame":         func(d *baddrive.Drive) { d.FlipBit(data[0], 8*5000) },
		"the header":               func(d *baddrive.Drive) { d.FlipBit(data[0], 8*20) },
		"the footer":               func(d *baddrive.Drive) { d.FlipBit(data[0], 8*(sizes[data[0]]-20)) },
		"the directory":            func(d *baddrive.Drive) { d.FlipBit(data[0], 8*(sizes[data[0]]-60)) },
		"16 KiB in a row":          func(d *baddrive.Drive) { d.Erase(data[0], 40<<10, 16<<10) },
		"sectors that do not read": func(d *baddrive.Drive) { d.Unreadable(data[0], 100<<10, 8192) },
		"a tail that is gone":      func(d *baddrive.Drive) { d.Truncate(data[0], sizes[data[0]]-9000) },
		"every pack a little": func(d *baddrive.Drive) {
			for _, name := range slices.Concat(data, trees) {
				d.FlipBit(name, 8*sizes[name]/2)
			}
		},
		"a small pack that is gone": func(d *baddrive.Drive) {
			for _, name := range trees {
				if sizes[name] <= 4*format.CellSize {
					if err := d.Dir().Remove(name); err != nil {
						panic(err)
					}
					return
				}
			}
			panic("there is no small pack")
		},
		"parity and pack": func(d *baddrive.Drive) {
			d.FlipBit(data[0], 8*5000)
			d.FlipBit(data[0]+".par", 8*10)
			d.FlipBit(data[0]+".par", 8*200)
		},
	} {
		t.Run(name, func(t *testing.T) {
			drive := d.drive.Clone(1)
			damage(drive)
			s := openStore(t, drive.ReadOnlyDir(), Read)
			if report, err := s.Verify(t.Context(), VerifyOptions{}); !errors.Is(err, lifeboat.ErrDamaged) {
				t.Errorf("it is not seen: %+v, %v", report, err)
			}
			s.Close()
			planned, err := repairDrive(t, drive.ReadOnlyDir(), RepairOptions{DryRun: true})
			if planned.HealedPacks == 0 || planned.Lost > 0 || (err == nil) != (planned.Unknown == 0) {
				t.Errorf("the plan: %+v, %v", planned, err)
			}
			report, err := repairDrive(t, drive.Dir(), RepairOptions{})
			if err != nil || report.HealedPacks != planned.HealedPacks || report.HealedCells != planned.HealedCells {
				t.Errorf("%+v, %v", report, err)
			}
			d.checkWhole(t, drive)
		})
	}
}

// A verification marks what it finds; once it is healed the marks go.
func TestRepairDropsTheMarksOfWhatItHealed(t *testing.T) {
	d := newStored(t, 5)
	data, _ := packFiles(t, d.drive.Dir(), ".data")
	d.drive.FlipBit(data[0], 8*5000)
	s := openStore(t, d.drive.Dir(), Read)
	if _, err := s.Verify(t.Context(), VerifyOptions{}); !errors.Is(err, lifeboat.ErrDamaged) {
		t.Fatal(err)
	}
	s.Close()
	if names, _ := filesIn(t, d.drive.Dir(), "marks"); len(names) == 0 {
		t.Fatal("nothing was marked")
	}
	if report, err := repairDrive(t, d.drive.Dir(), RepairOptions{}); err != nil {
		t.Fatalf("%+v, %v", report, err)
	}
	if names, _ := filesIn(t, d.drive.Dir(), "marks"); len(names) > 0 {
		t.Errorf("marks are left: %v", names)
	}
	d.checkWhole(t, d.drive)
}

// beyondParity spoils so much of packs that parity cannot help.
func beyondParity(d *baddrive.Drive, names []string, sizes map[string]int64) {
	for _, name := range names {
		d.Erase(name, sizes[name]/4, sizes[name]/2)
	}
}

func TestRepairBorrowsFromAnotherDriveWhatParityDoesNotReach(t *testing.T) {
	d := newStored(t, 5)
	data, sizes := packFiles(t, d.drive.Dir(), ".data")
	trees, _ := packFiles(t, d.drive.Dir(), ".tree")
	for name, damage := range map[string]func(*baddrive.Drive){
		"half a pack":              func(d *baddrive.Drive) { beyondParity(d, data[:1], sizes) },
		"every tree":               func(d *baddrive.Drive) { removeAll(d, slices.Concat(trees, parityFiles(trees))) },
		"half of everything":       func(d *baddrive.Drive) { beyondParity(d, slices.Concat(data, trees), sizes) },
		"a missing pack":           func(d *baddrive.Drive) { d.Dir().Remove(data[0]) },
		"all data missing":         func(d *baddrive.Drive) { removeAll(d, data) },
		"everything is missing":    func(d *baddrive.Drive) { removeAll(d, slices.Concat(data, trees)) },
		"missing without parity":   func(d *baddrive.Drive) { removeAll(d, []string{data[0], data[0] + ".par"}) },
		"a header without parity":  func(d *baddrive.Drive) { d.FlipBit(data[0], 8*20); removeAll(d, []string{data[0] + ".par"}) },
		"a folder that is missing": func(d *baddrive.Drive) { removeFolder(d, path.Dir(data[0])) },
	} {
		t.Run(name, func(t *testing.T) {
			drive := d.drive.Clone(1)
			damage(drive)
			planned, err := repairDrive(t, drive.ReadOnlyDir(), RepairOptions{DryRun: true})
			if !errors.Is(err, lifeboat.ErrDamaged) || planned.Lost+planned.Unknown == 0 || len(planned.Hurt) == 0 {
				t.Errorf("alone: %+v, %v", planned, err)
			}
			sibling := d.sibling(t)
			if planned, err = repairDrive(t, drive.ReadOnlyDir(), RepairOptions{DryRun: true, Siblings: []*Store{sibling}}); planned.Lost > 0 || (err == nil) != (planned.Unknown == 0) {
				t.Errorf("the plan: %+v, %v", planned, err)
			}
			report, err := repairDrive(t, drive.Dir(), RepairOptions{Siblings: []*Store{sibling}})
			if err != nil || len(report.Borrowed) != 1 || report.Borrowed[0].Chunks == 0 {
				t.Fatalf("%+v, %v", report, err)
			}
			s := openStore(t, drive.ReadOnlyDir(), Read)
			if report, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
				t.Errorf("after the repair: %+v, %v", report, err)
			}
			s.Close()
			d.check(t, drive.ReadOnlyDir())
			if again, err := repairDrive(t, drive.Dir(), RepairOptions{}); err != nil || len(again.Borrowed) > 0 {
				t.Errorf("a second time: %+v, %v", again, err)
			}
		})
	}
}

func parityFiles(packs []string) (names []string) {
	for _, name := range packs {
		names = append(names, name+".par")
	}
	return names
}

func removeAll(d *baddrive.Drive, names []string) {
	for _, name := range names {
		if err := d.Dir().Remove(name); err != nil {
			panic(err)
		}
	}
}

func removeFolder(d *baddrive.Drive, folder string) {
	entries, err := d.Dir().List(folder)
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		removeAll(d, []string{path.Join(folder, e.Name())})
	}
	removeAll(d, []string{folder})
}

// What no drive has is told machine by machine, disk by disk, range by range;
// everything else restores, and the next export of its bytes heals it.
func TestRepairTellsWhatIsLostAndTheNextExportHealsIt(t *testing.T) {
	d := newStored(t, 5)
	data, sizes := packFiles(t, d.drive.Dir(), ".data")
	beyondParity(d.drive, data[:1], sizes)
	report, err := repairDrive(t, d.drive.Dir(), RepairOptions{})
	var p *lifeboat.Problem
	if !errors.Is(err, lifeboat.ErrDamaged) || !errors.As(err, &p) || report.Lost == 0 || len(report.Hurt) == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	s := openStore(t, d.drive.Dir(), Write)
	hurt := map[string][]lifeboat.Extent{}
	for _, h := range report.Hurt {
		hurt[h.PointID] = h.Extents
	}
	for id, want := range d.disks {
		target := &memoryTarget{data: make([]byte, len(want))}
		err := s.Restore(t.Context(), id, "disk0", target, RestoreOptions{AllowDamaged: true})
		checkPartial(t, err, target.data, want, hurt[id])
	}
	for i, data := range [][]byte{randomDisk(21, 5<<20+513), randomDisk(23, 1<<20)} {
		mustCapture(t, s, testMachine(fmt.Sprintf("m%d", i+1), map[string]Source{"disk0": &memoryDisk{data: data}}))
	}
	whole := slices.Clone(randomDisk(21, 5<<20+513))
	copy(whole[1<<20:], randomDisk(22, 1<<20))
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: whole}}))
	for id, want := range d.disks {
		checkDisk(t, s, id, "disk0", want)
	}
}

// checkPartial says that a damaged restore is right everywhere but in the hurt
// ranges, which are zeros and listed.
func checkPartial(t *testing.T, err error, got, want []byte, hurt []lifeboat.Extent) {
	t.Helper()
	var partial *DamagedRestore
	if len(hurt) > 0 != errors.As(err, &partial) || (err != nil) != errors.Is(err, lifeboat.ErrDamaged) {
		t.Fatalf("%d ranges are hurt: %v", len(hurt), err)
	}
	if partial != nil && !slices.Equal(partial.Hurt.Extents, hurt) {
		t.Errorf("the restore lists %v, the repair %v", partial.Hurt.Extents, hurt)
	}
	filled := slices.Clone(want)
	for _, e := range hurt {
		clear(filled[e.Offset:e.End()])
	}
	if !slices.Equal(got, filled) {
		t.Error("the rest of the disk is not what was captured")
	}
}

// Somebody without the key edits pack and parity so that both fit each other.
// Nothing of it is taken for good.
func TestRepairTakesNothingThatAnAttackerMadeUp(t *testing.T) {
	d := newStored(t, 5)
	data, _ := packFiles(t, d.drive.Dir(), ".data")
	f, ok := parsePackName(path.Base(path.Dir(data[0])), path.Base(data[0]))
	if !ok {
		t.Fatal(data[0])
	}
	s := openStore(t, d.drive.ReadOnlyDir(), Read)
	pack, err := durable.ReadWhole(d.drive.Dir(), data[0], format.MaxPackSize)
	if err != nil {
		t.Fatal(err)
	}
	edited := slices.Clone(pack)
	copy(edited[20000:], "these bytes were made up")
	forged, err := s.parityOf(f, edited)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	put := func(drive *baddrive.Drive, name string, b []byte) {
		drive.Dir().Remove(name)
		if err := writeNew(drive.Dir(), name, b); err != nil {
			t.Fatal(err)
		}
	}
	// Parity that would make a good pack bad is made anew.
	drive := d.drive.Clone(1)
	put(drive, data[0]+".par", forged)
	drive.FlipBit(data[0], 8*50000)
	report, err := repairDrive(t, drive.Dir(), RepairOptions{})
	if !errors.Is(err, lifeboat.ErrDamaged) || report.HealedPacks > 0 {
		t.Errorf("forged parity healed something: %+v, %v", report, err)
	}
	report, err = repairDrive(t, drive.Dir(), RepairOptions{Siblings: []*Store{d.sibling(t)}})
	if err != nil {
		t.Errorf("%+v, %v", report, err)
	}
	d.check(t, drive.ReadOnlyDir())
	// Pack and parity that fit each other are damage all the same.
	drive = d.drive.Clone(2)
	put(drive, data[0], edited)
	put(drive, data[0]+".par", forged)
	r := openStore(t, drive.ReadOnlyDir(), Read)
	if report, err := r.Verify(t.Context(), VerifyOptions{}); !errors.Is(err, lifeboat.ErrDamaged) {
		t.Errorf("%+v, %v", report, err)
	}
	r.Close()
	if report, err := repairDrive(t, drive.Dir(), RepairOptions{}); !errors.Is(err, lifeboat.ErrDamaged) {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestRepairMakesParityThatIsMissingRottenOrOfOtherBytes(t *testing.T) {
	d := newStored(t, 5)
	pars, sizes := packFiles(t, d.drive.Dir(), ".par")
	d.drive.FlipBit(pars[0], 8*sizes[pars[0]]/2)
	d.drive.Truncate(pars[1], 50)
	removeAll(d.drive, pars[2:])
	s := openStore(t, d.drive.ReadOnlyDir(), Read)
	report, err := s.Verify(t.Context(), VerifyOptions{})
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Faults) != 2 || report.WithoutParity != len(pars)-2 || len(report.Hurt) > 0 {
		t.Errorf("%+v, %v", report, err)
	}
	for _, f := range report.Faults {
		if f.Lost {
			t.Errorf("rotten parity hurts nothing: %+v", f)
		}
	}
	s.Close()
	if report, err := repairDrive(t, d.drive.Dir(), RepairOptions{}); err != nil || report.ParityMade == 0 {
		t.Errorf("%+v, %v", report, err)
	}
	d.checkWhole(t, d.drive)
}

func TestRepairRebuildsALostIndexAndLostFolders(t *testing.T) {
	d := newStored(t, 5)
	runs, _ := filesIn(t, d.drive.Dir(), "index")
	data, _ := packFiles(t, d.drive.Dir(), ".data")
	for name, damage := range map[string]func(*baddrive.Drive){
		"lost runs":              func(d *baddrive.Drive) { removeAll(d, runs) },
		"a lost folder":          func(d *baddrive.Drive) { removeAll(d, runs); removeAll(d, []string{"index"}) },
		"no marks folder":        func(d *baddrive.Drive) { removeAll(d, []string{"marks"}) },
		"a rotten run":           func(d *baddrive.Drive) { d.FlipBit(runs[0], 8*(format.RunPageSize+50)) },
		"a run without its head": func(d *baddrive.Drive) { d.FlipBit(runs[0], 8*40) },
		"lost runs and a damaged directory": func(d *baddrive.Drive) {
			removeAll(d, runs)
			d.Erase(data[0], 200, 300)
		},
		"lost runs and a damaged header": func(d *baddrive.Drive) {
			removeAll(d, runs)
			d.FlipBit(data[0], 8*20)
		},
		"nothing": func(*baddrive.Drive) {},
	} {
		t.Run(name, func(t *testing.T) {
			drive := d.drive.Clone(1)
			damage(drive)
			report, err := repairDrive(t, drive.Dir(), RepairOptions{RebuildIndex: true})
			if err != nil {
				t.Fatalf("%+v, %v", report, err)
			}
			if left, _ := filesIn(t, drive.Dir(), "index"); len(left) == 0 || slices.ContainsFunc(left, func(name string) bool { return slices.Contains(runs, name) }) {
				t.Errorf("the index is %v, and was %v", left, runs)
			}
			d.checkWhole(t, drive)
		})
	}
}

// The small files are there twice; a repair makes them so again, all of them.
func TestRepairCompletesEveryCopy(t *testing.T) {
	d := newStored(t, 3)
	names, sizes := filesIn(t, d.drive.Dir(), "points", "heads", "slots")
	names = append(names, superblockName+copyA, superblockName+copyB)
	for i, name := range names {
		drive := d.drive.Clone(uint64(i))
		if i%2 == 0 {
			drive.FlipBit(name, 8*max(sizes[name]/2, 90))
		} else {
			removeAll(drive, []string{name})
		}
		if report, err := repairDrive(t, drive.Dir(), RepairOptions{}); err != nil {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
		if _, err := drive.Dir().Stat(name); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still missing", name)
		}
		d.checkWhole(t, drive)
	}
}

// Both copies of a head are gone: the points are committed anew.
func TestRepairWritesALostHeadAnew(t *testing.T) {
	d := newStored(t, 3)
	heads, _ := filesIn(t, d.drive.Dir(), "heads")
	for _, damaged := range [][]string{heads, heads[:2], heads[2:]} {
		drive := d.drive.Clone(1)
		for _, name := range damaged {
			drive.FlipBit(name, 8*100)
		}
		if report, err := repairDrive(t, drive.Dir(), RepairOptions{}); err != nil {
			t.Errorf("%+v, %v", report, err)
		}
		d.checkWhole(t, drive)
	}
}

func TestRepairRefusesADriveOfAnotherSiteAndAStoreThatOthersUse(t *testing.T) {
	d := newStored(t, 3)
	s := openStore(t, d.drive.Dir(), Read)
	if _, err := openWith(d.drive.Dir(), Alone); !errors.Is(err, lifeboat.ErrDriveHeld) {
		t.Errorf("a repair beside a reader: %v", err)
	}
	if _, err := s.Repair(t.Context(), RepairOptions{}); err == nil {
		t.Error("a store that is only read was repaired")
	}
	s.super.ChunkKey[0]++
	if _, err := s.Repair(t.Context(), RepairOptions{DryRun: true, Siblings: []*Store{d.sibling(t)}}); !errors.Is(err, lifeboat.ErrWrongDrive) {
		t.Errorf("a drive of another site: %v", err)
	}
}

// The power is cut at every call of a repair that heals packs, borrows, makes
// parity and completes copies.
func TestRepairSurvivesAPowerCutAtEveryCall(t *testing.T) {
	t.Parallel()
	kinds := []bool{true}
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		kinds = []bool{true, false}
	}
	for _, torn := range kinds {
		t.Run(fmt.Sprintf("torn-renames=%t", torn), func(t *testing.T) {
			d := damagedNight(t, torn)
			sibling, before := d.sibling(t), d.hurtNow(t)
			repair := func(dir durable.Dir) error {
				_, err := repairDrive(t, dir, RepairOptions{Siblings: []*Store{sibling}})
				return err
			}
			for seed := range crashSeeds() {
				sharedSweep(t, seed, d.drive, repair, func(t *testing.T, after durable.Dir, done error) {
					d.checkRepairedAgain(t, after, done, sibling, before)
				})
			}
		})
	}
}

// In a soak it is every call, otherwise each seventh.
func TestRepairSurvivesErrorsOfTheDrive(t *testing.T) {
	d := damagedNight(t, false)
	sibling, before := d.sibling(t), d.hurtNow(t)
	for call := 1; ; call += errorStep() {
		drive := d.drive.Clone(uint64(call))
		drive.FailAt(call)
		_, err := repairDrive(t, drive.Dir(), RepairOptions{Siblings: []*Store{sibling}})
		if drive.Calls() < call {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Run(fmt.Sprintf("call=%d", call), func(t *testing.T) {
			d.checkRepairedAgain(t, drive.Restart(), err, sibling, before)
		})
	}
}

// damagedNight is a small store with a pack that parity heals, one that is beyond
// it, a parity file that is missing and a copy that is rotten.
func damagedNight(t *testing.T, torn bool) stored {
	t.Helper()
	d := stored{drive: baddrive.New(1, baddrive.Options{TornRenames: torn}), disks: map[string][]byte{}}
	createStore(t, d.drive.Dir())
	s := openStore(t, d.drive.Dir(), Write)
	for i := range 3 {
		data := randomDisk(uint64(31+i), 1<<20)
		p := mustCapture(t, s, testMachine(fmt.Sprintf("m%d", i), map[string]Source{"disk0": &memoryDisk{data: data}}))
		d.disks[p.ID] = data
	}
	s.Close()
	data, sizes := packFiles(t, d.drive.Dir(), ".data")
	d.drive.FlipBit(data[0], 8*5000)
	d.drive.Erase(data[1], 10000, sizes[data[1]]/2)
	removeAll(d.drive, []string{data[2] + ".par"})
	points, _ := filesIn(t, d.drive.Dir(), "points")
	d.drive.FlipBit(points[0], 8*100)
	return d
}

// A drive that exports have filled still has what they keep free: what another
// drive gives has to go somewhere.
func TestRepairMayUseTheRoomThatIsKeptFree(t *testing.T) {
	d := newStored(t, 4)
	sibling := d.sibling(t)
	packs, sizes := filesIn(t, d.drive.Dir(), "packs")
	i := slices.IndexFunc(packs, func(name string) bool { return strings.HasSuffix(name, ".data") && sizes[name] > 500<<10 })
	d.drive.FlipBit(packs[i], 8*3000)
	if err := d.drive.Dir().Remove(packs[i] + ".par"); err != nil {
		t.Fatal(err)
	}
	l := smallLimits
	l.reserveFree = true
	s, err := Open(t.Context(), d.drive.Dir(), []Secret{testIdentity().Secret()}, OpenOptions{Mode: Alone, limits: l})
	if err != nil {
		t.Fatal(err)
	}
	// All that exports leave free, and it is enough for one pack.
	_, total, err := s.dir.Space()
	if err != nil {
		t.Fatal(err)
	}
	d.drive.FillAfter(s.reserve(total))
	report, err := s.Repair(t.Context(), RepairOptions{Siblings: []*Store{sibling}})
	if err != nil || len(report.Borrowed) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	d.check(t, d.drive.ReadOnlyDir())
}

// hurtNow are the points that do not restore whole.
func (d stored) hurtNow(t *testing.T) map[string]bool {
	t.Helper()
	s := openStore(t, d.drive.ReadOnlyDir(), Read)
	defer s.Close()
	hurt := map[string]bool{}
	for id, want := range d.disks {
		target := &memoryTarget{data: make([]byte, len(want))}
		hurt[id] = s.Restore(t.Context(), id, "disk0", target, RestoreOptions{}) != nil
	}
	return hurt
}

// checkRepairedAgain says that nothing got worse: the points are listed, those
// that were whole before the repair restore, no wrong byte comes; and that a
// second repair ends what the first began.
func (d stored) checkRepairedAgain(t *testing.T, after durable.Dir, done error, sibling *Store, before map[string]bool) {
	t.Helper()
	for _, mode := range []Mode{Read, Write, Read, Alone} {
		s, err := openWith(after, mode)
		if err != nil {
			t.Fatalf("open for mode %d: %v", mode, err)
		}
		if mode == Alone {
			if report, err := s.Repair(t.Context(), RepairOptions{Siblings: []*Store{sibling}}); err != nil {
				t.Errorf("the second repair: %+v, %v", report, err)
			}
		}
		points, _, err := s.Points(t.Context())
		if err != nil || len(points) != len(d.disks) {
			t.Fatalf("%d points of %d: %v", len(points), len(d.disks), err)
		}
		for _, p := range points {
			target := &memoryTarget{data: make([]byte, len(d.disks[p.ID]))}
			err := s.Restore(t.Context(), p.ID, "disk0", target, RestoreOptions{AllowDamaged: true})
			if err != nil && (mode == Alone || done == nil || !before[p.ID]) {
				t.Errorf("restore in mode %d: %v", mode, err)
			}
			var partial *DamagedRestore
			var hurt []lifeboat.Extent
			if errors.As(err, &partial) {
				hurt = partial.Hurt.Extents
			}
			checkPartial(t, err, target.data, d.disks[p.ID], hurt)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// rotRounds is how many damages the long proof makes.
func rotRounds() (flips, erasures int) {
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		return 10_000, 1_000
	}
	if testing.Short() {
		return 40, 10
	}
	return 240, 30
}

// TestEveryFlippedBitIsSeenAndHealed flips bits and erases cells anywhere in
// packs, parity, indexes and points: a few in a round, each in a file of its own,
// so that each has to be told by itself. All are within parity's reach, or there
// is a second copy, or they can be made anew.
func TestEveryFlippedBitIsSeenAndHealed(t *testing.T) {
	t.Parallel()
	d := newStored(t, 3)
	names, sizes := filesIn(t, d.drive.Dir(), "packs", "index", "points", "heads")
	r := rand.New(rand.NewPCG(77, 1))
	flips, erasures := rotRounds()
	for round := 0; flips+erasures > 0; round++ {
		drive := d.drive.Clone(uint64(round))
		hit := map[string]string{}
		for range 6 {
			name := pickBySize(r, names, sizes)
			if hit[copyKey(name)] != "" || flips+erasures == 0 {
				continue // the other copy of it is damaged already
			}
			hit[copyKey(name)] = name
			if flips > 0 {
				flips--
				drive.FlipBit(name, r.Int64N(8*sizes[name]))
				continue
			}
			erasures--
			at := r.Int64N((sizes[name]+4095)/4096) * 4096
			drive.Erase(name, at, min(4096, sizes[name]-at))
		}
		// A test of its own, because what a test opened is held until it ends.
		if !t.Run(strconv.Itoa(round), func(t *testing.T) { d.seenAndHealed(t, drive, hit) }) {
			return
		}
	}
}

// While a run of the index and a part of a tree are rotten, nobody knows which
// packs are needed: the damage of one shows only after they are healed, and is
// within parity's reach all the same.
func TestDamageThatShowsOnlyAfterARepairHasBegunIsHealed(t *testing.T) {
	t.Parallel()
	d := newStored(t, 3)
	packs, sizes := filesIn(t, d.drive.Dir(), "packs")
	runs, runSizes := filesIn(t, d.drive.Dir(), "index")
	seed := uint64(0)
	for _, run := range runs {
		for _, tree := range packs {
			for _, data := range packs {
				if path.Ext(tree) != ".tree" || path.Ext(data) != ".data" {
					continue
				}
				seed++
				drive := d.drive.Clone(seed)
				drive.FlipBit(run, 8*min(4096, runSizes[run]/2))
				drive.FlipBit(tree, 8*100)
				drive.FlipBit(data, 8*(sizes[data]/2))
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					if report, err := repairDrive(t, drive.Dir(), RepairOptions{}); err != nil {
						t.Fatalf("%s, %s and %s: %+v, %v", run, tree, data, report, err)
					}
					d.checkWhole(t, drive)
				})
			}
		}
	}
}

// copyKey is one for the copies of a file, and for a pack and its parity.
func copyKey(name string) string { return name[:len(name)-len(path.Ext(name))] }

func pickBySize(r *rand.Rand, names []string, sizes map[string]int64) string {
	if r.IntN(3) == 0 {
		return names[r.IntN(len(names))]
	}
	var total int64
	for _, name := range names {
		total += sizes[name]
	}
	at := r.Int64N(total)
	for _, name := range names {
		if at -= sizes[name]; at < 0 {
			return name
		}
	}
	return names[0]
}

func (d stored) seenAndHealed(t *testing.T, drive *baddrive.Drive, hit map[string]string) {
	t.Helper()
	s := openStore(t, drive.ReadOnlyDir(), Read)
	report, _ := s.Verify(t.Context(), VerifyOptions{})
	s.Close()
	lostIndex := false
	for _, name := range hit {
		lostIndex = lostIndex || strings.HasPrefix(name, "index/")
	}
	for _, name := range hit {
		if lostIndex && strings.HasPrefix(name, "packs/") {
			continue // without its run a pack is read if a point needs it; the repair finds it
		}
		if !slices.ContainsFunc(report.Faults, func(f Fault) bool {
			return len(f.File) >= len(name) && f.File[:len(name)] == name || f.File == copyKey(name)
		}) {
			t.Errorf("damage of %s was not seen: %+v", name, report.Faults)
		}
	}
	if report, err := repairDrive(t, drive.Dir(), RepairOptions{}); err != nil {
		t.Fatalf("%v: %+v, %v", hit, report, err)
	}
	d.checkWhole(t, drive)
}
