package imagestore

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"lifeboat/fixtures/baddrive"
	"lifeboat/internal/durable"
)

// packsFor are the packs that hold something of a point, in whichever places,
// with what is in the files.
func packsFor(t *testing.T, dir durable.Dir, id string) map[string]string {
	t.Helper()
	s := openStore(t, dir, Read)
	defer s.Close()
	r, err := s.record(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.index.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, uses, err := s.survey(t.Context(), []record{r}, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, u := range uses {
		if u.live == 0 {
			continue
		}
		b, err := durable.ReadWhole(dir, packName(u.pack), 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		files[packName(u.pack)] = string(b)
	}
	return files
}

// sameFiles checks that files are on a drive as they were.
func sameFiles(t *testing.T, dir durable.Dir, want map[string]string) {
	t.Helper()
	for name, data := range want {
		if b, err := durable.ReadWhole(dir, name, 1<<30); err != nil || string(b) != data {
			t.Errorf("%s is not as it was: %v", name, err)
		}
	}
}

func TestPruneTouchesNoPackOfAnUntouchedPoint(t *testing.T) {
	base := newHistory(t, baddrive.Options{}, 12<<20, 6)
	for _, keep := range [][]string{base.points[3:], base.points[5:], {base.points[0], base.points[5]}, nil} {
		for _, untouched := range [][]string{base.points[5:], {base.points[0]}, base.points[:0]} {
			if keep != nil && len(untouched) > 0 && !slices.Contains(keep, untouched[0]) {
				continue
			}
			t.Run(fmt.Sprintf("%d kept, %d untouched", len(keep), len(untouched)), func(t *testing.T) {
				d := base.drive.Clone(1)
				before := map[string]string{}
				for _, id := range untouched {
					before = packsFor(t, d.Dir(), id)
				}
				o := PruneOptions{Keep: keep, RewriteBelow: 1, Untouched: untouched}
				s := openStore(t, d.Dir(), Read)
				plan, err := s.PlanPrune(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				s.Close()
				report, err := prune(d.Dir(), o)
				if err != nil {
					t.Fatal(err)
				}
				sameFiles(t, d.Dir(), before)
				if len(keep) == 0 {
					keep = base.points
				}
				base.check(t, d.Restart(), keep)
				if report.Untouched != plan.UntouchedPacks || (plan.UntouchedPacks > 0) != (plan.UntouchedBytes > 0) {
					t.Errorf("%+v for the plan %+v", report, plan)
				}
				if len(untouched) == 0 && report.Untouched != 0 || len(untouched) > 0 && len(keep) == 1 && plan.UntouchedBytes == 0 {
					t.Errorf("room that is left lying: %+v", plan)
				}
			})
		}
	}
}

func TestOnlyAPointThatStaysCanBeUntouched(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 2<<20, 2)
	o := PruneOptions{Keep: h.points[1:], Untouched: h.points[:1]}
	s := openStore(t, h.drive.Dir(), Alone)
	_, planned := s.PlanPrune(t.Context(), o)
	_, err := s.Prune(t.Context(), o, nil)
	if !errors.Is(planned, ErrNoPoint) || !errors.Is(err, ErrNoPoint) {
		t.Errorf("%v, %v", planned, err)
	}
	s.Close()
	h.check(t, h.drive.Dir(), h.points)
}

// Whenever the power goes, the packs of the untouched point are as they were.
func TestPruneSurvivesAPowerCutWithoutTouchingThePoint(t *testing.T) {
	t.Parallel()
	h := newHistory(t, baddrive.Options{}, 1<<20, 2)
	for night := range 2 {
		data := slices.Concat(randomDisk(uint64(70+night), 512<<10), randomDisk(55, 512<<10))
		s := openStore(t, h.drive.Dir(), Write)
		c := testMachine("m2", map[string]Source{"disk0": &memoryDisk{data: data}})
		c.Workers = 1
		p := mustCapture(t, s, c)
		s.Close()
		h.disks[p.ID], h.points = data, append(h.points, p.ID)
	}
	before := packsFor(t, h.drive.Dir(), h.points[1])
	keep := []string{h.points[1], h.points[3]}
	o := PruneOptions{Keep: keep, RewriteBelow: 1, Untouched: keep[:1]}
	calls := h.drive.Clone(1)
	if report, err := prune(calls.Dir(), o); err != nil || report.RewrittenPacks == 0 || report.Untouched == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	first, last := h.drive.Calls()+1, calls.Calls()
	for n := first; n <= last; n += max(1, (last-first)/12) {
		d := h.drive.Clone(uint64(n))
		d.CutPowerAt(n)
		prune(d.Dir(), o)
		after := d.Restart()
		sameFiles(t, after, before)
		h.check(t, after, h.points, keep)
		h.finish(t, after, o)
		sameFiles(t, after, before)
	}
}
