package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// newSibling is another drive of the same site, empty.
func newSibling(t testing.TB, o baddrive.Options) *baddrive.Drive {
	t.Helper()
	d := baddrive.New(2, o)
	err := Create(context.Background(), d.Dir(), CreateOptions{
		Drive: lifeboat.Drive{ID: "fedcba9876543210fedcba9876543210", Label: "C3"}, Site: testSite(),
		Slots: []NewSlot{{Name: "control machine", Recipient: testIdentity().Recipient()}}, Program: "test", Now: testTime,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// copyTo copies points of the history to another drive.
func (h *history) copyTo(dir durable.Dir, ids []string) (CopyReport, error) {
	from, err := openWith(h.drive.ReadOnlyDir(), Read)
	if err != nil {
		return CopyReport{}, err
	}
	defer from.Close()
	to, err := openWith(dir, Write)
	if err != nil {
		return CopyReport{}, err
	}
	report, err := to.Copy(context.Background(), from, ids, CopyOptions{})
	return report, errors.Join(err, to.Close())
}

func TestCopyBringsOnlyWhatTheOtherDriveLacks(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 9<<20+513, 3)
	target := newSibling(t, baddrive.Options{})
	first, err := h.copyTo(target.Dir(), h.points[:1])
	if err != nil || len(first.Copied) != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	from, to := openStore(t, h.drive.Dir(), Read), openStore(t, target.Dir(), Read)
	plan, err := to.PlanCopy(t.Context(), from, nil)
	if err != nil || len(plan.Points) != 2 || !slices.Equal(plan.Present, h.points[:1]) {
		t.Fatalf("%+v, %v", plan, err)
	}
	to.Close()
	rest, err := h.copyTo(target.Dir(), nil)
	if err != nil || len(rest.Copied) != 2 || !slices.Equal(rest.Present, h.points[:1]) {
		t.Fatalf("%+v, %v", rest, err)
	}
	if rest.NewBytes != plan.NewBytes || rest.NewBytes > first.NewBytes/2 || rest.WrittenBytes > rest.NewBytes {
		t.Errorf("%+v was planned, %+v done, after %+v", plan, rest, first)
	}
	for i, p := range rest.Copied {
		original, err := from.Point(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		if p.ID != h.points[i+1] || p.RunID != original.RunID || !p.TakenAt.Equal(original.TakenAt) || p.Sequence != uint64(i+2) ||
			p.CopiedFrom != from.Drive().ID || !slices.Equal(p.Disks, original.Disks) {
			t.Errorf("%+v was made of %+v", p, original)
		}
	}
	h.check(t, target.Restart(), h.points)
	again, err := h.copyTo(target.Dir(), nil)
	if err != nil || len(again.Copied) != 0 || again.WrittenBytes != 0 {
		t.Errorf("a second copy: %+v, %v", again, err)
	}
}

func TestCopySurvivesAPowerCutAtEveryCall(t *testing.T) {
	t.Parallel()
	h := newHistory(t, baddrive.Options{}, 1<<20, 2)
	for seed := range crashSeeds() {
		target := newSibling(t, baddrive.Options{TornRenames: seed%2 == 1})
		sharedSweep(t, seed, target, func(dir durable.Dir) error {
			_, err := h.copyTo(dir, nil)
			return err
		}, func(t *testing.T, after durable.Dir, done error) {
			if done == nil {
				h.check(t, after, h.points)
			} else {
				h.check(t, after, nil, h.points[:1], h.points)
			}
			if _, err := h.copyTo(after, nil); err != nil {
				t.Fatalf("the next copy: %v", err)
			}
			h.check(t, after, h.points)
		})
	}
}

// In a soak it is every call, otherwise each seventh.
func TestCopySurvivesAnErrorOfEveryCall(t *testing.T) {
	t.Parallel()
	h := newHistory(t, baddrive.Options{}, 1<<20, 2)
	target := newSibling(t, baddrive.Options{})
	for call := 1; ; call += errorStep() {
		d := target.Clone(uint64(call))
		d.FailAt(call)
		_, err := h.copyTo(d.Dir(), nil)
		if d.Calls() < call {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Run(fmt.Sprintf("call=%d", call), func(t *testing.T) {
			after := d.Restart()
			h.check(t, after, nil, h.points[:1], h.points)
			if _, err := h.copyTo(after, nil); err != nil {
				t.Fatal(err)
			}
			h.check(t, after, h.points)
		})
	}
}

func TestCopyToADriveThatFillsUpGoesOnWhereItWas(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 12<<20, 1)
	target := newSibling(t, baddrive.Options{})
	target.FillAfter(5 << 19)
	_, err := h.copyTo(target.Dir(), nil)
	if !errors.Is(err, lifeboat.ErrDriveFull) {
		t.Fatal(err)
	}
	target.FillAfter(1 << 30)
	whole := newSibling(t, baddrive.Options{})
	all, err := h.copyTo(whole.Dir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := h.copyTo(target.Restart(), nil)
	if err != nil || rest.NewBytes > all.NewBytes*9/10 {
		t.Errorf("%d of %d bytes were copied again: %v", rest.NewBytes, all.NewBytes, err)
	}
	h.check(t, target.Restart(), h.points)
}

func TestCopyOfADamagedPointIsRefusedAndTheOthersAreCopied(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 4<<20, 3)
	// The pack that only the last point needs, of data.
	s := openStore(t, h.drive.Dir(), Read)
	all, err := s.listPacks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	older := map[format.RunPack]bool{}
	live, err := s.liveOf(t.Context(), mustRecords(t, s, h.points[:2]))
	if err != nil {
		t.Fatal(err)
	}
	uses, err := s.packUses(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uses {
		older[u.pack] = u.live > 0
	}
	s.Close()
	for _, p := range all {
		if !p.Tree && !older[p.RunPack] {
			h.drive.FlipBit(packName(p.RunPack), 8*(format.HeaderSize+format.FrameHeaderSize+100))
		}
	}
	target := newSibling(t, baddrive.Options{})
	report, err := h.copyTo(target.Dir(), nil)
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Copied) != 2 || len(report.Hurt) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	s = openStore(t, h.drive.ReadOnlyDir(), Read)
	checkHurtExactly(t, s, report.Hurt[0], h.disks[h.points[2]])
	s.Close()
	h.check(t, target.Restart(), h.points[:2])
	// Refused as long as it is damaged, even though much of it is there now.
	report, err = h.copyTo(target.Dir(), nil)
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Copied) != 0 || len(report.Hurt) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	h.check(t, target.Restart(), h.points[:2])
}

func mustRecords(t *testing.T, s *Store, ids []string) []record {
	t.Helper()
	records, _, err := s.recordsOf(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestCopyFromADriveThatLostItsIndexFindsEverythingInThePacks(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 4<<20, 2)
	runs, err := h.drive.Dir().List("index")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		if err := h.drive.Dir().Remove("index/" + r.Name()); err != nil {
			t.Fatal(err)
		}
	}
	target := newSibling(t, baddrive.Options{})
	if report, err := h.copyTo(target.Dir(), nil); err != nil || len(report.Copied) != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	h.check(t, target.Restart(), h.points)
}

func TestCopyIsRefusedBetweenSitesAndToItself(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 1<<20, 1)
	d := baddrive.New(3, baddrive.Options{})
	site := testSite()
	site.ID, site.Name = "ffeeddccbbaa99887766554433221100", "Beispiel AG"
	err := Create(t.Context(), d.Dir(), CreateOptions{Drive: lifeboat.Drive{ID: "aaaabbbbccccddddaaaabbbbccccdddd", Label: "X1"}, Site: site,
		Slots: []NewSlot{{Name: "control machine", Recipient: testIdentity().Recipient()}}, Program: "test", Now: testTime})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.copyTo(d.Dir(), nil); !errors.Is(err, lifeboat.ErrWrongDrive) {
		t.Errorf("to another site: %v", err)
	}
	s := openStore(t, h.drive.Dir(), Write)
	if _, err := s.Copy(t.Context(), s, nil, CopyOptions{}); err == nil {
		t.Error("a store was copied to itself")
	}
	if _, err := s.Copy(t.Context(), openStore(t, newSibling(t, baddrive.Options{}).Dir(), Read), []string{"none"}, CopyOptions{}); !errors.Is(err, ErrNoPoint) {
		t.Errorf("a point that is not there: %v", err)
	}
}

// An older point that is copied later must not become the one that is booted.
func TestNewestIsNotAnOlderPointThatWasCopiedLater(t *testing.T) {
	a := newHistory(t, baddrive.Options{}, 1<<20, 1)
	b := newSibling(t, baddrive.Options{})
	s := openStore(t, b.Dir(), Write)
	c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(9, 1<<20)}})
	c.TakenAt = testTime.Add(24 * time.Hour)
	newer := mustCapture(t, s, c)
	s.Close()
	if _, err := a.copyTo(b.Dir(), nil); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, b.Dir(), Write)
	if p, err := s.Newest(t.Context(), "m1"); err != nil || p.ID != newer.ID {
		t.Errorf("the newest is %s, not %s: %v", p.ID, newer.ID, err)
	}
	// What is exported here afterwards is the newest, whatever the clock says.
	c.TakenAt = testTime.Add(-24 * time.Hour)
	last := mustCapture(t, s, c)
	if p, _ := s.Newest(t.Context(), "m1"); p.ID != last.ID {
		t.Error("the last export is not the newest point")
	}
}

// Nobody may take a copy for whole that left a point behind, whatever the reason.
func TestCopyTellsEveryPointThatItLeavesBehind(t *testing.T) {
	base := newHistory(t, baddrive.Options{}, 4<<20+513, 2)
	for name, damage := range map[string]struct {
		do      func(*baddrive.Drive)
		missing int
		left    []string
	}{
		"more of the index is lost than can be looked for": {func(d *baddrive.Drive) {
			runs, _ := filesIn(t, d.Dir(), "index")
			for _, run := range runs {
				d.FlipBit(run, 8*(format.RunPageSize+100))
			}
		}, 8, base.points},
		"a record": {func(d *baddrive.Drive) {
			for _, suffix := range []string{copyA, copyB} {
				d.FlipBit(fmt.Sprintf("points/%016x-%s%s", 1, base.points[0], suffix), 8*200)
			}
		}, maxMissing, base.points[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			d := base.drive.Clone(1)
			damage.do(d)
			target := newSibling(t, baddrive.Options{})
			from, to := openStore(t, d.ReadOnlyDir(), Read), openStore(t, target.Dir(), Write)
			from.limits.missing = damage.missing
			plan, err := to.PlanCopy(t.Context(), from, nil)
			if err != nil || !slices.Equal(leftBehind(plan.NotCopied), damage.left) {
				t.Errorf("the plan: %+v, %v", plan, err)
			}
			report, err := to.Copy(t.Context(), from, nil, CopyOptions{})
			if !errors.Is(err, lifeboat.ErrDamaged) || !slices.Equal(leftBehind(report.NotCopied), damage.left) || len(report.Copied)+len(damage.left) != 2 {
				t.Errorf("%+v, %v", report, err)
			}
			if report, err = to.Copy(t.Context(), from, damage.left[:1], CopyOptions{}); !errors.Is(err, lifeboat.ErrDamaged) || len(report.NotCopied) != 1 {
				t.Errorf("by its id: %+v, %v", report, err)
			}
		})
	}
}

func leftBehind(points []NotCopied) (ids []string) {
	for _, n := range points {
		ids = append(ids, n.PointID)
	}
	return ids
}
