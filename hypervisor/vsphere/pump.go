package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/vsphere/vmdk"
)

// pump decodes the stream while somebody wants it.
func (f *forward) pump() {
	defer close(f.done)
	var s *streaming
	end := func() {
		if s != nil {
			s.stop()
		}
		s = nil
	}
	defer end()
	for f.awaitDemand() {
		if f.startAgain() {
			end()
		}
		err := f.turn.take(f.ctx)
		if err == nil {
			s, err = f.advance(s)
			f.turn.give()
		}
		if err != nil {
			end()
			if f.fail(err) {
				return
			}
		}
	}
}

// awaitDemand waits until the stream has to go on; false means never.
func (f *forward) awaitDemand() bool {
	for {
		f.mu.Lock()
		needed := f.again || !f.ended && (f.pos < f.want || f.want >= f.size || f.kept() < aheadBytes/2)
		over := f.err != nil
		f.mu.Unlock()
		if over || f.ctx.Err() != nil {
			return false
		}
		if needed {
			return true
		}
		select {
		case <-f.wake:
		case <-f.ctx.Done():
		}
	}
}

// startAgain forgets where the stream was if what has passed is wanted.
func (f *forward) startAgain() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.again {
		return false
	}
	f.again, f.ended, f.pos = false, false, 0
	f.order = f.order[:0]
	clear(f.cells)
	return true
}

// streaming is a stream under way.
type streaming struct {
	grains
	stop func()
	// met counts the cells before f.seen that it had in common with the streams
	// before it, the last of which was last.
	met, last int64
}

// advance decodes until nobody wants more, and returns the stream that it used
// or began.
func (f *forward) advance(s *streaming) (*streaming, error) {
	if s == nil {
		f.mu.Lock()
		f.opens++
		f.tries++
		pause := time.Duration(f.tries-1) * reopenPause
		again := f.opens > 1
		f.mu.Unlock()
		if err := sleep(f.ctx, pause); err != nil {
			return nil, err
		}
		g, stop, err := f.open(f.ctx)
		if err != nil {
			return nil, err
		}
		s = &streaming{grains: g, stop: stop, last: -1}
		if again {
			if err := f.stands(f.ctx); err != nil {
				return s, err
			}
		}
		if c := g.CapacityBytes(); c >= 0 && c != f.size {
			return s, fmt.Errorf("%w: the stream is of a disk of %d bytes, this one has %d", errWay, c, f.size)
		}
	}
	for f.ctx.Err() == nil {
		offset, data, err := s.Next()
		if errors.Is(err, io.EOF) {
			// Servers are to hold the disks of a lease. Whether this one did is
			// seen before anything counts as whole.
			if gone := f.stands(f.ctx); gone != nil {
				return s, gone
			}
		}
		more, err := f.took(s, offset, data, err)
		if err != nil || !more {
			return s, err
		}
	}
	return s, context.Cause(f.ctx)
}

// took takes a grain in, and says whether more are wanted.
func (f *forward) took(s *streaming, offset int64, data []byte, err error) (more bool, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return false, f.err
	}
	before, last := f.seen, errors.Is(err, io.EOF)
	switch {
	case last:
		if c := s.CapacityBytes(); c != f.size {
			return false, fmt.Errorf("%w: the stream is of a disk of %d bytes, this one has %d", errWay, c, f.size)
		}
		offset = f.size
	case err != nil:
		return false, err
	case offset < 0 || int64(len(data)) > f.size-offset:
		return false, fmt.Errorf("%w: a grain of %d bytes at %d", errWay, len(data), offset)
	}
	if err := f.compare(s, offset, int64(len(data)), before); err != nil {
		return false, err
	}
	f.keep(offset, data)
	f.pos = max(f.pos, offset+int64(len(data)))
	f.seen = max(f.seen, f.pos)
	if f.seen-f.reached >= max(f.size/8, cellBytes) {
		f.reached, f.tries = f.seen, 1
	}
	f.ended = last
	f.step()
	more = !f.ended && !f.again && (f.pos < f.want || f.want >= f.size || f.kept() < aheadBytes)
	return more, nil
}

// compare refuses a second stream that does not have its grains where the first
// had them: what was told of the first would be wrong of it. The caller holds
// f.mu.
func (f *forward) compare(s *streaming, offset, length, before int64) error {
	if offset < before {
		for i := offset / cellBytes; i*cellBytes < min(offset+length, before); i++ {
			if !f.data.has(i) {
				return fmt.Errorf("%w: the second stream of the disk has other grains than the first", errWay)
			}
			if i != s.last {
				s.met, s.last = s.met+1, i
			}
		}
		return nil
	}
	if f.opens > 1 && s.met >= 0 {
		if s.met != f.data.countBelow(before) {
			return fmt.Errorf("%w: the second stream of the disk has other grains than the first", errWay)
		}
		s.met = -1
	}
	return nil
}

// keep stores the bytes of a grain that have not passed already. The caller
// holds f.mu.
func (f *forward) keep(offset int64, data []byte) {
	for len(data) > 0 {
		i, at := offset/cellBytes, offset%cellBytes
		n := min(len(data), int(cellBytes-at))
		if offset >= f.pos {
			c := f.cells[i]
			if c == nil {
				c = &cell{left: int(min(cellBytes, f.size-i*cellBytes))}
				f.cells[i] = c
				f.order = append(f.order, i)
				f.data.add(i)
			}
			copy(c.bytes[at:], data[:n])
		}
		data, offset = data[n:], offset+int64(n)
	}
	for f.kept() > keptBytes {
		// The lowest are the least likely to be read any more.
		delete(f.cells, f.order[0])
		f.order = slices.Delete(f.order, 0, 1)
	}
}

// fail decides about a stream that broke: it is begun again, or all is over.
func (f *forward) fail(err error) (over bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil:
	case f.ctx.Err() != nil:
		f.err = errStreamClosed
	case errors.Is(err, hypervisor.ErrStillBroken), errors.Is(err, hypervisor.ErrMachineGone):
		f.err = err
	case f.tries < mostOpens && !errors.Is(err, errWay) && !errors.Is(err, vmdk.ErrOrder) && !errors.Is(err, vmdk.ErrFormat):
		// A grain that was kept in part only is decoded once more.
		return false
	default:
		f.err = err
	}
	f.step()
	return true
}
