package imagestore

import (
	"context"
	"errors"
	"slices"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// walkPoints looks whether everything that points refer to is in a good place,
// and what that says of each point.
func (v *verification) walkPoints(ctx context.Context) error {
	if err := v.readDoubted(ctx); err != nil {
		return err
	}
	y := v.s.newSurvey(v.judge)
	if err := y.look(ctx, v.records); err != nil {
		return err
	}
	for _, r := range v.records {
		f, err := y.point(ctx, r)
		if err == nil && f == broken {
			f, err = v.brokenPoint(ctx, y, r)
		}
		if err != nil {
			return err
		}
		v.notePoint(r, f)
	}
	return nil
}

// judge is what is known of a place: from reading it now, or in a part from
// the record. What the record says never makes a marked place good.
func (v *verification) judge(p format.Place, id format.ID) fact {
	if state := v.packs[p.Pack]; state != nil {
		if v.bad(p) {
			return broken
		}
		return factAt(state.at)
	}
	if !v.o.part() || v.s.marks.has(p, id) {
		return broken
	}
	return factAt(v.checks.at(v.s.packs.pack(p.Pack).ID))
}

// factAt is the fact of what was last read then; 0 is never.
func factAt(seconds uint64) fact {
	return fact(min(max(seconds, uint64(unread)), uint64(latest)))
}

// brokenPoint looks at a point of which something is in no place that the index
// calls good: it may be in a pack that no run covers. What is nowhere is hurt.
func (v *verification) brokenPoint(ctx context.Context, y *survey, r record) (fact, error) {
	w := pointWalk{v: v, survey: y, seen: map[format.ID]bool{}}
	found := factAt(v.began)
	if v.o.part() {
		found = unread
	}
	for _, d := range r.Disks {
		level := format.RootLevel(d.Size)
		if err := w.tree(ctx, d.Root, level); err != nil {
			return broken, err
		}
		h := Hurt{PointID: r.point.ID, Machine: r.point.Machine.Name, Disk: d.Key}
		if err := v.hurt(ctx, &h, d, d.Root, level, 0); err != nil {
			return broken, err
		}
		if len(h.Extents) > 0 {
			v.report.Hurt = append(v.report.Hurt, h)
			found = broken
		}
	}
	return found, nil
}

// pointWalk visits the leaves and nodes with something broken below them.
type pointWalk struct {
	v       *verification
	survey  *survey
	seen    map[format.ID]bool
	entries []format.Entry
}

func (w *pointWalk) tree(ctx context.Context, id format.ID, level int) error {
	if id.IsZero() || w.seen[id] {
		return nil
	}
	if f, err := w.survey.fold(ctx, id, level); err != nil || f != broken {
		return err
	}
	w.seen[id] = true
	if ok, err := w.v.reachable(ctx, id); err != nil || !ok {
		w.v.badNodes[id], w.v.missing[id] = true, true
		return err
	}
	if level == 0 {
		return w.leaf(ctx, id)
	}
	children, err := w.v.s.node(ctx, id, level)
	if errors.Is(err, lifeboat.ErrDamaged) {
		w.v.badNodes[id] = true
		return nil
	}
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := w.tree(ctx, child, level-1); err != nil {
			return err
		}
	}
	return nil
}

func (w *pointWalk) leaf(ctx context.Context, id format.ID) error {
	var err error
	w.entries, err = w.v.s.leaf(ctx, id, w.entries[:0])
	if errors.Is(err, lifeboat.ErrDamaged) {
		w.v.badNodes[id] = true
		return nil
	}
	if err != nil {
		return err
	}
	delete(w.v.badLeaves, id) // another point may have looked at it
	for _, e := range w.entries {
		ok, err := w.v.reachable(ctx, e.ID)
		if err != nil {
			return err
		}
		if !ok {
			w.v.missing[e.ID] = false
			w.v.badLeaves[id] = append(w.v.badLeaves[id], blockRun{e.Start, e.End()})
		}
	}
	return nil
}

// reachable says whether a chunk is in a place that was read and found to be
// good. What is only about to be written is not.
func (v *verification) reachable(ctx context.Context, id format.ID) (bool, error) {
	var failed error
	good := func(p format.Place) bool {
		if !v.o.part() {
			failed = errors.Join(failed, v.readLate(ctx, p.Pack))
		}
		return v.judge(p, id) != broken
	}
	if _, ok, err := v.s.index.searchRuns(id, good); ok || err != nil || failed != nil {
		return ok, errors.Join(err, failed)
	}
	if err := v.s.scanUncovered(ctx); err != nil {
		return false, err
	}
	if _, ok, err := v.s.index.searchRuns(id, good); ok || err != nil || failed != nil {
		return ok, errors.Join(err, failed)
	}
	if _, ok := v.s.index.searchFound(id, good); ok || failed != nil {
		return ok, failed
	}
	v.noteUnreachable(id)
	return false, nil
}

// readLate reads a pack that no run covered when the packs were read: the index
// was lost, or the pack came since.
func (v *verification) readLate(ctx context.Context, number uint32) error {
	if v.packs[number] != nil {
		return nil
	}
	pack := v.s.packs.pack(number)
	return v.readPack(ctx, &v.late, planned{packFile: packFile{RunPack: pack}})
}

// noteUnreachable marks the place of a chunk in a pack whose directory could
// not be read, so that the next export writes it again.
func (v *verification) noteUnreachable(id format.ID) {
	p, ok, err := v.s.index.find(id)
	if err != nil || !ok || v.packs[p.Pack] == nil || v.packs[p.Pack].good == nil {
		return // told already, frame by frame
	}
	v.damaged(v.s.packs.pack(p.Pack), p.Offset, format.ErrCorrupt)
}

// hurt adds the ranges of a tree that cannot be read.
func (v *verification) hurt(ctx context.Context, h *Hurt, d format.PointDisk, id format.ID, level int, index int64) error {
	span := int64(format.RegionSize) << (10 * level)
	whole := lifeboat.Extent{Offset: index * span, Length: min(span, d.Size-index*span)}
	switch {
	case id.IsZero():
		return nil
	case v.badNodes[id]:
		h.Extents = appendExtent(h.Extents, whole)
		return nil
	case level == 0:
		runs := slices.Clone(v.badLeaves[id])
		for _, r := range runs {
			e := lifeboat.Extent{Offset: whole.Offset + int64(r.from)*format.BlockSize, Length: int64(r.to-r.from) * format.BlockSize}
			e.Length = min(e.Length, whole.End()-e.Offset)
			h.Extents = appendExtent(h.Extents, e)
		}
		return nil
	}
	children, err := v.s.node(ctx, id, level)
	if err != nil {
		return err
	}
	for i, child := range children {
		if err := v.hurt(ctx, h, d, child, level-1, index<<10+int64(i)); err != nil {
			return err
		}
	}
	return nil
}
