package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"lifeboat"
)

// maxInFlight is how many requests of one connection are answered at a time;
// with pieceBytes it bounds a connection's memory to 8 MiB.
const maxInFlight = 32

// peer is one connection that has chosen an export. Requests are read by one
// goroutine and answered by one each, in whatever order they finish.
type peer struct {
	conn       net.Conn
	in         *bufio.Reader
	name       string
	export     Export
	structured bool
	allocation bool
	onError    func(export string, err error)

	// writing keeps the chunks of different replies whole.
	writing sync.Mutex
	// large lets one request at a time hold more than pieceBytes.
	large sync.Mutex
}

// run answers requests until the peer says goodbye, breaks off, or ctx ends.
func (p *peer) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var answers sync.WaitGroup
	defer answers.Wait()
	defer cancel()

	slots := make(chan struct{}, maxInFlight)
	for {
		r, err := p.next()
		if err != nil {
			return
		}
		if r.kind == cmdDisconnect {
			answers.Wait()
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		answers.Go(func() {
			defer func() { <-slots }()
			if err := p.answer(ctx, r); err != nil {
				// Whatever was sent of it, the peer can no longer be told
				// anything: only breaking off is sure to be noticed.
				p.conn.Close()
			}
		})
	}
}

// next reads the next request and throws away what a write brings along.
func (p *peer) next() (request, error) {
	var head [requestBytes]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		return request{}, err
	}
	r, err := parseRequest(head[:])
	if err != nil || r.kind != cmdWrite {
		return r, err
	}
	if r.length > maxPayload {
		return r, fmt.Errorf("%w: a write of %d bytes", ErrProtocol, r.length)
	}
	_, err = io.CopyN(io.Discard, p.in, int64(r.length))
	return r, err
}

// answer replies to one request. It returns an error only when the reply could
// not be sent whole.
func (p *peer) answer(ctx context.Context, r request) error {
	switch r.kind {
	case cmdWrite, cmdTrim, cmdWriteZeroes:
		return p.fail(r, EPERM)
	case cmdFlush:
		return p.succeed(r)
	case cmdRead, cmdCache, cmdBlockStatus:
	default:
		return p.fail(r, EINVAL)
	}
	within, ok := p.within(r)
	if !ok {
		return p.fail(r, EINVAL)
	}
	switch r.kind {
	case cmdCache:
		return p.prefetch(ctx, r, within)
	case cmdBlockStatus:
		return p.status(ctx, r, within)
	}
	switch {
	case r.length > maxPayload:
		return p.fail(r, EINVAL)
	case r.length == 0:
		return p.succeed(r)
	case !p.structured:
		return p.readSimple(ctx, r, within)
	case r.flags&cmdFlagDF == 0:
		return p.readPieces(ctx, r, within)
	case r.length > pieceBytes:
		return p.fail(r, EOVERFLOW)
	default:
		return p.readWhole(ctx, r, within)
	}
}

// within is the part of the disk that a request is about, if it is inside.
func (p *peer) within(r request) (lifeboat.Extent, bool) {
	size := uint64(p.export.SizeBytes())
	if r.offset > size || uint64(r.length) > size-r.offset {
		return lifeboat.Extent{}, false
	}
	return lifeboat.Extent{Offset: int64(r.offset), Length: int64(r.length)}, true
}

// runs asks the export what of a part of the disk is data.
func (p *peer) runs(ctx context.Context, within lifeboat.Extent) ([]run, error) {
	data, err := p.export.Extents(ctx, within)
	if err == nil {
		var runs []run
		if runs, err = cover(within, data); err == nil {
			return runs, nil
		}
	}
	return nil, p.tell(ctx, fmt.Errorf("look up %d bytes at %d: %w", within.Length, within.Offset, err))
}

// read reads from the export and tells its owner when that went wrong.
func (p *peer) read(ctx context.Context, b []byte, offset int64) error {
	err := p.export.ReadAt(ctx, b, offset)
	if err == nil {
		return nil
	}
	return p.tell(ctx, fmt.Errorf("read %d bytes at %d: %w", len(b), offset, err))
}

// tell reports an error to the export's owner, unless it is only our own end.
func (p *peer) tell(ctx context.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		p.onError(p.name, err)
	}
	return err
}

// prefetch reads data and forgets it: what is below keeps it for the next read.
func (p *peer) prefetch(ctx context.Context, r request, within lifeboat.Extent) error {
	runs, err := p.runs(ctx, within)
	if err != nil {
		return p.failRead(ctx, r, within.Offset, err)
	}
	b := newBatch()
	defer b.release()
	for _, run := range runs {
		if run.hole {
			continue
		}
		for at := run.Offset; at < run.End(); at += pieceBytes {
			if err := p.read(ctx, b.data[:min(pieceBytes, run.End()-at)], at); err != nil {
				return p.failRead(ctx, r, at, err)
			}
		}
	}
	return p.succeed(r)
}

func (p *peer) succeed(r request) error {
	if !p.structured {
		return p.send(simpleReply{cookie: r.cookie}.appendTo(nil))
	}
	return p.send(chunk{flags: chunkFlagDone, kind: chunkNone, cookie: r.cookie}.appendTo(nil))
}

func (p *peer) fail(r request, errno Errno) error {
	if !p.structured {
		return p.send(simpleReply{errno: errno, cookie: r.cookie}.appendTo(nil))
	}
	return p.sendChunk(r, chunkError, errorChunk{errno: errno}.appendTo(nil, chunkError))
}

// failRead tells of bytes that could not be read or looked up, from offset on.
// When that is because we are ending, it says nothing: a machine whose server
// goes away waits for the next one, but EIO it would pass on to its guest.
func (p *peer) failRead(ctx context.Context, r request, offset int64, why error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	errno := EIO
	errors.As(why, &errno)
	if !p.structured || r.kind != cmdRead {
		return p.fail(r, errno)
	}
	e := errorChunk{errno: errno, offset: uint64(offset)}
	return p.sendChunk(r, chunkErrorOffset, e.appendTo(nil, chunkErrorOffset))
}

// sendChunk sends the last chunk of a reply.
func (p *peer) sendChunk(r request, kind uint16, payload []byte) error {
	head := chunk{flags: chunkFlagDone, kind: kind, cookie: r.cookie, length: uint32(len(payload))}
	return p.send(head.appendTo(nil), payload)
}

func (p *peer) send(parts ...[]byte) error {
	buffers := net.Buffers(parts)
	p.writing.Lock()
	defer p.writing.Unlock()
	_, err := buffers.WriteTo(p.conn)
	return err
}
