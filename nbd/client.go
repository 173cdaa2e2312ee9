package nbd

import (
	"context"

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
	// Connections is how many connections to use where the server allows more
	// than one; 1 when zero.
	Connections int
}

// Status is what a metadata context says of a run of bytes.
type Status struct {
	lifeboat.Extent
	Flags uint32
}

// Client reads, and where the server allows it writes, one export. Its methods
// may be called from many goroutines; requests share its connections. When a
// connection breaks, everything fails from then on, with the same error.
type Client struct{ size int64 }

// Dial connects to an export. The context bounds the connecting alone.
func Dial(ctx context.Context, network, addr, export string, o DialOptions) (*Client, error) {
	return nil, ErrGone
}

// SizeBytes is the size of the export.
func (c *Client) SizeBytes() int64 { return c.size }

// Flags are the transmission flags as the server sent them.
func (c *Client) Flags() uint16 { return 0 }

// ReadOnly says that the export cannot be written.
func (c *Client) ReadOnly() bool { return false }

// Contexts are the metadata contexts that can be asked about, sorted.
func (c *Client) Contexts() []string { return nil }

// ReadAt fills p from the given offset, or fails. After an error p holds
// anything.
func (c *Client) ReadAt(ctx context.Context, p []byte, offset int64) error { return ErrGone }

// BlockStatus returns what a metadata context says of every byte of the given
// run, ascending, neighbours with the same flags merged.
func (c *Client) BlockStatus(ctx context.Context, metaContext string, within lifeboat.Extent) ([]Status, error) {
	return nil, ErrGone
}

// DataExtents returns the runs inside the given one that may hold anything but
// zeros. It needs [ContextAllocation]; where the server does not have it,
// everything is data.
func (c *Client) DataExtents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return nil, ErrGone
}

// DirtyExtents returns the runs inside the given one that a dirty bitmap of
// QEMU has marked, zeros among them.
func (c *Client) DirtyExtents(ctx context.Context, bitmap string, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return nil, ErrGone
}

// WriteAt writes p at the given offset.
func (c *Client) WriteAt(ctx context.Context, p []byte, offset int64) error { return ErrGone }

// ZeroAt makes a run read as zeros, giving its space back where possible.
func (c *Client) ZeroAt(ctx context.Context, offset, length int64) error { return ErrGone }

// Flush returns once everything written so far is on the server's medium.
func (c *Client) Flush(ctx context.Context) error { return ErrGone }

// Close says goodbye and closes all connections. Requests under way fail.
func (c *Client) Close() error { return nil }
