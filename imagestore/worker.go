package imagestore

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"lifeboat/imagestore/format"
)

// regionBuffers bounds the memory of all captures of a store together: a buffer
// of a region's size for each goroutine that has one to work on.
const regionBuffers = 12

// captureWorker reads regions, cuts and names their chunks and hands the new
// ones on. Each runs in a goroutine of its own.
type captureWorker struct {
	r       *captureRun
	namer   *format.Namer
	cutter  *format.Cutter
	chunks  *frameBuilder
	old     []format.Entry
	entries []format.Entry
	object  []byte
	// base is the older tree of the disk that is being read.
	base   *tree
	baseOf *diskPlan
}

func (r *captureRun) newWorker() *captureWorker {
	return &captureWorker{
		r:      r,
		namer:  format.NewNamer(r.s.super.ChunkKey),
		cutter: format.NewCutter(r.s.super.CutKey),
		chunks: r.s.writer.newBuilder(false, &r.meter.written),
	}
}

// readDisk reads what the plan says and returns the root of the new tree.
func (r *captureRun) readDisk(ctx context.Context, crew []*captureWorker, p *diskPlan) (format.ID, error) {
	var base *tree
	if p.fullRead == "" {
		base = r.s.newTree(p.base)
	}
	edit := r.s.newTreeEdit(p.size, base)
	var editMu sync.Mutex

	tasks := make(chan regionTask, len(crew))
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(tasks)
		return p.tasks(groupCtx, r.meter, func(t regionTask) error {
			select {
			case tasks <- t:
				return nil
			case <-groupCtx.Done():
				return groupCtx.Err()
			}
		})
	})
	for _, w := range crew {
		group.Go(func() error {
			for t := range tasks {
				id, err := w.region(groupCtx, p, t)
				if err != nil {
					return fmt.Errorf("region %d: %w", t.region, err)
				}
				editMu.Lock()
				err = edit.set(groupCtx, t.region, id)
				editMu.Unlock()
				if err != nil {
					return err
				}
				r.meter.done.Add(t.work)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return format.ID{}, err
	}
	return edit.finish(ctx, crew[0].putObject)
}

// region stores one region and returns its leaf's id.
func (w *captureWorker) region(ctx context.Context, p *diskPlan, t regionTask) (format.ID, error) {
	buffer, err := w.r.s.takeBuffer(ctx)
	if err != nil {
		return format.ID{}, err
	}
	defer w.r.s.giveBuffer(buffer)
	in := &regionReader{w: w, p: p, task: t, within: regionExtent(t.region, p.size)}
	in.buf = buffer[:in.within.Length]
	if p.fullRead == "" {
		if err := w.oldRegion(ctx, p, t.region); err != nil {
			return format.ID{}, err
		}
	}
	w.entries = w.entries[:0]
	if t.dirty == nil {
		err = w.whole(ctx, in)
	} else {
		err = w.touched(ctx, in)
	}
	if err != nil {
		return format.ID{}, err
	}
	p.data.Add(w.entryBytes(w.entries, in.within.Length))
	if len(w.entries) == 0 {
		return format.ID{}, nil
	}
	w.object = format.AppendLeaf(w.object[:0], w.entries)
	return w.putObject(w.object)
}

// oldRegion reads the leaf of the base. Its bytes leave the count of data.
func (w *captureWorker) oldRegion(ctx context.Context, p *diskPlan, region int64) error {
	if err := w.oldLeaf(ctx, p, region); err != nil {
		return err
	}
	if region < format.Regions(p.base.Size) {
		p.data.Add(-w.entryBytes(w.old, regionExtent(region, p.base.Size).Length))
	}
	return nil
}

// oldLeaf reads the leaf of the base into w.old.
func (w *captureWorker) oldLeaf(ctx context.Context, p *diskPlan, region int64) error {
	w.old = w.old[:0]
	if region >= format.Regions(p.base.Size) {
		return nil
	}
	if w.baseOf != p {
		w.base, w.baseOf = w.r.s.newTree(p.base), p
	}
	id, err := w.base.leafID(ctx, region)
	if err == nil {
		w.old, err = w.r.s.leaf(ctx, id, w.old)
	}
	if err != nil {
		return fmt.Errorf("read the older restore point: %w", err)
	}
	return nil
}

// entryBytes counts the bytes of chunks; the last one of a disk may be short.
func (w *captureWorker) entryBytes(entries []format.Entry, length int64) int64 {
	var n int64
	for _, e := range entries {
		n += min(int64(e.End())*format.BlockSize, length) - int64(e.Start)*format.BlockSize
	}
	return n
}

// whole cuts a region that was read whole.
func (w *captureWorker) whole(ctx context.Context, in *regionReader) error {
	blocks := format.Blocks(len(in.buf))
	if err := in.load(ctx, 0, blocks); err != nil {
		return err
	}
	for at := 0; ; {
		start, end := w.cutter.Next(in.buf, at)
		if start == blocks {
			return nil
		}
		if err := w.put(in, format.Entry{Start: start, Blocks: end - start}); err != nil {
			return err
		}
		at = end
	}
}

// touched cuts what changed of a region and carries over the rest.
func (w *captureWorker) touched(ctx context.Context, in *regionReader) error {
	s := &splicer{cutter: w.cutter, region: in, old: w.old, dirty: in.task.dirty, blocks: format.Blocks(len(in.buf))}
	pieces, err := s.splice(ctx)
	if err != nil {
		return err
	}
	if err := w.auditFlanks(ctx, in, s); err != nil {
		return err
	}
	for _, n := range pieces {
		if !n.fresh {
			w.entries = append(w.entries, n.Entry)
			continue
		}
		if err := w.put(in, n.Entry); err != nil {
			return err
		}
		if old, same := s.audited(n); same && old.ID != w.entries[len(w.entries)-1].ID {
			return errMapWrong
		}
	}
	return nil
}

// put names a chunk, hands it on if it is new, and adds it to the leaf.
func (w *captureWorker) put(in *regionReader, e format.Entry) error {
	b := in.buf[e.Start*format.BlockSize : min(e.End()*format.BlockSize, len(in.buf))]
	e.ID = w.namer.Chunk(b)
	fresh, err := w.chunks.put(e.ID, b)
	if err != nil {
		return err
	}
	if fresh {
		in.p.fresh.Add(int64(len(b)))
		w.r.meter.fresh.Add(int64(len(b)))
	}
	w.entries = append(w.entries, e)
	return nil
}

func (w *captureWorker) putObject(b []byte) (format.ID, error) {
	id := w.namer.Tree(b)
	_, err := w.r.trees.put(id, b)
	return id, err
}

// takeBuffer waits for a buffer of a region's size.
func (s *Store) takeBuffer(ctx context.Context) ([]byte, error) {
	select {
	case s.bufferTurns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case b := <-s.buffers:
		return b, nil
	default: // no more of them are made than are in use at once
		return make([]byte, format.RegionSize), nil
	}
}

func (s *Store) giveBuffer(b []byte) {
	s.buffers <- b[:format.RegionSize]
	<-s.bufferTurns
}
