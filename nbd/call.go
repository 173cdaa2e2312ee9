package nbd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"

	"lifeboat"
)

// Bounds of what one chunk of a reply may hold.
const (
	maxStatusBytes = 4 + 8<<17 // QEMU tells of up to 128 Ki runs
	maxErrorBytes  = 6 + maxString + 8
)

// call is one request and what has come back of it so far.
type call struct {
	request
	link *link
	done chan struct{}
	// err is the result, once done is closed.
	err error

	// filling is held while a reply is read into data. A caller who goes away
	// takes data with him under it.
	filling sync.Mutex
	// data is what is written, or where what is read goes; nil when nobody
	// waits for it any more.
	data []byte
	gone bool

	// covered are the parts of a read that have come, ascending and merged.
	covered []lifeboat.Extent
	// context is the metadata context that is wanted, runs what it says.
	context uint32
	runs    []statusRun
	// refused is the first error that a structured reply told of.
	refused error
}

func (c *call) finish(err error) {
	c.err = err
	close(c.done)
}

// wait returns when the call is over or ctx ends; either way nothing uses the
// call's buffer any more.
func (c *call) wait(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	released := make(chan struct{})
	go c.link.breakUnless(released, ctx)
	c.filling.Lock()
	c.data, c.gone = nil, true
	c.filling.Unlock()
	close(released)
	return ctx.Err()
}

// describe says in an error what the call was for.
func (c *call) describe(err error) error {
	verb := "read"
	if c.kind == cmdWrite {
		verb = "write"
	}
	return fmt.Errorf("%s %d bytes at %d: %w", verb, c.length, c.offset, err)
}

// take takes one chunk of the reply. An error of it breaks the connection.
func (c *call) take(in *bufio.Reader, k chunk) error {
	switch {
	case k.kind == chunkNone && k.length == 0 && k.flags&chunkFlagDone != 0:
		return nil
	case k.kind == chunkOffsetData && c.kind == cmdRead:
		return c.takeData(in, k)
	case k.kind == chunkOffsetHole && c.kind == cmdRead:
		return c.takeHole(in, k)
	case k.kind == chunkBlockStatus && c.kind == cmdBlockStatus:
		return c.takeStatus(in, k)
	case k.kind == chunkError, k.kind == chunkErrorOffset:
		return c.takeError(in, k)
	default:
		return fmt.Errorf("%w: a chunk of kind %d in answer to command %d", ErrProtocol, k.kind, c.kind)
	}
}

func (c *call) takeData(in *bufio.Reader, k chunk) error {
	var offset [8]byte
	if k.length <= 8 {
		return fmt.Errorf("%w: data of %d bytes", ErrProtocol, k.length)
	}
	if _, err := io.ReadFull(in, offset[:]); err != nil {
		return err
	}
	return c.fill(in, be.Uint64(offset[:]), k.length-8)
}

// fill reads data that belongs at an offset of the disk.
func (c *call) fill(in *bufio.Reader, offset uint64, length uint32) error {
	at, err := c.cover(offset, length)
	if err != nil {
		return err
	}
	c.filling.Lock()
	defer c.filling.Unlock()
	if c.gone {
		_, err := io.CopyN(io.Discard, in, int64(length))
		return err
	}
	_, err = io.ReadFull(in, c.data[at:][:length])
	return err
}

func (c *call) takeHole(in *bufio.Reader, k chunk) error {
	var b [12]byte
	if k.length != uint32(len(b)) {
		return fmt.Errorf("%w: a hole told in %d bytes", ErrProtocol, k.length)
	}
	if _, err := io.ReadFull(in, b[:]); err != nil {
		return err
	}
	length := be.Uint32(b[8:])
	at, err := c.cover(be.Uint64(b[:]), length)
	if err != nil {
		return err
	}
	c.filling.Lock()
	defer c.filling.Unlock()
	if !c.gone {
		clear(c.data[at:][:length])
	}
	return nil
}

// cover notes that a part of a read has come and returns where in the buffer it
// belongs. A part that is outside, or that came before, is refused.
func (c *call) cover(offset uint64, length uint32) (at int, err error) {
	start := offset - c.offset
	if length == 0 || offset < c.offset || start > uint64(c.length) || uint64(length) > uint64(c.length)-start {
		return 0, fmt.Errorf("%w: %d bytes at %d in answer to a read of %d at %d", ErrProtocol, length, offset, c.length, c.offset)
	}
	e := lifeboat.Extent{Offset: int64(start), Length: int64(length)}
	i := sort.Search(len(c.covered), func(i int) bool { return c.covered[i].End() > e.Offset })
	if i < len(c.covered) && c.covered[i].Offset < e.End() {
		return 0, fmt.Errorf("%w: %d bytes at %d came twice", ErrProtocol, length, offset)
	}
	c.covered = slices.Insert(c.covered, i, e)
	c.covered = mergeAround(c.covered, i)
	return int(start), nil
}

// mergeAround joins the extent at i with neighbours that it touches.
func mergeAround(list []lifeboat.Extent, i int) []lifeboat.Extent {
	if i+1 < len(list) && list[i].End() == list[i+1].Offset {
		list[i].Length += list[i+1].Length
		list = slices.Delete(list, i+1, i+2)
	}
	if i > 0 && list[i-1].End() == list[i].Offset {
		list[i-1].Length += list[i].Length
		list = slices.Delete(list, i, i+1)
	}
	return list
}

func (c *call) takeStatus(in *bufio.Reader, k chunk) error {
	if k.length > maxStatusBytes {
		return fmt.Errorf("%w: a status of %d bytes", ErrProtocol, k.length)
	}
	b := make([]byte, k.length)
	if _, err := io.ReadFull(in, b); err != nil {
		return err
	}
	s, err := parseStatusChunk(b)
	if err != nil || s.context != c.context {
		return err
	}
	if c.runs != nil {
		return fmt.Errorf("%w: a status came twice", ErrProtocol)
	}
	c.runs = s.runs
	return nil
}

func (c *call) takeError(in *bufio.Reader, k chunk) error {
	if k.length > maxErrorBytes {
		return fmt.Errorf("%w: an error of %d bytes", ErrProtocol, k.length)
	}
	b := make([]byte, k.length)
	if _, err := io.ReadFull(in, b); err != nil {
		return err
	}
	e, err := parseErrorChunk(b, k.kind)
	if err != nil {
		return err
	}
	if c.refused == nil {
		c.refused = e.err(k.kind)
	}
	return nil
}

func (e errorChunk) err(kind uint16) error {
	switch {
	case kind == chunkErrorOffset:
		return fmt.Errorf("at %d: %w", e.offset, e.errno)
	case e.message != "":
		return fmt.Errorf("%w: %.200q", e.errno, e.message)
	default:
		return e.errno
	}
}

// verdict says how a structured reply that is over went. Success needs every
// byte that was asked for.
func (c *call) verdict() error {
	switch {
	case c.refused != nil:
		return c.refused
	case c.kind == cmdRead && (len(c.covered) != 1 || c.covered[0].Length != int64(c.length)):
		return fmt.Errorf("%w: a read of %d bytes at %d came back with parts missing", ErrProtocol, c.length, c.offset)
	case c.kind == cmdBlockStatus && len(c.runs) == 0:
		return fmt.Errorf("%w: a status that does not say what was asked", ErrProtocol)
	default:
		return nil
	}
}
