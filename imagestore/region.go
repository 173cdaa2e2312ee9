package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// regionReader reads the blocks of a region from the source.
type regionReader struct {
	w      *captureWorker
	p      *diskPlan
	task   regionTask
	within lifeboat.Extent
	buf    []byte
	// loaded counts the bytes that came from the source.
	loaded int64
}

func (in *regionReader) bytes() []byte { return in.buf }

// load fills the blocks from from to to: allocated runs are read, the rest is
// zeros.
func (in *regionReader) load(ctx context.Context, from, to int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	part := in.buf[from*format.BlockSize : min(to*format.BlockSize, len(in.buf))]
	start := in.within.Offset + int64(from)*format.BlockSize
	at := 0
	for _, e := range in.task.extents {
		first, last := max(e.Offset, start), min(e.End(), start+int64(len(part)))
		if first >= last {
			continue
		}
		clear(part[at : first-start])
		at = int(last - start)
		if err := in.p.src.ReadAt(ctx, part[first-start:at], first); err != nil {
			return fmt.Errorf("read %d bytes from %d: %w", last-first, first, err)
		}
		in.loaded += last - first
		in.p.read.Add(last - first)
		in.w.r.meter.read.Add(last - first)
	}
	clear(part[at:])
	return nil
}

// loadOld takes blocks that did not change from the drive; from the source if
// the drive does not have them any more.
func (in *regionReader) loadOld(ctx context.Context, e format.Entry, from, to int) error {
	part := in.buf[from*format.BlockSize : min(to*format.BlockSize, len(in.buf))]
	err := in.w.r.s.chunk(ctx, e.ID, false, func(b []byte) error {
		if copy(part, b[min(len(b), (from-e.Start)*format.BlockSize):]) < len(part) {
			return fmt.Errorf("%w: a chunk of %d bytes", lifeboat.ErrDamaged, len(b))
		}
		return nil
	})
	if errors.Is(err, lifeboat.ErrDamaged) {
		return in.load(ctx, from, to)
	}
	return err
}

// For each so many bytes that changed, one may be read from the source although
// it did not change: production pays for those reads. A few always may, because
// they tell whether the change list is right.
const (
	rereadShare = 4
	rereadFirst = 256 << 10
)

func (in *regionReader) mayReread(blocks int) bool {
	n := int64(blocks) * format.BlockSize
	before := in.p.reread.Add(n) - n
	if before+n > rereadFirst+(in.p.read.Load()-before)/rereadShare {
		in.p.reread.Add(-n)
		return false
	}
	return true
}

// flankAudits is how many chunks of the older point are read per disk to compare
// them with clean blocks that had to be read again anyway. It is bounded because
// it costs reading from the drive.
const flankAudits = 64

// auditFlanks compares the clean blocks beside the dirty ones with the older
// point: if they differ, the change list missed something.
func (w *captureWorker) auditFlanks(ctx context.Context, in *regionReader, s *splicer) error {
	for _, e := range s.old {
		if !s.hasFlank(e) {
			continue
		}
		if in.p.flanks.Add(1) > flankAudits {
			return nil
		}
		err := w.r.s.chunk(ctx, e.ID, false, func(old []byte) error {
			if !s.flankEquals(e, old, in.buf) {
				return errors.Join(errStopped, errMapWrong)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("compare with the older restore point: %w", err)
		}
	}
	return nil
}

// hasFlank says whether a part of an old chunk, but not all, was read although
// it is clean. A chunk that is clean altogether is compared by its id.
func (p *splicer) hasFlank(e format.Entry) bool {
	clean, dirty := false, false
	for b := e.Start; b < e.End(); b++ {
		if p.isDirty(b) {
			dirty = true
		} else if p.loaded[b] == fromSource {
			clean = true
		}
	}
	return clean && dirty
}

func (p *splicer) flankEquals(e format.Entry, old, buf []byte) bool {
	for b := e.Start; b < e.End(); b++ {
		if p.isDirty(b) || p.loaded[b] != fromSource {
			continue
		}
		was := old[(b-e.Start)*format.BlockSize : min((b-e.Start+1)*format.BlockSize, len(old))]
		is := buf[b*format.BlockSize : min((b+1)*format.BlockSize, len(buf))]
		if !bytes.Equal(was, is) {
			return false
		}
	}
	return true
}
