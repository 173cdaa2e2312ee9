package imagestore

import (
	"context"
	"errors"

	"lifeboat/imagestore/format"
)

// blockRun is a run of blocks inside a region: from from up to, but without, to.
type blockRun struct{ from, to int }

// piece is a chunk of a region on its way into a leaf. A piece that was carried
// over from the older point has its id, one that was cut anew has its bytes in
// the region's buffer.
type piece struct {
	format.Entry
	fresh bool
}

// errMapWrong: blocks that the source called unchanged differ from the older
// point, so its change list cannot be trusted.
var errMapWrong = errors.New("the list of changed blocks is wrong")

// regionBytes are the bytes of one region as far as they were read.
type regionBytes interface {
	// load makes the blocks from from to to available, as they are now.
	load(ctx context.Context, from, to int) error
	// loadOld makes blocks of a chunk of the older point available.
	loadOld(ctx context.Context, e format.Entry, from, to int) error
	// mayReread says whether so many blocks that did not change may be read from
	// the source all the same, together with their changed neighbours.
	mayReread(blocks int) bool
	// bytes is the region's buffer; its length is that of the region.
	bytes() []byte
}

// splicer makes the pieces of a touched region from the pieces of the older
// point and the blocks that changed, reading little else. The result is the
// same as cutting the whole region anew.
type splicer struct {
	cutter *format.Cutter
	region regionBytes
	old    []format.Entry
	dirty  []blockRun // ascending, not touching each other
	blocks int
	loaded [format.RegionBlocks]origin
	next   int // the first old entry that is not dealt with
	pieces []piece
}

// origin is where the bytes of a block came from.
type origin uint8

const (
	notLoaded origin = iota
	fromSource
	fromDrive
)

// splice is the whole rule: for each run of dirty blocks go back to where the
// cutter was certainly empty, cut anew until old and new cuts agree behind the
// run, and carry over what lies between.
func (p *splicer) splice(ctx context.Context) ([]piece, error) {
	for i := 0; i < len(p.dirty); {
		at := p.begin(p.dirty[i].from)
		p.carry(at)
		end := p.dirty[i].to
		i++
		for {
			// Runs that the cutting has reached belong to this one.
			for i < len(p.dirty) && p.dirty[i].from <= max(at, end) {
				end = max(end, p.dirty[i].to)
				i++
			}
			if at >= end && p.oldCut(at) {
				break
			}
			next, err := p.cut(ctx, at, end)
			if err != nil {
				return nil, err
			}
			at = next
		}
		p.skipTo(at)
	}
	p.carry(p.blocks)
	return p.pieces, nil
}

// begin is the start of the old chunk that contains the block before the first
// dirty one: that chunk may grow into it. It does not if another one followed,
// because then its own bytes decided where it ends.
func (p *splicer) begin(dirty int) int {
	before, ok := p.oldChunk(dirty - 1)
	if _, followed := p.oldChunk(dirty); ok && (before.End() > dirty || !followed) {
		return before.Start
	}
	return dirty
}

// carry takes over the old chunks before a block.
func (p *splicer) carry(to int) {
	for ; p.next < len(p.old) && p.old[p.next].Start < to; p.next++ {
		p.pieces = append(p.pieces, piece{Entry: p.old[p.next]})
	}
}

// skipTo drops the old chunks before a block: they were cut anew.
func (p *splicer) skipTo(block int) {
	for p.next < len(p.old) && p.old[p.next].Start < block {
		p.next++
	}
}

// cut cuts one chunk at a block, or passes one zero block, and returns the block
// after it.
func (p *splicer) cut(ctx context.Context, at, end int) (int, error) {
	if zero, err := p.zero(ctx, at, end); err != nil || zero {
		return at + 1, err
	}
	b := p.region.bytes()
	to := at + 1
	for ; to < p.blocks && to-at < format.MaxChunkBlocks && !p.cutter.CutsAfter(b, to-1); to++ {
		zero, err := p.zero(ctx, to, end)
		if err != nil {
			return 0, err
		}
		if zero {
			break
		}
	}
	p.pieces = append(p.pieces, piece{Entry: format.Entry{Start: at, Blocks: to - at}, fresh: true})
	return to, nil
}

// zero says whether a block is all zeros. A clean block that was zero needs no
// reading; any other is read, up to where the cutting can first end.
func (p *splicer) zero(ctx context.Context, block, end int) (bool, error) {
	old, inChunk := p.oldChunk(block)
	clean := !p.isDirty(block)
	if clean && !inChunk {
		return true, nil
	}
	if p.loaded[block] == notLoaded {
		to := block + 1
		switch {
		case block < end:
			to = end
			if e, ok := p.oldChunk(end - 1); ok {
				to = max(to, e.End())
			}
		case inChunk:
			to = old.End()
		}
		if err := p.load(ctx, block, to); err != nil {
			return false, err
		}
	}
	zero := p.cutter.IsZero(p.region.bytes(), block)
	if zero && clean {
		return false, errMapWrong // a chunk has no zero blocks
	}
	return zero, nil
}

// load makes blocks available. Those that did not change come from the source
// if they are few enough, in one read with their neighbours, which is quick and
// tells whether the change list is right; else from the drive.
func (p *splicer) load(ctx context.Context, from, to int) error {
	clean := 0
	for b := from; b < to; b++ {
		if _, inChunk := p.oldChunk(b); inChunk && p.loaded[b] == notLoaded && !p.isDirty(b) {
			clean++
		}
	}
	together := clean == 0 || p.region.mayReread(clean)
	for from < to {
		end, err := p.loadRun(ctx, from, to, together)
		if err != nil {
			return err
		}
		from = end
	}
	return nil
}

// loadRun makes the first blocks of a run available and returns the block after
// them.
func (p *splicer) loadRun(ctx context.Context, from, to int, together bool) (end int, err error) {
	if p.loaded[from] != notLoaded {
		return from + 1, nil
	}
	old, inChunk := p.oldChunk(from)
	clean := !p.isDirty(from)
	if clean && !together {
		if !inChunk {
			return from + 1, nil // zeros, which nobody looks at
		}
		for end = from; end < min(to, old.End()) && p.loaded[end] == notLoaded && !p.isDirty(end); end++ {
			p.loaded[end] = fromDrive
		}
		return end, p.region.loadOld(ctx, old, from, end)
	}
	for end = from; end < to && p.loaded[end] == notLoaded && (together || p.isDirty(end)); end++ {
		p.loaded[end] = fromSource
	}
	return end, p.region.load(ctx, from, end)
}

// oldCut says whether the cutter was empty at a block of the older point: it is
// not inside a chunk.
func (p *splicer) oldCut(block int) bool {
	e, ok := p.oldChunk(block)
	return !ok || e.Start == block
}

// oldChunk returns the old chunk that contains a block.
func (p *splicer) oldChunk(block int) (format.Entry, bool) {
	lo, hi := 0, len(p.old)
	for lo < hi {
		mid := (lo + hi) / 2
		if p.old[mid].End() <= block {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(p.old) && p.old[lo].Start <= block {
		return p.old[lo], true
	}
	return format.Entry{}, false
}

func (p *splicer) isDirty(block int) bool {
	lo, hi := 0, len(p.dirty)
	for lo < hi {
		mid := (lo + hi) / 2
		if p.dirty[mid].to <= block {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(p.dirty) && p.dirty[lo].from <= block
}

// audited returns the old chunk that a fresh piece must equal, if it covers
// exactly one and none of its blocks is dirty.
func (p *splicer) audited(n piece) (format.Entry, bool) {
	old, ok := p.oldChunk(n.Start)
	if !ok || old.Start != n.Start || old.Blocks != n.Blocks {
		return old, false
	}
	for b := n.Start; b < n.End(); b++ {
		if p.isDirty(b) {
			return old, false
		}
	}
	return old, true
}
