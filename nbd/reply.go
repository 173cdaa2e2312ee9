package nbd

import (
	"context"
	"net"
	"sync"

	"lifeboat"
)

// pieceBytes is how much is read before it is sent: what a store keeps as one
// compressed frame, and few enough system calls.
const pieceBytes = 256 << 10

// batch collects chunks of one reply so that they leave in one system call. A
// chunk is added only after its bytes were read: what is announced is true.
type batch struct {
	data []byte
	used int
	head []byte
	out  net.Buffers
}

var batches = sync.Pool{New: func() any { return &batch{data: make([]byte, pieceBytes)} }}

func newBatch() *batch { return batches.Get().(*batch) }

func (b *batch) release() {
	b.reset()
	batches.Put(b)
}

func (b *batch) reset() {
	clear(b.out)
	b.used, b.head, b.out = 0, b.head[:0], b.out[:0]
}

// addData adds the n bytes that were read into b.data[b.used:].
func (b *batch) addData(r request, at lifeboat.Extent) {
	n := int(at.Length)
	b.addHead(r, chunkOffsetData, at, uint32(8+n))
	b.out = append(b.out, b.data[b.used:b.used+n])
	b.used += n
}

func (b *batch) addHole(r request, at lifeboat.Extent) {
	b.addHead(r, chunkOffsetHole, at, 12)
	b.head = be.AppendUint32(b.head, uint32(at.Length))
	last := len(b.out) - 1
	b.out[last] = b.head[len(b.head)-chunkBytes-12:]
}

// addHead adds a chunk's header; the chunk that reaches the end of what was
// asked for is the last.
func (b *batch) addHead(r request, kind uint16, at lifeboat.Extent, length uint32) {
	c := chunk{kind: kind, cookie: r.cookie, length: length}
	if uint64(at.End()) == r.offset+uint64(r.length) {
		c.flags = chunkFlagDone
	}
	start := len(b.head)
	b.head = be.AppendUint64(c.appendTo(b.head), uint64(at.Offset))
	b.out = append(b.out, b.head[start:])
}

// flush sends what was collected.
func (p *peer) flush(b *batch) error {
	err := p.send(b.out...)
	b.reset()
	return err
}

// readPieces answers a read in as many chunks as it takes. Where a piece cannot
// be read, the reply ends with an error that names the place.
func (p *peer) readPieces(ctx context.Context, r request, within lifeboat.Extent) error {
	runs, err := p.runs(ctx, within)
	if err != nil {
		return p.failRead(ctx, r, within.Offset, err)
	}
	b := newBatch()
	defer b.release()
	for _, run := range runs {
		if run.hole {
			b.addHole(r, run.Extent)
			continue
		}
		for at := run.Offset; at < run.End(); {
			if b.used == pieceBytes {
				if err := p.flush(b); err != nil {
					return err
				}
			}
			n := min(run.End()-at, int64(pieceBytes-b.used))
			if err := p.read(ctx, b.data[b.used:b.used+int(n)], at); err != nil {
				return p.failRead(ctx, r, at, err)
			}
			b.addData(r, lifeboat.Extent{Offset: at, Length: n})
			at += n
		}
	}
	return p.flush(b)
}

// readWhole answers a read, of pieceBytes at most, in one chunk.
func (p *peer) readWhole(ctx context.Context, r request, within lifeboat.Extent) error {
	b := newBatch()
	defer b.release()
	hole, err := p.fill(ctx, b.data[:within.Length], within)
	if err != nil {
		return p.failRead(ctx, r, within.Offset, err)
	}
	if hole {
		b.addHole(r, within)
	} else {
		b.addData(r, within)
	}
	return p.flush(b)
}

// readSimple answers a read of a peer that knows only simple replies: one that
// began cannot be taken back, so all of it is read first.
func (p *peer) readSimple(ctx context.Context, r request, within lifeboat.Extent) error {
	var data []byte
	if r.length <= pieceBytes {
		b := newBatch()
		defer b.release()
		data = b.data[:r.length]
	} else {
		p.large.Lock()
		defer p.large.Unlock()
		data = make([]byte, r.length)
	}
	if _, err := p.fill(ctx, data, within); err != nil {
		return p.failRead(ctx, r, within.Offset, err)
	}
	return p.send(simpleReply{cookie: r.cookie}.appendTo(nil), data)
}

// fill reads a part of the disk into p, zeros where it has holes, and says
// whether it is nothing but a hole.
func (p *peer) fill(ctx context.Context, b []byte, within lifeboat.Extent) (hole bool, err error) {
	runs, err := p.runs(ctx, within)
	if err != nil {
		return false, err
	}
	for _, run := range runs {
		part := b[run.Offset-within.Offset:][:run.Length]
		if run.hole {
			clear(part)
		} else if err := p.read(ctx, part, run.Offset); err != nil {
			return false, err
		}
	}
	return len(runs) == 1 && runs[0].hole, nil
}

// Bounds of one look at a disk's status.
const (
	statusStep = 1 << 20
	statusMost = 1 << 30
)

// status answers which parts of the disk are data. It may tell about less than
// was asked for, as the protocol allows; the peer asks again for the rest.
func (p *peer) status(ctx context.Context, r request, within lifeboat.Extent) error {
	if !p.allocation || within.Length == 0 {
		return p.fail(r, EINVAL)
	}
	runs, err := p.lookAhead(ctx, within, r.flags&cmdFlagReqOne != 0)
	if err != nil {
		return p.failRead(ctx, r, within.Offset, err)
	}
	s := statusChunk{context: allocationID}
	for _, run := range runs[:min(len(runs), maxStatus)] {
		flags := uint32(0)
		if run.hole {
			flags = StatusHole | StatusZero
		}
		s.runs = append(s.runs, statusRun{length: uint32(run.Length), flags: flags})
	}
	return p.sendChunk(r, chunkBlockStatus, s.appendTo(nil))
}

// lookAhead returns the runs of a part of the disk, or of as much of its
// beginning as is sensible at a time. A peer that wants only the first run, as
// QEMU does, costs only as much looking up as that run is long.
func (p *peer) lookAhead(ctx context.Context, within lifeboat.Extent, one bool) ([]run, error) {
	step := int64(statusMost)
	if one {
		step = statusStep
	}
	for {
		part := lifeboat.Extent{Offset: within.Offset, Length: min(within.Length, step)}
		runs, err := p.runs(ctx, part)
		if err != nil || !one {
			return runs, err
		}
		if len(runs) > 1 || part.Length == within.Length || step == statusMost {
			return runs[:1], nil
		}
		step *= 4
	}
}
