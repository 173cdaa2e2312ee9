package imagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

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
	d.drive.FillAfter(s.Reserve(total))
	report, err := s.Repair(t.Context(), RepairOptions{Siblings: []*Store{sibling}})
	if err != nil || len(report.Borrowed) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	d.check(t, d.drive.ReadOnlyDir())
}
