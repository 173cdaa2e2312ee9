package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/fixtures/baddrive"
	"lifeboat/internal/durable"
)

func (h *history) forget(dir durable.Dir, mode Mode, ids ...string) error {
	s, err := openWith(dir, mode)
	if err != nil {
		return err
	}
	return errors.Join(s.Forget(context.Background(), ids...), s.Close())
}

func TestForgetTakesPointsOffTheListAndRemovesNoData(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 2<<20, 3)
	before := packBytes(t, h.drive.Dir())
	s := openStore(t, h.drive.Dir(), Write)
	if err := s.Forget(t.Context(), h.points[0], "00000000000000000000000000000000"); !errors.Is(err, ErrNoPoint) {
		t.Errorf("a point that is not there: %v", err)
	}
	head := s.Head()
	if err := s.Forget(t.Context(), h.points[0], h.points[2], h.points[0]); err != nil {
		t.Fatal(err)
	}
	if s.Head().Sequence != head.Sequence+1 {
		t.Errorf("the head went from %d to %d", head.Sequence, s.Head().Sequence)
	}
	// The next export is above it.
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: h.disks[h.points[2]]}}))
	if p.Sequence != head.Sequence+2 || p.Disks[0].NewBytes != 0 {
		t.Errorf("the next export: %+v", p)
	}
	h.disks[p.ID] = h.disks[h.points[2]]
	s.Close()
	if after := packBytes(t, h.drive.Dir()); after != before {
		t.Errorf("the packs had %d bytes and have %d", before, after)
	}
	h.check(t, h.drive.Restart(), []string{h.points[1], p.ID})
	r := openStore(t, h.drive.ReadOnlyDir(), Read)
	if err := r.Forget(t.Context(), h.points[1]); err == nil {
		t.Error("a store that only reads forgot a point")
	}
}

func TestForgetSurvivesAPowerCutAndAnErrorAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Write, Alone} {
		h := newHistory(t, baddrive.Options{TornRenames: mode == Alone}, 1<<20, 3)
		left := h.points[2:]
		check := func(t *testing.T, after durable.Dir, done error) {
			if done == nil {
				h.check(t, after, left)
			} else {
				h.check(t, after, h.points, left)
			}
			for _, id := range h.points[:2] {
				if err := h.forget(after, mode, id); err != nil && !errors.Is(err, ErrNoPoint) {
					t.Fatal(err)
				}
			}
			h.check(t, after, left)
		}
		for seed := range crashSeeds() {
			sharedSweep(t, seed, h.drive, func(dir durable.Dir) error {
				return h.forget(dir, mode, h.points[:2]...)
			}, check)
		}
		for call := 1; ; call++ {
			d := h.drive.Clone(uint64(call))
			d.FailAt(call)
			err := h.forget(d.Dir(), mode, h.points[:2]...)
			if d.Calls() < call {
				break
			}
			t.Run(fmt.Sprintf("mode=%d/call=%d", mode, call), func(t *testing.T) { check(t, d.Restart(), err) })
		}
	}
}

// Whatever is exported, forgotten and pruned in whatever order: what is kept
// reads as it did, and a prune leaves at most twice what it needs.
func TestPruneKeepsEveryKeptPointInRandomHistories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := baddrive.New(rapid.Uint64().Draw(t, "seed"), baddrive.Options{})
		h := &history{drive: d, disks: map[string][]byte{}}
		create(t, d.Dir())
		data := randomDisk(1, 1<<20)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"export", "export", "forget", "prune"}).Draw(t, "step") {
			case "export":
				data = slices.Clone(data)
				at := rapid.IntRange(0, 200).Draw(t, "block") << 12
				copy(data[at:], randomDisk(rapid.Uint64().Draw(t, "content"), rapid.IntRange(1, 50).Draw(t, "blocks")<<12))
				h.exportRandom(t, data)
			case "forget":
				if len(h.points) > 0 {
					i := rapid.IntRange(0, len(h.points)-1).Draw(t, "point")
					if err := h.forget(d.Dir(), Write, h.points[i]); err != nil {
						t.Fatal(err)
					}
					h.points = slices.Delete(h.points, i, i+1)
				}
			case "prune":
				share := rapid.Float64Range(0.1, 1).Draw(t, "rewrite below")
				if _, err := prune(d.Dir(), PruneOptions{RewriteBelow: share}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := prune(d.Dir(), PruneOptions{}); err != nil {
			t.Fatal(err)
		}
		h.checkBound(t)
		// Not one byte of a store that was just pruned is moved again.
		if again, err := prune(d.Dir(), PruneOptions{}); err != nil || again.RemovedPacks+again.NoRoom > 0 {
			t.Fatalf("a second prune: %+v, %v", again, err)
		}
	})
}

func create(t *rapid.T, dir durable.Dir) {
	err := Create(context.Background(), dir, storeOptions())
	if err != nil {
		t.Fatal(err)
	}
}

func (h *history) exportRandom(t *rapid.T, data []byte) {
	s, err := openWith(h.drive.Dir(), Write)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Capture(context.Background(), testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	h.disks[p.ID] = data
	h.points = append(h.points, p.ID)
}

func (h *history) checkBound(t *rapid.T) {
	s, err := openWith(h.drive.Dir(), Read)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, id := range h.points {
		target := &memoryTarget{data: make([]byte, len(h.disks[id]))}
		if err := s.Restore(context.Background(), id, "disk0", target, RestoreOptions{Workers: 1}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(target.data, h.disks[id]) {
			t.Fatalf("point %s is not what was captured", id)
		}
	}
	if report, err := s.Verify(context.Background(), VerifyOptions{}); err != nil {
		t.Fatalf("%+v, %v", report, err)
	}
	records, _, err := s.recordsOf(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, uses, err := s.survey(context.Background(), records, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uses {
		if !u.present || u.share() < defaultRewriteBelow {
			t.Fatalf("of pack %s, %d of %d bytes are needed", packName(u.pack), u.needed, u.plain)
		}
	}
}
