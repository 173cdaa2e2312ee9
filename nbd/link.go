package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// callsInFlight is how many requests of one connection are under way at a time;
// QEMU's server stops listening at as many.
const callsInFlight = 16

// cancelGrace is how long a cancelled request may go on with a message that is
// half through the wire. After it only breaking the connection helps.
const cancelGrace = time.Second

// link is one connection with an export. One goroutine reads the replies and is
// the only one that ends a call once it was sent.
type link struct {
	conn   net.Conn
	in     *bufio.Reader
	agreed agreed

	// slots and writing are semaphores that can be waited for with a context.
	slots   chan struct{}
	writing chan struct{}
	// ended is closed when the reader is gone.
	ended chan struct{}

	mu      sync.Mutex
	err     error
	pending map[uint64]*call
	cookie  uint64
}

func newLink(conn net.Conn, in *bufio.Reader, a agreed) *link {
	l := &link{
		conn:    conn,
		in:      in,
		agreed:  a,
		slots:   make(chan struct{}, callsInFlight),
		writing: make(chan struct{}, 1),
		ended:   make(chan struct{}),
		pending: map[uint64]*call{},
	}
	go l.read()
	return l
}

// do sends a call and waits for its end.
func (l *link) do(ctx context.Context, c *call) error {
	if err := l.start(ctx, c); err != nil {
		return err
	}
	return c.wait(ctx)
}

// start sends a call. When it returns an error, the call was not sent whole and
// nothing uses its buffer any more.
func (l *link) start(ctx context.Context, c *call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ended:
		return l.failure()
	}
	if err := l.register(c); err != nil {
		<-l.slots
		return err
	}
	if err := l.send(ctx, c); err != nil {
		// The connection is broken: the reader ends the call, soon.
		<-c.done
		return err
	}
	return nil
}

func (l *link) register(c *call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.cookie++
	c.link, c.cookie, c.done = l, l.cookie, make(chan struct{})
	l.pending[c.cookie] = c
	return nil
}

// send writes a request. A request that was not written whole breaks the
// connection, because nothing can follow it.
func (l *link) send(ctx context.Context, c *call) error {
	select {
	case l.writing <- struct{}{}:
	case <-ctx.Done():
		// Nothing was sent yet, but the reader may already be ending the call.
		l.finish(c, ctx.Err())
		return ctx.Err()
	}
	defer func() { <-l.writing }()
	written := make(chan struct{})
	defer close(written)
	defer context.AfterFunc(ctx, func() { l.breakUnless(written, ctx) })()

	parts := net.Buffers{c.request.appendTo(make([]byte, 0, requestBytes))}
	if c.kind == cmdWrite {
		parts = append(parts, c.data)
	}
	if _, err := parts.WriteTo(l.conn); err != nil {
		l.fail(err)
		return l.failure()
	}
	return nil
}

// breakUnless breaks the connection when done is not closed within the grace.
func (l *link) breakUnless(done <-chan struct{}, ctx context.Context) {
	t := time.NewTimer(cancelGrace)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		l.fail(fmt.Errorf("broken off in the middle of a message: %w", ctx.Err()))
	}
}

// close says goodbye and waits until the reader is gone.
func (l *link) close() {
	// First the reason: the server may hang up before we do.
	l.mu.Lock()
	if l.err == nil {
		l.err = ErrClosed
	}
	l.mu.Unlock()
	select {
	case l.writing <- struct{}{}:
		l.conn.SetWriteDeadline(time.Now().Add(cancelGrace))
		l.conn.Write(request{kind: cmdDisconnect}.appendTo(nil))
		<-l.writing
	default:
	}
	l.fail(ErrClosed)
	<-l.ended
}

// fail breaks the connection. The first reason is the one that callers see.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = broken(err)
	}
	l.conn.Close()
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// read takes replies until the connection breaks, and then ends all calls.
func (l *link) read() {
	defer close(l.ended)
	for {
		if err := l.readReply(); err != nil {
			l.fail(err)
			break
		}
	}
	l.mu.Lock()
	left := l.pending
	l.pending = map[uint64]*call{}
	err := l.err
	l.mu.Unlock()
	for _, c := range left {
		c.finish(err)
		<-l.slots
	}
}

// find returns the call that a reply belongs to.
func (l *link) find(cookie uint64) (*call, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.pending[cookie]
	if !ok {
		return nil, fmt.Errorf("%w: an answer to nothing that was asked", ErrProtocol)
	}
	return c, nil
}

// finish ends a call, unless that was done already.
func (l *link) finish(c *call, err error) {
	l.mu.Lock()
	_, open := l.pending[c.cookie]
	delete(l.pending, c.cookie)
	l.mu.Unlock()
	if open {
		c.finish(err)
		<-l.slots
	}
}

// readReply takes one simple reply or one chunk.
func (l *link) readReply() error {
	magic, err := l.in.Peek(4)
	if err != nil {
		return err
	}
	if be.Uint32(magic) == magicSimple {
		return l.readSimple()
	}
	if !l.agreed.structured {
		return fmt.Errorf("%w: not a reply", ErrProtocol)
	}
	return l.readChunk()
}

func (l *link) readSimple() error {
	var head [simpleReplyBytes]byte
	if _, err := io.ReadFull(l.in, head[:]); err != nil {
		return err
	}
	r, err := parseSimpleReply(head[:])
	if err != nil {
		return err
	}
	c, err := l.find(r.cookie)
	if err != nil {
		return err
	}
	if r.errno != 0 {
		l.finish(c, r.errno)
		return nil
	}
	switch {
	case c.kind == cmdBlockStatus, c.kind == cmdRead && l.agreed.structured:
		return fmt.Errorf("%w: a simple reply where a structured one was agreed", ErrProtocol)
	case c.kind == cmdRead:
		if err := c.fill(l.in, c.offset, c.length); err != nil {
			return err
		}
	}
	l.finish(c, nil)
	return nil
}

func (l *link) readChunk() error {
	var head [chunkBytes]byte
	if _, err := io.ReadFull(l.in, head[:]); err != nil {
		return err
	}
	k, err := parseChunk(head[:])
	if err != nil {
		return err
	}
	c, err := l.find(k.cookie)
	if err != nil {
		return err
	}
	if err := c.take(l.in, k); err != nil {
		return err
	}
	if k.flags&chunkFlagDone != 0 {
		err := c.verdict()
		l.finish(c, err)
		if errors.Is(err, ErrProtocol) {
			return err
		}
	}
	return nil
}
