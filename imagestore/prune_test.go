package imagestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// history is a store with several points of one machine, of which each differs
// from the one before in scattered places.
type history struct {
	drive *baddrive.Drive
	disks map[string][]byte
	// points are the ids, oldest first.
	points []string
}

func newHistory(t testing.TB, o baddrive.Options, size, nights int) *history {
	t.Helper()
	h := &history{drive: baddrive.New(1, o), disks: map[string][]byte{}}
	createStore(t, h.drive.Dir())
	data := randomDisk(31, size)
	for n := range nights {
		h.export(t, data)
		data = slices.Clone(data)
		r := rand.New(rand.NewPCG(uint64(n), 3))
		for range 12 {
			at := r.IntN(size/format.BlockSize-40) * format.BlockSize
			copy(data[at:at+30*format.BlockSize], randomDisk(r.Uint64(), 30*format.BlockSize))
		}
	}
	return h
}

func (h *history) export(t testing.TB, data []byte) {
	t.Helper()
	s := openStore(t, h.drive.Dir(), Write)
	c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}})
	c.Workers = 1
	p := mustCapture(t, s, c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h.disks[p.ID] = data
	h.points = append(h.points, p.ID)
}

// check opens the store in every mode: exactly the points in one of the lists
// are there, whole, and nothing is wrong with it.
func (h *history) check(t testing.TB, dir durable.Dir, lists ...[]string) {
	t.Helper()
	for i, mode := range []Mode{Read, Write, Alone, Read} {
		s, err := openWith(dir, mode)
		if err != nil {
			t.Fatalf("open for mode %d: %v", mode, err)
		}
		points, faults, err := s.Points(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range faults {
			if f.Lost {
				t.Errorf("lost: %+v", f)
			}
		}
		var ids []string
		for _, p := range points {
			ids = append(ids, p.ID)
		}
		if !slices.ContainsFunc(lists, func(l []string) bool { return slices.Equal(l, ids) }) {
			t.Errorf("the points are %v, which is none of %v", ids, lists)
		}
		// As it was found, and as the writers left it.
		if i == 0 || i == 3 {
			for _, id := range ids {
				checkDisk(t, s, id, "disk0", h.disks[id])
			}
			if report, err := s.Verify(context.Background(), VerifyOptions{}); err != nil {
				t.Errorf("verify %d: %v\n%+v", i, err, report.Faults)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func prune(dir durable.Dir, o PruneOptions) (PruneReport, error) {
	s, err := openWith(dir, Alone)
	if err != nil {
		return PruneReport{}, err
	}
	report, err := s.Prune(context.Background(), o, nil)
	return report, errors.Join(err, s.Close())
}

// packBytes is what the packs of a drive take up, with their parity.
func packBytes(t testing.TB, dir durable.Dir) int64 {
	t.Helper()
	s := openStore(t, dir, Read)
	defer s.Close()
	u, err := s.Usage(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return u.PackBytes + u.ParityBytes
}

func TestPruneGivesBackWhatNoKeptPointNeeds(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 12<<20, 6)
	before := packBytes(t, h.drive.Dir())
	all := int64(0)
	_, files := filesIn(t, h.drive.Dir(), "packs", "index")
	for _, size := range files {
		all += size
	}
	keep := h.points[4:]
	s := openStore(t, h.drive.Dir(), Alone)
	o := PruneOptions{Keep: keep, RewriteBelow: 0.9}
	plan, err := s.PlanPrune(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Forget) != 4 || len(plan.Keep) != 2 || plan.PackBytes != before || plan.RewritePacks == 0 || plan.RemovePacks == 0 {
		t.Errorf("the plan: %+v", plan)
	}
	var last Progress
	report, err := s.Prune(t.Context(), o, func(p Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	if last.DoneBytes != last.TotalBytes || last.TotalBytes != plan.RemoveBytes+plan.RewriteBytes {
		t.Errorf("progress ended at %+v", last)
	}
	if report.Forgotten != 4 || report.RemovedPacks != plan.RemovePacks+plan.RewritePacks || report.RewrittenPacks != plan.RewritePacks {
		t.Errorf("%+v for the plan %+v", report, plan)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after := packBytes(t, h.drive.Dir())
	if report.RemovedBytes-report.WrittenBytes != before-after || report.RemovedBytes != plan.RemoveBytes+plan.RewriteBytes {
		t.Errorf("%d bytes are now %d: %+v", before, after, report)
	}
	_, left := filesIn(t, h.drive.Dir(), "packs", "index")
	for _, size := range left {
		all -= size
	}
	if report.FreedBytes != all {
		t.Errorf("%d bytes were freed: %+v", all, report)
	}
	if freed := before - after; freed < plan.FreeEstimateBytes*8/10 {
		t.Errorf("freed %d bytes, planned %d", freed, plan.FreeEstimateBytes)
	}
	if marks, _ := h.drive.Dir().List("marks"); len(marks) != 0 {
		t.Errorf("%d marks are left", len(marks))
	}
	h.check(t, h.drive.Restart(), keep)
	// A second one has nothing to do.
	calls := h.drive.Calls()
	again, err := prune(h.drive.Dir(), PruneOptions{RewriteBelow: 0.9})
	if err != nil || again.RemovedPacks != 0 || again.WrittenBytes != 0 {
		t.Errorf("a second prune: %+v, %v", again, err)
	}
	if n := h.drive.Calls() - calls; n > 2 { // its locks
		t.Errorf("a second prune changed the drive %d times", n)
	}
}

func TestPruneOfEverythingLeavesAStoreThatTakesAnExport(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 6<<20, 2)
	if _, err := prune(h.drive.Dir(), PruneOptions{Keep: []string{}}); err != nil {
		t.Fatal(err)
	}
	if n := packBytes(t, h.drive.Dir()); n != 0 {
		t.Errorf("%d bytes of packs are left", n)
	}
	h.points = nil
	h.check(t, h.drive.Restart(), nil)
	h.export(t, randomDisk(5, 6<<20))
	h.check(t, h.drive.Restart(), h.points)
}

func TestPruneSurvivesAPowerCutAtEveryCall(t *testing.T) {
	t.Parallel()
	for seed := range crashSeeds() {
		torn := seed%2 == 1
		t.Run(fmt.Sprintf("torn-renames=%t", torn), func(t *testing.T) {
			h := newHistory(t, baddrive.Options{TornRenames: torn}, 1<<20, 3)
			o := PruneOptions{Keep: h.points[2:], RewriteBelow: 0.95}
			baddrive.Sweep(t, seed+1, h.drive, func(dir durable.Dir) error {
				_, err := prune(dir, o)
				return err
			}, func(t *testing.T, after durable.Dir, done error) {
				if done == nil {
					h.check(t, after, h.points[2:])
				} else {
					h.check(t, after, h.points, h.points[2:])
				}
				h.finish(t, after, o)
			})
		})
	}
}

// finish prunes again, and then nothing is left to be done.
func (h *history) finish(t *testing.T, dir durable.Dir, o PruneOptions) {
	t.Helper()
	if _, err := prune(dir, o); err != nil {
		t.Fatalf("the next prune: %v", err)
	}
	h.check(t, dir, o.Keep)
	if again, err := prune(dir, o); err != nil || again.RemovedPacks > 0 {
		t.Errorf("one more prune: %+v, %v", again, err)
	}
	if marks, _ := dir.List("marks"); len(marks) != 0 {
		t.Errorf("%d marks are left", len(marks))
	}
}

func TestPruneSurvivesAnErrorOfEveryCall(t *testing.T) {
	t.Parallel()
	h := newHistory(t, baddrive.Options{}, 1<<20, 3)
	o := PruneOptions{Keep: h.points[2:], RewriteBelow: 0.95}
	for call := 1; ; call++ {
		d := h.drive.Clone(uint64(call))
		d.FailAt(call)
		_, err := prune(d.Dir(), o)
		if d.Calls() < call {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Run(fmt.Sprintf("call=%d", call), func(t *testing.T) {
			after := d.Restart()
			h.check(t, after, h.points, h.points[2:])
			h.finish(t, after, o)
		})
	}
}

func TestPruneOnADriveThatFillsUpAtAnyByteLosesNothing(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 4<<20, 3)
	o := PruneOptions{Keep: h.points[2:], RewriteBelow: 0.95}
	step := int64(512 << 10)
	if crashSeeds() > 2 {
		step = 4 << 10
	}
	for left := int64(0); left < 6<<20; left += step {
		t.Run(fmt.Sprintf("left=%d", left), func(t *testing.T) {
			d := h.drive.Clone(1)
			d.FillAfter(left)
			_, err := prune(d.Dir(), o)
			if err != nil && !errors.Is(err, lifeboat.ErrDriveFull) {
				t.Fatal(err)
			}
			d.FillAfter(1 << 30)
			after := d.Restart()
			h.check(t, after, h.points, h.points[2:])
			h.finish(t, after, o)
		})
	}
}

func TestPruneIsRefusedBesideAReaderAndBesideAWriter(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 2<<20, 1)
	for _, mode := range []Mode{Read, Write} {
		other := openStore(t, h.drive.Dir(), mode)
		_, err := openWith(h.drive.Dir(), Alone)
		if !errors.Is(err, lifeboat.ErrDriveHeld) {
			t.Errorf("beside mode %d: %v", mode, err)
		}
		if mode == Write {
			if _, err := other.Prune(t.Context(), PruneOptions{}, nil); err == nil {
				t.Error("a store that was not opened alone was pruned")
			}
		}
		other.Close()
	}
}

func TestPruneThatIsStoppedGoesOnAnotherTime(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 4<<20, 3)
	o := PruneOptions{Keep: h.points[2:], RewriteBelow: 0.95}
	for n := 0; ; n += 150 {
		d := h.drive.Clone(1)
		s := openStore(t, d.Dir(), Alone)
		ctx := &countdown{Context: t.Context(), left: n}
		_, err := s.Prune(ctx, o, nil)
		if closed := s.Close(); closed != nil {
			t.Fatal(closed)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		h.check(t, d.Dir(), h.points, h.points[2:])
		h.finish(t, d.Dir(), o)
	}
}

// countdown is cancelled after it was asked so often.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestRewritePacksMovesEveryChunkOfTheChosenPacks(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 4<<20, 3)
	s := openStore(t, h.drive.Dir(), Alone)
	old, err := s.listPacks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.rewritePacks(t.Context(), func(p format.RunPack, h format.Header) bool { return h.Generation == 1 }, nil); err != nil {
		t.Fatal(err)
	}
	now, err := s.listPacks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range now {
		if slices.ContainsFunc(old, func(o packFile) bool { return o.ID == p.ID }) {
			t.Errorf("%s is still there", packName(p.RunPack))
		}
	}
	if len(now) == 0 {
		t.Error("no pack is left")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h.check(t, h.drive.Restart(), h.points)
}
