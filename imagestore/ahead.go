package imagestore

import (
	"context"
	"runtime"
	"sort"
	"sync"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// Reading ahead: a reader that goes through a disk in order finds the next
// frames decoded. A guest that boots reads files this way, a few KiB at a time,
// while the other processors have nothing to do.
const (
	// aheadBytes is how far the frames behind a reader are decoded: two of them.
	aheadBytes = 512 << 10
	// aheadStart is how much must have been read in order before it begins:
	// random reads would pay for frames that nobody wants.
	aheadStart = 64 << 10
	// aheadStreams is how many readers in order are told apart on one disk.
	aheadStreams = 8
)

// aheads notes where the readers of a disk are.
type aheads struct {
	mu      sync.Mutex
	streams [aheadStreams]aheadStream
	turn    uint64
}

// aheadStream is one reader that goes through the disk in order.
type aheadStream struct {
	// start is where it began, next where its next read would begin, and ahead
	// up to where frames have been asked for.
	start, next, ahead int64
	used               uint64
}

// after notes a read and returns what should be read ahead, or nothing.
func (a *aheads) after(offset, length, size int64) lifeboat.Extent {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn++
	oldest := &a.streams[0]
	for i := range a.streams {
		s := &a.streams[i]
		if s.used != 0 && s.next == offset {
			s.next, s.used = offset+length, a.turn
			return s.want(size)
		}
		if s.used < oldest.used {
			oldest = s
		}
	}
	*oldest = aheadStream{start: offset, next: offset + length, used: a.turn}
	return lifeboat.Extent{}
}

// want is what is not asked for yet, once that is worth a look.
func (s *aheadStream) want(size int64) lifeboat.Extent {
	from, to := max(s.next, s.ahead), min(s.next+aheadBytes, size)
	if s.next-s.start < aheadStart || to-from < aheadBytes/2 && to < size || to <= from {
		return lifeboat.Extent{}
	}
	s.ahead = to
	return lifeboat.Extent{Offset: from, Length: to - from}
}

// newAheadSlots bounds the reading ahead of a store: one goroutine for each
// processor. When they are busy, the readers need the processors themselves.
func newAheadSlots() chan struct{} { return make(chan struct{}, runtime.GOMAXPROCS(0)) }

// readAhead starts to decode what a reader will want next. It never waits, and
// whatever goes wrong is left to that reader to find.
func (d *Disk) readAhead(offset, length int64) {
	want := d.aheads.after(offset, length, d.size)
	if want.Length == 0 {
		return
	}
	select {
	case d.s.aheadSlots <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-d.s.aheadSlots }()
		if d.s.begin() != nil {
			return
		}
		defer d.s.end()
		d.decodeAhead(want)
	}()
}

// decodeAhead brings the chunks of a part of the disk into the cache, checked.
func (d *Disk) decodeAhead(want lifeboat.Extent) {
	ctx := context.Background()
	for at := want.Offset; at < want.End(); {
		within := regionExtent(at/format.RegionSize, d.size)
		entries, err := d.leaf(ctx, within)
		if err != nil {
			return
		}
		first := int((at - within.Offset) / format.BlockSize)
		i := sort.Search(len(entries), func(i int) bool { return entries[i].End() > first })
		for ; i < len(entries) && chunkExtent(entries[i], within).Offset < want.End(); i++ {
			id := entries[i].ID
			place, ok, err := d.s.index.find(id)
			if err == nil && ok {
				err = d.s.useChunk(ctx, id, false, place, func([]byte) error { return nil })
			}
			if err != nil {
				return
			}
		}
		at = within.End()
	}
}
