package diskfile

import (
	"context"
	"path/filepath"
	"sync"

	"lifeboat"
)

// The part of a helper that writes. It writes new images only, see [Create].

// WriteAt writes p at the given offset.
func (h *helper) WriteAt(ctx context.Context, p []byte, offset int64) error {
	if err := checkInside(offset, int64(len(p)), h.SizeBytes()); err != nil {
		return err
	}
	h.fresh.mark(offset, int64(len(p)))
	wide := h.widen(lifeboat.Extent{Offset: offset, Length: int64(len(p))})
	if wide.Length == int64(len(p)) {
		h.fresh.edges.RLock()
		defer h.fresh.edges.RUnlock()
		return h.explain(h.Client.WriteAt(ctx, p, offset))
	}
	// The format writes whole sectors: keep what is around ours.
	h.fresh.edges.Lock()
	defer h.fresh.edges.Unlock()
	b := make([]byte, wide.Length)
	if err := h.Client.ReadAt(ctx, b, wide.Offset); err != nil {
		return h.explain(err)
	}
	copy(b[offset-wide.Offset:], p)
	return h.explain(h.Client.WriteAt(ctx, b, wide.Offset))
}

// widen makes an extent larger until the image can be written there.
func (h *helper) widen(e lifeboat.Extent) lifeboat.Extent {
	unit := h.Client.UnitBytes()
	start := e.Offset / unit * unit
	end := min((e.End()+unit-1)/unit*unit, h.Client.SizeBytes())
	return lifeboat.Extent{Offset: start, Length: end - start}
}

// ZeroAt makes a run read as zeros. What was never written, or is a hole, is
// left alone: some formats can only write zeros, and would grow.
func (h *helper) ZeroAt(ctx context.Context, offset, length int64) error {
	if err := checkInside(offset, length, h.SizeBytes()); err != nil {
		return err
	}
	for _, written := range h.fresh.written(lifeboat.Extent{Offset: offset, Length: length}) {
		data, err := h.Extents(ctx, written)
		if err != nil {
			return err
		}
		for _, e := range data {
			if err := h.zero(ctx, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// zero makes zeros of whole units, and writes them at the edges.
func (h *helper) zero(ctx context.Context, e lifeboat.Extent) error {
	unit := h.Client.UnitBytes()
	start, end := (e.Offset+unit-1)/unit*unit, e.End()/unit*unit
	if start >= end {
		return h.WriteAt(ctx, zeroPiece[:e.Length], e.Offset)
	}
	if err := h.WriteAt(ctx, zeroPiece[:start-e.Offset], e.Offset); err != nil {
		return err
	}
	if err := h.explain(h.Client.ZeroAt(ctx, start, end-start)); err != nil {
		return err
	}
	return h.WriteAt(ctx, zeroPiece[:e.End()-end], end)
}

// Sync returns once everything written is on the medium.
func (h *helper) Sync(ctx context.Context) error {
	if err := h.explain(h.Client.Flush(ctx)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(h.image.path))
}

// fresh remembers which parts of a new image were written; the rest is zeros.
type fresh struct {
	// edges keeps apart writes that read what is around them first.
	edges sync.RWMutex

	mu     sync.Mutex
	pieces map[int64]struct{}
}

// freshPiece is the unit of what is remembered: 24 bytes or so for each.
const freshPiece = 1 << 20

func (f *fresh) mark(offset, length int64) {
	if length == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pieces == nil {
		f.pieces = map[int64]struct{}{}
	}
	for at := offset / freshPiece; at <= (offset+length-1)/freshPiece; at++ {
		f.pieces[at] = struct{}{}
	}
}

// written returns the parts of an extent that may have been written.
func (f *fresh) written(within lifeboat.Extent) []lifeboat.Extent {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []lifeboat.Extent
	for at := within.Offset; at < within.End(); {
		end := min((at/freshPiece+1)*freshPiece, within.End())
		if _, ok := f.pieces[at/freshPiece]; ok {
			if n := len(list); n > 0 && list[n-1].End() == at {
				list[n-1].Length += end - at
			} else {
				list = append(list, lifeboat.Extent{Offset: at, Length: end - at})
			}
		}
		at = end
	}
	return list
}
