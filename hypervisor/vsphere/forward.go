package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lifeboat"
)

const (
	// cellBytes is the unit in which a stream's bytes are kept. The grains that
	// vSphere sends are of this size.
	cellBytes = 64 << 10
	// aheadBytes is how far a stream is decoded before anybody asked: so much that
	// the readers never wait for a single grain.
	aheadBytes = 32 << 20
	// keptBytes bounds what is kept of a stream until it is read. The store reads
	// a dozen regions of 4 MiB at once, in order.
	keptBytes = 128 << 20
	// mostOpens is how often a stream is begun before it brings another eighth of
	// the disk: once, and again after a lost connection or for a read of what has
	// passed.
	mostOpens = 3
)

// reopenPause is how long a server that dropped a stream is left alone.
var reopenPause = time.Second

// grains is a disk as a stream: grains in ascending order, and io.EOF after the
// last if the stream was whole. [vmdk.Reader] is one.
type grains interface {
	Next() (offset int64, data []byte, err error)
	// CapacityBytes may be -1 before the end.
	CapacityBytes() int64
}

// openGrains begins the stream of a disk and returns what ends it.
type openGrains func(ctx context.Context) (g grains, stop func(), err error)

// forward answers reads at any offset from a stream that goes from the start of
// a disk to its end. It keeps what was decoded until it is read once, decodes a
// little ahead, and begins the stream again for what has passed. It uses no
// file, and never more memory than keptBytes.
type forward struct {
	size int64
	open openGrains
	turn *turn
	ctx  context.Context
	stop context.CancelFunc
	done chan struct{} // closed when the pump has ended; nil before it began
	wake chan struct{}

	mu    sync.Mutex
	moved chan struct{} // closed at the next step; nil when nobody waits
	// pos is where the stream stands: what lies before it is data or a hole for
	// certain, once it is known that the stream is one.
	pos   int64
	ended bool  // the stream was whole
	want  int64 // somebody waits for what lies before it
	cells map[int64]*cell
	order []int64 // the kept cells, ascending
	data  cellSet // all cells that were ever in the stream
	seen  int64   // the farthest pos of any stream so far
	again bool    // somebody wants what has passed
	opens int
	// tries counts the opens since the stream came an eighth of the disk farther,
	// to reached.
	tries   int
	reached int64
	err     error

	// stands fails if the snapshot beneath the stream is gone. It is asked before
	// the last bytes are believed, and when a stream was begun again.
	stands func(ctx context.Context) error
}

// cell is a part of the stream that waits to be read.
type cell struct {
	bytes [cellBytes]byte
	left  int // how many of its bytes nobody has read
}

func newForward(ctx context.Context, size int64, turn *turn, open openGrains) *forward {
	f := &forward{size: size, open: open, turn: turn, wake: make(chan struct{}, 1), cells: map[int64]*cell{}, data: cellSet{},
		stands: func(context.Context) error { return nil }}
	f.ctx, f.stop = context.WithCancel(ctx)
	return f
}

var errStreamClosed = errors.New("the still was released")

// close ends the stream and returns when nothing of it is left.
func (f *forward) close() {
	f.stop()
	f.mu.Lock()
	if f.err == nil {
		f.err = errStreamClosed
	}
	f.step()
	done := f.done
	f.cells, f.order = nil, nil
	f.mu.Unlock()
	if done != nil {
		<-done
	}
}

// readAt fills p from the stream.
func (f *forward) readAt(ctx context.Context, p []byte, offset int64) error {
	for len(p) > 0 {
		n := min(len(p), int(cellBytes-offset%cellBytes))
		if err := f.readCell(ctx, p[:n], offset); err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// readCell fills p, which lies inside one cell.
func (f *forward) readCell(ctx context.Context, p []byte, offset int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		end := offset + int64(len(p))
		// What reaches to the end of the disk waits for the end of the stream:
		// only there is it known to have been whole.
		came := func() bool { return f.ended || end <= f.pos && end < f.size }
		if err := f.await(ctx, end, came); err != nil {
			return err
		}
		i := offset / cellBytes
		if !f.data.has(i) {
			clear(p)
			return nil
		}
		if c, ok := f.cells[i]; ok {
			copy(p, c.bytes[offset%cellBytes:])
			if c.left -= len(p); c.left <= 0 {
				f.drop(i)
			}
			return nil
		}
		f.rewind(offset)
	}
}

// extents returns the runs that may hold anything but zeros. Of what the stream
// has not come to, because enough of it waits to be read, it says that it may.
func (f *forward) extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := within.End()
	enough := func() bool { return f.ended || end <= f.seen && end < f.size || f.kept() >= aheadBytes/2 }
	if err := f.await(ctx, 0, enough); err != nil {
		return nil, err
	}
	known := min(f.seen, end)
	if end == f.size && !f.ended {
		known = min(known, max(within.Offset, f.size-cellBytes))
	}
	var runs []lifeboat.Extent
	add := func(from, to int64) {
		from, to = max(from, within.Offset), min(to, end)
		if n := len(runs); n > 0 && from <= runs[n-1].End() {
			runs[n-1].Length = to - runs[n-1].Offset
		} else if from < to {
			runs = append(runs, lifeboat.Extent{Offset: from, Length: to - from})
		}
	}
	f.data.each(within.Offset/cellBytes, known, func(i int64) { add(i*cellBytes, (i+1)*cellBytes) })
	add(known, end)
	return runs, nil
}

// await waits until ok, and lets the stream go on to want at least. The caller
// holds f.mu.
func (f *forward) await(ctx context.Context, want int64, ok func() bool) error {
	for {
		switch {
		case f.err != nil:
			return f.err
		case !f.again && ok():
			return nil
		}
		f.want = max(f.want, want)
		f.begin()
		if f.moved == nil {
			f.moved = make(chan struct{})
		}
		moved := f.moved
		f.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		f.mu.Lock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// begin starts the pump, or wakes it. The caller holds f.mu.
func (f *forward) begin() {
	if f.done == nil {
		f.done = make(chan struct{})
		go f.pump()
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// step tells those who wait that something changed. The caller holds f.mu.
func (f *forward) step() {
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
}

func (f *forward) kept() int { return len(f.order) * cellBytes }

// drop forgets a cell that was read, or that there is no room for. The caller
// holds f.mu.
func (f *forward) drop(i int64) {
	delete(f.cells, i)
	if at, ok := slices.BinarySearch(f.order, i); ok {
		f.order = slices.Delete(f.order, at, at+1)
	}
	if f.kept() < aheadBytes/2 && f.done != nil && !f.ended {
		f.begin()
	}
}

// rewind asks for the stream from its start, because bytes are needed that have
// passed. The caller holds f.mu.
func (f *forward) rewind(offset int64) {
	if f.tries >= mostOpens {
		f.err = fmt.Errorf("the stream has passed %d, and was begun %d times without coming farther", offset, f.tries)
		f.step()
		return
	}
	f.again = true
	f.want = min(f.want, offset)
}
