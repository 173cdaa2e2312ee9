package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// RestoreTarget is where a disk is written to. It is written from several
// goroutines, each byte at most once.
type RestoreTarget interface {
	io.WriterAt
}

// HolePuncher is a RestoreTarget that may hold something already: PunchHole is
// called for every run that must read as zeros. A target without it is taken to
// read as zeros wherever it was not written, as a new sparse file does.
type HolePuncher interface {
	PunchHole(offset, length int64) error
}

// RestoreOptions refine a restore.
type RestoreOptions struct {
	// Compare reads the target before writing (it must be an io.ReaderAt) and
	// writes only what differs: for a restore that is taken up again.
	Compare bool
	// AllowDamaged goes on where something cannot be read: zeros are left there,
	// and the error is a *DamagedRestore that lists the ranges.
	AllowDamaged bool
	// Workers is the number of goroutines; 0 means one for each processor.
	Workers int
	// Progress, if set, is called about every tenth of a second and at the end.
	Progress func(Progress)
}

// Restore writes a disk of a restore point to w, byte for byte, each block
// checked; holes are skipped. On error the target holds a part of the disk.
func (s *Store) Restore(ctx context.Context, pointID, key string, w RestoreTarget, o RestoreOptions) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	d, err := s.openDisk(ctx, pointID, key)
	if err != nil {
		return err
	}
	r := &restore{d: d, target: w, meter: &meter{}, losses: losses{allowed: o.AllowDamaged}}
	r.holes, _ = w.(HolePuncher)
	if o.Compare {
		var ok bool
		if r.compare, ok = w.(io.ReaderAt); !ok {
			return errors.New("the target of a restore that compares cannot be read")
		}
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	r.meter.total.Store(d.size)
	stop := r.meter.report(o.Progress)
	defer stop()
	if err := r.run(ctx, o.Workers); err != nil {
		return s.explain(fmt.Errorf("restore disk %s of point %s: %w", key, pointID, err))
	}
	if len(r.losses.extents) == 0 {
		return nil
	}
	point, err := s.record(ctx, pointID)
	if err != nil {
		return err
	}
	return r.losses.err(pointID, point.point.Machine.Name, key)
}

// restore is a disk on its way back.
type restore struct {
	d       *Disk
	target  RestoreTarget
	holes   HolePuncher
	compare io.ReaderAt
	meter   *meter
	losses  losses
}

// run lets workers take regions in ascending order, so that a drive and a disk
// that seek are read and written nearly in sequence.
func (r *restore) run(ctx context.Context, workers int) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			w := restoreWorker{r: r}
			for {
				region := next.Add(1) - 1
				if region >= format.Regions(r.d.size) {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := w.region(ctx, regionExtent(region, r.d.size)); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// restoreWriteSize is one write to the target: long enough for a disk that
// seeks, short enough for the cache of the processor.
const restoreWriteSize = 1 << 20

// restoreWorker collects the chunks of a region that follow each other into
// large writes.
type restoreWorker struct {
	r     *restore
	buf   []byte
	start int64
	was   []byte
}

func (w *restoreWorker) region(ctx context.Context, within lifeboat.Extent) error {
	entries, err := w.r.d.leaf(ctx, within)
	if err != nil && w.r.losses.note(err, within) {
		return w.hole(within.Offset, within.End())
	}
	if err != nil {
		return err
	}
	at := within.Offset
	for _, e := range entries {
		c := chunkExtent(e, within)
		if c.Offset > at {
			if err := w.hole(at, c.Offset); err != nil {
				return err
			}
		}
		if err := w.chunk(ctx, e.ID, c); err != nil {
			return err
		}
		at = c.End()
	}
	if at < within.End() {
		return w.hole(at, within.End())
	}
	return w.flush()
}

func (w *restoreWorker) chunk(ctx context.Context, id format.ID, c lifeboat.Extent) error {
	if len(w.buf)+int(c.Length) > restoreWriteSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if w.buf == nil {
		w.buf = make([]byte, 0, restoreWriteSize)
	}
	if len(w.buf) == 0 {
		w.start = c.Offset
	}
	n := len(w.buf)
	w.buf = w.buf[:n+int(c.Length)]
	err := w.r.d.readChunk(ctx, w.buf[n:], id, c, c.Offset)
	if err != nil && w.r.losses.note(err, c) {
		clear(w.buf[n:])
		return nil
	}
	return err
}

func (w *restoreWorker) hole(from, to int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	w.r.meter.done.Add(to - from)
	if w.r.holes == nil {
		return nil
	}
	if err := w.r.holes.PunchHole(from, to-from); err != nil {
		return fmt.Errorf("make %d bytes of the target from %d zeros: %w", to-from, from, err)
	}
	return nil
}

func (w *restoreWorker) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	defer func() { w.buf = w.buf[:0] }()
	w.r.meter.done.Add(int64(len(w.buf)))
	if w.r.compare != nil && w.same() {
		return nil
	}
	if _, err := w.r.target.WriteAt(w.buf, w.start); err != nil {
		return fmt.Errorf("write %d bytes of the target from %d: %w", len(w.buf), w.start, err)
	}
	w.r.meter.written.Add(int64(len(w.buf)))
	return nil
}

// same says whether the target holds already what is to be written. What cannot
// be read is written.
func (w *restoreWorker) same() bool {
	if w.was == nil {
		w.was = make([]byte, restoreWriteSize)
	}
	was := w.was[:len(w.buf)]
	n, _ := w.r.compare.ReadAt(was, w.start)
	return n == len(was) && bytes.Equal(was, w.buf)
}
