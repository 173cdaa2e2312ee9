package imagestore

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/internal/durable"
)

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
