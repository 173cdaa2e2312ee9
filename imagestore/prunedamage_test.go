package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// uses returns what a prune that keeps these points knows of the packs.
func (h *history) uses(t *testing.T, keep []string) []*packUse {
	t.Helper()
	s := openStore(t, h.drive.ReadOnlyDir(), Read)
	defer s.Close()
	_, uses, err := s.survey(t.Context(), mustRecords(t, s, keep), nil)
	if err != nil {
		t.Fatal(err)
	}
	return uses
}

// damage damages the first frame of a pack.
func (h *history) damage(p format.RunPack) {
	h.drive.FlipBit(packName(p), 8*(format.HeaderSize+format.FrameHeaderSize+100))
}

func TestPruneRefusesWhenItCannotReadWhatThePointsNeed(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 2<<20, 3)
	before := packBytes(t, h.drive.Dir())
	for _, u := range h.uses(t, h.points[2:]) {
		if u.pack.Tree && u.live > 0 {
			h.damage(u.pack)
		}
	}
	_, err := prune(h.drive.Dir(), PruneOptions{Keep: h.points[2:]})
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !errors.Is(err, lifeboat.ErrDamaged) || p.Safe != "nothing was removed" {
		t.Errorf("got %v", err)
	}
	if after := packBytes(t, h.drive.Dir()); after != before {
		t.Errorf("of %d bytes %d are left", before, after)
	}
	s := openStore(t, h.drive.Dir(), Read)
	if points, _, _ := s.Points(t.Context()); len(points) != 3 {
		t.Errorf("%d points are left", len(points))
	}
	s.Close()
	// Without the points that are hurt it goes on.
	if _, err := prune(h.drive.Dir(), PruneOptions{Keep: []string{}}); err != nil {
		t.Error(err)
	}
}

func TestPruneRefusesWhileTheRecordOfAPointCannotBeRead(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 1<<20, 2)
	names, err := h.drive.Dir().List("points")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names[:2] {
		h.drive.Erase("points/"+n.Name(), 90, 8)
	}
	if _, err := prune(h.drive.Dir(), PruneOptions{}); !errors.Is(err, lifeboat.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if err := h.forget(h.drive.Dir(), Write, h.points[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := prune(h.drive.Dir(), PruneOptions{}); err != nil {
		t.Error(err)
	}
	h.check(t, h.drive.Restart(), h.points[1:])
}

func TestPruneKeepsAPackThatMayHoldTheLastGoodCopy(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 4<<20, 3)
	keep := h.points[2:]
	o := PruneOptions{Keep: keep, RewriteBelow: 0.95}
	var hurt *packUse
	for _, u := range h.uses(t, keep) {
		if !u.pack.Tree && u.live > 0 && u.share() < 0.95 {
			hurt = u
		}
	}
	if hurt == nil {
		t.Fatal("no pack is to be rewritten")
	}
	// Every frame of it, so that a needed one is among them.
	for at := int64(format.HeaderSize + 500); at < hurt.size-80000; at += 100 << 10 {
		h.drive.FlipBit(packName(hurt.pack), 8*at)
	}
	report, err := prune(h.drive.Dir(), o)
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Kept) != 1 || report.Kept[0].File != packName(hurt.pack) {
		t.Fatalf("%+v, %v", report, err)
	}
	if _, err := h.drive.Dir().Stat(packName(hurt.pack)); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, h.drive.Dir(), Write)
	found, err := s.Verify(t.Context(), VerifyOptions{})
	if !errors.Is(err, lifeboat.ErrDamaged) || len(found.Hurt) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	checkHurtExactly(t, s, found.Hurt[0], h.disks[keep[0]])
	s.Close()

	// The next export writes it again, and then the pack may go.
	h.points = keep
	h.export(t, h.disks[keep[0]])
	if _, err := prune(h.drive.Dir(), PruneOptions{RewriteBelow: 0.95}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.drive.Dir().Stat(packName(hurt.pack)); err == nil {
		t.Error("the damaged pack is still there")
	}
	h.check(t, h.drive.Restart(), h.points)
}

func TestPruneBesideALostPackStillTellsWhatIsHurt(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 4<<20, 3)
	keep := h.points[1:]
	var lost *packUse
	for _, u := range h.uses(t, h.points[2:]) {
		if !u.pack.Tree && u.live > 0 {
			lost = u
		}
	}
	if err := h.drive.Dir().Remove(packName(lost.pack)); err != nil {
		t.Fatal(err)
	}
	verify := func() []Hurt {
		s := openStore(t, h.drive.ReadOnlyDir(), Read)
		defer s.Close()
		report, err := s.Verify(t.Context(), VerifyOptions{Points: keep})
		if !errors.Is(err, lifeboat.ErrDamaged) {
			t.Fatal(err)
		}
		return report.Hurt
	}
	before := verify()
	if _, err := prune(h.drive.Dir(), PruneOptions{Keep: keep, RewriteBelow: 0.95}); err != nil {
		t.Fatal(err)
	}
	after := verify()
	if len(before) == 0 || !slices.EqualFunc(before, after, func(a, b Hurt) bool { return a.PointID == b.PointID && slices.Equal(a.Extents, b.Extents) }) {
		t.Errorf("hurt before: %+v, after: %+v", before, after)
	}
}

// A power cut leaves packs without an end, which the next writer takes in.
func TestPruneOfTornPacksKeepsWhatIsNeededOfThem(t *testing.T) {
	t.Parallel()
	data := randomDisk(5, 4<<20)
	half := slices.Clone(data)
	clear(half[:2<<20])
	base, tried := newDrive(t), 0
	for seed := uint64(1); tried < 3; seed++ {
		if seed > 200 {
			t.Fatalf("only %d power cuts left a torn pack", tried)
		}
		d := base.Clone(seed)
		d.CutPowerAt(6 + int(seed%9))
		if s, err := openWith(d.Dir(), Write); err == nil {
			s.Capture(t.Context(), testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
			s.Close()
		}
		h := &history{drive: d, disks: map[string][]byte{}}
		d.Restart()
		h.export(t, half)
		torn := h.tornPacks(t)
		if len(torn) == 0 {
			continue
		}
		tried++
		if report, err := prune(d.Dir(), PruneOptions{RewriteBelow: 1}); err != nil {
			t.Fatalf("%+v, %v", report, err)
		}
		h.check(t, d.Restart(), h.points)
		if _, err := prune(d.Dir(), PruneOptions{Keep: []string{}}); err != nil {
			t.Fatal(err)
		}
		if n := packBytes(t, d.Dir()); n != 0 {
			t.Errorf("%d bytes of packs are left", n)
		}
	}
}

// tornPacks are those without a directory that an index run covers.
func (h *history) tornPacks(t *testing.T) (torn []format.RunPack) {
	t.Helper()
	s := openStore(t, h.drive.Dir(), Read)
	defer s.Close()
	for p := range s.index.coveredNow() {
		if s.packs.isTorn(s.packs.add(p)) {
			torn = append(torn, p)
		}
	}
	return torn
}

// Neither prune nor a new key takes away a pack of which only a part opens while
// the index lacks what a point needs: it may be that other part.
func TestNothingRemovesAPackThatMayHoldWhatTheIndexLacks(t *testing.T) {
	for name, remove := range map[string]func(*Store) error{
		"prune": func(s *Store) error {
			_, err := s.Prune(context.Background(), PruneOptions{RewriteBelow: 1.01}, nil)
			return err
		},
		"a new key": resealAll,
	} {
		for _, parity := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, parity=%t", name, parity), func(t *testing.T) {
				d := newStored(t, 4)
				pack := d.halfReadable(t)
				runs, _ := filesIn(t, d.drive.Dir(), "index")
				removeAll(d.drive, runs)
				away := d.drive.Clone(1) // where the parity is kept meanwhile
				if !parity {
					removeAll(d.drive, []string{pack + ".par"})
				}
				if err := change(Alone, remove)(d.drive.Dir()); !errors.Is(err, lifeboat.ErrDamaged) {
					t.Errorf("it was not told: %v", err)
				}
				if !parity {
					par, err := durable.ReadWhole(away.Dir(), pack+".par", format.MaxParityFile)
					if err == nil {
						err = putBack(d.drive, pack+".par", par)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if report, err := repairDrive(t, d.drive.Dir(), RepairOptions{}); err != nil {
					t.Errorf("%+v, %v", report, err)
				}
				d.checkWhole(t, d.drive)
			})
		}
	}
}

// An export has written anew what was damaged in a pack: then the pack is worth
// only what else is in it.
func TestPruneTakesAMarkedPackWhoseChunksAreElsewhere(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 1<<20, 1)
	var hurt *packUse
	for _, u := range h.uses(t, h.points) {
		if !u.pack.Tree && (hurt == nil || u.size > hurt.size) {
			hurt = u
		}
	}
	for at := int64(format.HeaderSize + 500); at < hurt.size-40000; at += 8 << 10 {
		h.drive.FlipBit(packName(hurt.pack), 8*at)
	}
	s := openStore(t, h.drive.Dir(), Read)
	if _, err := s.Verify(t.Context(), VerifyOptions{}); !errors.Is(err, lifeboat.ErrDamaged) {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, h.drive.Dir(), Write)
	s.index.frozen.Store(true) // as when the older run is much larger: both stay
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: h.disks[h.points[0]]}}))
	s.Close()
	h.disks[p.ID], h.points = h.disks[h.points[0]], append(h.points, p.ID)
	// A copy that is marked nowhere and bad all the same is read before it counts.
	sick := h.drive.Clone(1)
	for _, u := range h.uses(t, h.points) {
		if !u.pack.Tree && u.pack != hurt.pack {
			(&history{drive: sick}).damage(u.pack)
		}
	}
	if report, err := prune(sick.Dir(), PruneOptions{}); !errors.Is(err, lifeboat.ErrDamaged) || len(report.Kept) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	if report, err := prune(h.drive.Dir(), PruneOptions{}); err != nil || report.RemovedPacks != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	h.check(t, h.drive.Restart(), h.points)
}

// A prune on a drive that is nearly full leaves a pack where it is, rather than
// to end in the middle for want of room.
func TestPruneOfANearlyFullDriveLeavesPacksRatherThanFail(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 4<<20, 3)
	keep := h.points[2:]
	for free := int64(200 << 10); free < 8<<20; free += 200 << 10 {
		drive := h.drive.Clone(1)
		drive.FillAfter(free)
		if report, err := prune(drive.Dir(), PruneOptions{Keep: keep, RewriteBelow: 0.95}); err != nil {
			t.Errorf("with %d KiB free: %+v, %v", free>>10, report, err)
		}
	}
}

// A copy that only a memory still has is no reason to remove another one.
func TestPruneTakesACopyForGoodOnlyFromTheMedium(t *testing.T) {
	drive, points, _ := manyPacks(t)
	s := openStore(t, drive.Dir(), Alone)
	r, err := s.record(t.Context(), points[1].ID)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := s.newTree(r.Disks[0]).leafID(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := s.leaf(t.Context(), leaf, nil)
	if err != nil {
		t.Fatal(err)
	}
	id := entries[0].ID
	for _, want := range []bool{true, false} { // the first reading leaves it in memory
		if good, err := s.newPruning(nil).goodElsewhere(t.Context(), id, false); good != want || err != nil {
			t.Errorf("good: %t, %v", good, err)
		}
		if want {
			flipDataOf(t, drive, s, points[1].ID)
		}
	}
}
