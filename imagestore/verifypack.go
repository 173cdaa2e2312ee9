package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/imagestore/format"
)

func trimFolder(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// packReader reads packs from front to end. Each goroutine has its own.
type packReader struct {
	v       *verification
	buf     []byte
	payload []byte
	lengths []uint32
}

// read checks one pack. Damage is noted; an error ends the verification.
func (r *packReader) read(ctx context.Context, pack format.RunPack) error {
	o, err := r.v.s.openPack(pack)
	if isGone(err) {
		return err
	}
	if err != nil {
		r.v.lostPack(pack, err)
		return nil
	}
	defer o.file.Close()
	if err := o.file.DropCache(0, o.size); err != nil {
		return err
	}
	state := &packState{}
	d, footer, err := o.directory()
	switch {
	case isGone(err):
		return err
	case err != nil:
		// Its frames speak for themselves.
		if !r.v.s.packs.isTorn(r.v.s.packs.add(pack)) {
			r.v.fault(Fault{File: packName(pack), Lost: false, Why: "the directory cannot be read: " + err.Error()})
		}
		state.good = map[uint32]bool{}
		err = r.v.s.scanTorn(ctx, o, pack.Tree, func(e format.RunEntry) { state.good[e.Place.Offset] = true })
		if err != nil && !isDamage(err) {
			return err
		}
	default:
		state.bad = map[uint32]bool{}
		if err := r.frames(ctx, o, pack, d, state); err != nil {
			return err
		}
		if end := lastEnd(d); end != footer.Offset {
			r.v.fault(Fault{File: packName(pack), Why: fmt.Sprintf("%d bytes belong to no frame", footer.Offset-end)})
		}
	}
	r.v.mu.Lock()
	r.v.packs[r.v.s.packs.add(pack)] = state
	r.v.report.Packs++
	r.v.mu.Unlock()
	r.v.meter.read.Add(o.size)
	return nil
}

func lastEnd(d format.Directory) uint32 {
	if len(d) == 0 {
		return format.HeaderSize
	}
	return d[len(d)-1].Offset + d[len(d)-1].Size
}

func (r *packReader) frames(ctx context.Context, o *openPack, pack format.RunPack, d format.Directory, state *packState) error {
	if r.buf == nil {
		r.buf = make([]byte, format.MaxFrameSize)
		r.payload = make([]byte, 0, format.PayloadBuffer)
	}
	chunks := int64(0)
	for _, f := range d {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.frame(o, pack, f)
		if isGone(err) {
			return err
		}
		if err != nil {
			state.bad[f.Offset] = true
			r.v.damaged(pack, f.Offset, err)
		}
		chunks += int64(len(f.Chunks))
		r.v.meter.done.Add(int64(f.Size))
	}
	r.v.mu.Lock()
	r.v.report.Frames += int64(len(d))
	r.v.report.Chunks += chunks
	r.v.mu.Unlock()
	return nil
}

// frame opens a frame and recomputes the ids of its chunks.
func (r *packReader) frame(o *openPack, pack format.RunPack, f format.DirectoryFrame) error {
	b := r.buf[:f.Size]
	if err := readFull(o.file, b, int64(f.Offset)); err != nil {
		return err
	}
	var err error
	r.payload, r.lengths, _, err = o.key.OpenFrame(r.payload[:0], r.lengths[:0], b)
	if err != nil {
		return err
	}
	if len(r.lengths) != len(f.Chunks) {
		return format.ErrCorrupt
	}
	at := 0
	for i, c := range f.Chunks {
		n := int(r.lengths[i])
		if uint32(n) != c.Length || r.v.s.index.namers.name(r.payload[at:at+n], pack.Tree) != c.ID {
			return fmt.Errorf("%w: chunk %d has another id", format.ErrCorrupt, i)
		}
		at += n
	}
	return nil
}

// walkPoints looks whether everything that points refer to is in a good place.
// Trees share most of their leaves; each is looked at once.
func (v *verification) walkPoints(ctx context.Context) error {
	w := pointWalk{v: v, seen: map[format.ID]bool{}}
	for _, r := range v.records {
		for _, d := range r.Disks {
			if err := w.tree(ctx, d.Root, format.RootLevel(d.Size)); err != nil {
				return err
			}
		}
	}
	if len(v.badLeaves) == 0 && len(v.badNodes) == 0 {
		return nil
	}
	// Only now is it worth knowing which points each of them hurts.
	for _, r := range v.records {
		for _, d := range r.Disks {
			h := Hurt{PointID: r.point.ID, Machine: r.point.Machine.Name, Disk: d.Key}
			if err := v.hurt(ctx, &h, d, d.Root, format.RootLevel(d.Size), 0); err != nil {
				return err
			}
			if len(h.Extents) > 0 {
				v.report.Hurt = append(v.report.Hurt, h)
			}
		}
	}
	return nil
}

// neededPacks are the packs in which the index finds something of the points.
// Whatever is not found here is looked for when the points are walked.
func (v *verification) neededPacks(ctx context.Context) (map[format.RunPack]bool, error) {
	needed := map[format.RunPack]bool{}
	note := func(id format.ID) error {
		p, ok, err := v.s.index.find(id)
		if ok {
			needed[v.s.packs.pack(p.Pack)] = true
		}
		return err
	}
	seen := map[format.ID]bool{}
	for _, r := range v.records {
		for _, d := range r.Disks {
			if err := v.visit(ctx, d.Root, format.RootLevel(d.Size), seen, note); err != nil {
				return nil, err
			}
		}
	}
	return needed, nil
}

// visit calls note for everything in a tree that can be read, each once.
func (v *verification) visit(ctx context.Context, id format.ID, level int, seen map[format.ID]bool, note func(format.ID) error) error {
	if id.IsZero() || seen[id] {
		return nil
	}
	seen[id] = true
	if err := errors.Join(ctx.Err(), note(id)); err != nil {
		return err
	}
	var children []format.ID
	var err error
	if level > 0 {
		children, err = v.s.node(ctx, id, level)
	} else {
		var entries []format.Entry
		entries, err = v.s.leaf(ctx, id, nil)
		for _, e := range entries {
			if err := note(e.ID); err != nil {
				return err
			}
		}
	}
	if errors.Is(err, lifeboat.ErrDamaged) {
		return nil
	}
	for _, child := range children {
		err = errors.Join(err, v.visit(ctx, child, level-1, seen, note))
	}
	return err
}

// pointWalk visits each leaf and node once.
type pointWalk struct {
	v       *verification
	seen    map[format.ID]bool
	entries []format.Entry
}

func (w *pointWalk) tree(ctx context.Context, id format.ID, level int) error {
	if id.IsZero() || w.seen[id] {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.seen[id] = true
	if ok, err := w.v.reachable(ctx, id); err != nil || !ok {
		w.v.badNodes[id] = true
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
	for _, e := range w.entries {
		ok, err := w.v.reachable(ctx, e.ID)
		if err != nil {
			return err
		}
		if !ok {
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
		failed = errors.Join(failed, v.readLate(ctx, p.Pack))
		return !v.bad(p)
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
	return v.late.read(ctx, v.s.packs.pack(number))
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
