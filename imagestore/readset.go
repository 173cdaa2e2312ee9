package imagestore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// Wanted is a part of a disk that somebody is going to read.
type Wanted struct {
	PointID, Disk string
	Extents       []lifeboat.Extent
}

const (
	// aheadRead is one read of [Store.ReadSet] at the most: a disk that seeks spends
	// its time reading then, and a guest never waits long behind it.
	aheadRead = 1 << 20
	// aheadGap is what is read along between two frames: a seek costs more.
	aheadGap = 64 << 10
)

// ReadSet reads what is wanted from the drive once, in the order in which it lies
// there, so that the system's memory has it when it is asked for at random. It
// keeps nothing of it and checks nothing: whoever reads it then does. pace is
// called after every read with its length, and may wait or end it all. It returns
// how many bytes it read.
func (s *Store) ReadSet(ctx context.Context, wanted []Wanted, pace func(ctx context.Context, n int) error) (int64, error) {
	spans, err := s.spansOf(ctx, wanted)
	if err != nil {
		return 0, err
	}
	var read int64
	b := make([]byte, aheadRead)
	for _, span := range spans {
		for at := span.from; at < span.to; {
			n := min(span.to-at, aheadRead)
			if err := s.readSpan(ctx, span.pack, b[:n], at); err != nil {
				return read, err
			}
			at, read = at+n, read+n
			if err := pace(ctx, int(n)); err != nil {
				return read, err
			}
		}
	}
	return read, nil
}

// packSpan is a run of bytes of a pack.
type packSpan struct {
	pack     uint32
	from, to int64
}

func (s *Store) readSpan(ctx context.Context, pack uint32, b []byte, at int64) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	if err := ctx.Err(); err != nil {
		return err
	}
	o, err := s.packs.acquire(pack)
	if err != nil {
		return s.explain(err)
	}
	defer s.packs.release(o)
	return s.explain(readFull(o.file, b, at))
}

// spansOf finds where the wanted chunks lie, in the order of the drive.
func (s *Store) spansOf(ctx context.Context, wanted []Wanted) ([]packSpan, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	frames := map[packSpan]bool{}
	for _, w := range wanted {
		d, err := s.openDisk(ctx, w.PointID, w.Disk)
		if err != nil {
			return nil, err
		}
		for _, e := range w.Extents {
			if err := d.framesOf(ctx, e, frames); err != nil {
				return nil, s.explain(fmt.Errorf("find what is read ahead of disk %s: %w", w.Disk, err))
			}
		}
	}
	all := make([]packSpan, 0, len(frames))
	for f := range frames {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b packSpan) int {
		return cmp.Or(cmp.Compare(a.pack, b.pack), cmp.Compare(a.from, b.from))
	})
	return joinSpans(all), nil
}

// framesOf adds the frames that a part of the disk is in.
func (d *Disk) framesOf(ctx context.Context, e lifeboat.Extent, frames map[packSpan]bool) error {
	from, to := max(e.Offset, 0), min(e.End(), d.size)
	for at := from; at < to; {
		if err := ctx.Err(); err != nil {
			return err
		}
		within := regionExtent(at/format.RegionSize, d.size)
		entries, err := d.leaf(ctx, within)
		if err != nil {
			return err
		}
		first := int((at - within.Offset) / format.BlockSize)
		i := sort.Search(len(entries), func(i int) bool { return entries[i].End() > first })
		for ; i < len(entries) && chunkExtent(entries[i], within).Offset < to; i++ {
			place, ok, err := d.s.index.find(entries[i].ID)
			if err != nil {
				return err
			}
			if ok {
				frames[packSpan{place.Pack, int64(place.Offset), int64(place.Offset) + int64(place.FrameSize())}] = true
			}
		}
		at = within.End()
	}
	return nil
}

// joinSpans joins spans of one pack that touch or nearly do. They are sorted.
func joinSpans(sorted []packSpan) []packSpan {
	var out []packSpan
	for _, s := range sorted {
		if n := len(out); n > 0 && out[n-1].pack == s.pack && s.from-out[n-1].to <= aheadGap {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}
