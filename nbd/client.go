package nbd

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"lifeboat"
)

// Names of metadata contexts, for [DialOptions].
const (
	// ContextAllocation says which parts of a disk are data, holes, zeros.
	ContextAllocation = "base:allocation"
	// ContextDirtyBitmap, with the name of a bitmap behind it, says which parts
	// QEMU saw written since the bitmap was made. By itself it asks for all of
	// them.
	ContextDirtyBitmap = "qemu:dirty-bitmap:"
)

// Flags of a [Status]: the first two in [ContextAllocation], the third in a
// [ContextDirtyBitmap].
const (
	StatusHole  uint32 = 1
	StatusZero  uint32 = 2
	StatusDirty uint32 = 1
)

// DialOptions say how to read an export.
type DialOptions struct {
	// MetaContexts are the metadata contexts to ask for. A name that ends in a
	// colon stands for every context that begins with it. What the server does
	// not have is left out; see [Client.Contexts].
	MetaContexts []string
	// Connections is how many connections to use at most, where the server
	// allows more than one; 1 when zero.
	Connections int
}

// Client reads, and where the server allows it writes, one export. Its methods
// may be called from many goroutines; requests share its connections. A
// connection that broke stays broken: close the client and dial again.
type Client struct {
	agreed agreed
	links  []*link
	turn   atomic.Uint64
}

// requestBytesMost is the largest piece that a read or write is cut into. More
// would keep the other connections idle.
const requestBytesMost = 1 << 20

// Dial connects to an export. The context bounds the connecting alone.
func Dial(ctx context.Context, network, addr, export string, o DialOptions) (*Client, error) {
	c := &Client{}
	first, err := c.connect(ctx, network, addr, export, o.MetaContexts)
	if err != nil {
		return nil, fmt.Errorf("connect to disk %q at %s: %w", export, addr, err)
	}
	c.agreed = first
	for len(c.links) < o.Connections && first.flags&FlagMultiConn != 0 {
		more, err := c.connectMore(ctx, network, addr, export, o.MetaContexts)
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("connect again to disk %q at %s: %w", export, addr, err)
		}
		if !more {
			break
		}
	}
	return c, nil
}

// moreConnectionsWait is how long one more connection may take. A server that
// serves only so many peers lets the next one wait for ever.
const moreConnectionsWait = 2 * time.Second

// connectMore adds a connection, or says that the server has no more to give:
// they make reading faster, and nothing depends on them.
func (c *Client) connectMore(ctx context.Context, network, addr, export string, contexts []string) (more bool, err error) {
	limited, cancel := context.WithTimeout(ctx, moreConnectionsWait)
	defer cancel()
	next, err := c.connect(limited, network, addr, export, contexts)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil:
		return false, nil
	case !next.sameAs(c.agreed):
		return false, fmt.Errorf("%w: the disk is described differently now", ErrProtocol)
	default:
		return true, nil
	}
}

func (c *Client) connect(ctx context.Context, network, addr, export string, contexts []string) (agreed, error) {
	l, err := dialLink(ctx, network, addr, export, contexts)
	if err != nil {
		return agreed{}, err
	}
	c.links = append(c.links, l)
	return l.agreed, nil
}

// link returns the connection whose turn it is.
func (c *Client) link() *link {
	return c.links[c.turn.Add(1)%uint64(len(c.links))]
}

// Close says goodbye and closes all connections. Requests under way fail.
func (c *Client) Close() error {
	for _, l := range c.links {
		l.close()
	}
	return nil
}

// SizeBytes is the size of the export.
func (c *Client) SizeBytes() int64 { return int64(c.agreed.sizeBytes) }

// Flags are the transmission flags as the server sent them.
func (c *Client) Flags() uint16 { return c.agreed.flags }

// ReadOnly says that the export cannot be written.
func (c *Client) ReadOnly() bool { return c.agreed.flags&FlagReadOnly != 0 }

// UnitBytes is what offset and length of a write have to be multiples of, but at
// the disk's end; reads need not care.
func (c *Client) UnitBytes() int64 { return int64(c.agreed.sizes.minimum) }

// Contexts are the metadata contexts that can be asked about, sorted.
func (c *Client) Contexts() []string {
	return slices.Sorted(maps.Keys(c.agreed.contexts))
}

// ReadAt fills p from the given offset, or fails. After an error p holds
// anything.
func (c *Client) ReadAt(ctx context.Context, p []byte, offset int64) error {
	within := lifeboat.Extent{Offset: offset, Length: int64(len(p))}
	if err := c.inside(within); err != nil {
		return err
	}
	wide := c.align(within)
	if wide == within {
		return c.transfer(ctx, cmdRead, p, offset)
	}
	b := make([]byte, wide.Length)
	if err := c.transfer(ctx, cmdRead, b, wide.Offset); err != nil {
		return err
	}
	copy(p, b[offset-wide.Offset:])
	return nil
}

// WriteAt writes p at the given offset; see [Client.UnitBytes].
func (c *Client) WriteAt(ctx context.Context, p []byte, offset int64) error {
	if err := c.writable(lifeboat.Extent{Offset: offset, Length: int64(len(p))}); err != nil {
		return err
	}
	return c.transfer(ctx, cmdWrite, p, offset)
}

// ZeroAt makes a run read as zeros, giving its space back where possible; see
// [Client.UnitBytes].
func (c *Client) ZeroAt(ctx context.Context, offset, length int64) error {
	if err := c.writable(lifeboat.Extent{Offset: offset, Length: length}); err != nil {
		return err
	}
	if c.agreed.flags&FlagSendWriteZeroes == 0 {
		return fmt.Errorf("zero %d bytes at %d: %w", length, offset, ENOTSUP)
	}
	for length > 0 {
		n := min(length, statusMost)
		r := request{kind: cmdWriteZeroes, offset: uint64(offset), length: uint32(n)}
		if err := c.link().do(ctx, &call{request: r}); err != nil {
			return fmt.Errorf("zero %d bytes at %d: %w", n, offset, err)
		}
		offset += n
		length -= n
	}
	return nil
}

// Flush returns once everything written so far is on the server's medium.
func (c *Client) Flush(ctx context.Context) error {
	if c.agreed.flags&FlagSendFlush == 0 {
		return fmt.Errorf("flush: %w", ENOTSUP)
	}
	if err := c.link().do(ctx, &call{request: request{kind: cmdFlush}}); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// transfer reads or writes p in pieces that are under way at the same time,
// over all connections. When it returns, p is the caller's again.
func (c *Client) transfer(ctx context.Context, kind uint16, p []byte, offset int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pieces := make([]*call, 0, len(p)/requestBytesMost+1)
	var failed error
	for len(p) > 0 && failed == nil {
		n := min(len(p), c.pieceBytes())
		piece := &call{request: request{kind: kind, offset: uint64(offset), length: uint32(n)}, data: p[:n]}
		if failed = c.link().start(ctx, piece); failed == nil {
			pieces = append(pieces, piece)
		} else {
			failed = piece.describe(failed)
		}
		p = p[n:]
		offset += int64(n)
	}
	for _, piece := range pieces {
		if failed != nil {
			cancel()
		}
		if err := piece.wait(ctx); err != nil && failed == nil {
			failed = piece.describe(err)
		}
	}
	return failed
}

func (c *Client) pieceBytes() int {
	return int(min(requestBytesMost, c.agreed.sizes.maximum))
}

// align widens an extent to the server's smallest unit.
func (c *Client) align(e lifeboat.Extent) lifeboat.Extent {
	unit := c.UnitBytes()
	start := e.Offset / unit * unit
	end := min((e.End()+unit-1)/unit*unit, c.SizeBytes())
	return lifeboat.Extent{Offset: start, Length: end - start}
}

func (c *Client) inside(e lifeboat.Extent) error {
	if e.Offset < 0 || e.Length < 0 || e.Length > math.MaxInt64-e.Offset || e.End() > c.SizeBytes() {
		return fmt.Errorf("%d bytes at %d are not inside a disk of %d: %w", e.Length, e.Offset, c.SizeBytes(), EINVAL)
	}
	return nil
}

func (c *Client) writable(e lifeboat.Extent) error {
	if err := c.inside(e); err != nil {
		return err
	}
	if c.ReadOnly() {
		return fmt.Errorf("write %d bytes at %d: %w", e.Length, e.Offset, EPERM)
	}
	if c.align(e) != e {
		return fmt.Errorf("write %d bytes at %d in units of %d: %w", e.Length, e.Offset, c.UnitBytes(), EINVAL)
	}
	return nil
}
