package nbd

import (
	"context"
	"net"
	"time"

	"lifeboat"
)

// Export is a disk that a [Server] gives out for reading. Its methods are
// called from many goroutines.
type Export interface {
	// SizeBytes is the exact size of the disk; it never changes.
	SizeBytes() int64
	// ReadAt fills p from the given offset, or fails: the reader then sees EIO.
	ReadAt(ctx context.Context, p []byte, offset int64) error
	// Extents returns the runs inside the given one that may hold anything but
	// zeros, ascending, without overlaps. The rest is zeros and is answered
	// without ReadAt.
	Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error)
}

// ServerOptions change what a [Server] does; the zero value is ready to use.
type ServerOptions struct {
	// OnError hears of every read of an export that failed, so that its owner
	// can tell the operator which drive and point it was. It is called from
	// many goroutines and must not wait.
	OnError func(export string, err error)
	// HandshakeTimeout is how long a peer may take until it has chosen an
	// export; 10 seconds when zero.
	HandshakeTimeout time.Duration
}

// Server gives out disks for reading to any number of peers.
type Server struct {
	exports map[string]Export
	o       ServerOptions
}

// NewServer makes a server of these exports, by name. The map is copied.
func NewServer(exports map[string]Export, o ServerOptions) *Server {
	return &Server{exports: exports, o: o}
}

// Serve answers the peers of a listener, a Unix socket or TCP, until ctx ends.
// It then closes the listener and every connection, waits for all it started,
// and returns nil; it returns an error when the listener broke. It may be
// called for several listeners at once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return nil
}
