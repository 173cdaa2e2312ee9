package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"syscall"
	"time"

	"lifeboat"
)

// Export is a disk that a [Server] gives out for reading. Its methods are
// called from many goroutines.
type Export interface {
	// SizeBytes is the exact size of the disk; it never changes.
	SizeBytes() int64
	// ReadAt fills p from the given offset, or fails: the reader then sees EIO,
	// or the [Errno] that the error wraps.
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
	// Find, if given, is asked for an export that the server was not made with, so
	// that an owner can add disks while it serves. It answers nil for one that is
	// not there, and for a name that it answered always with the same disk. It is
	// called from many goroutines. Lists of exports do not have what it finds.
	Find func(export string) Export
}

// Server gives out disks for reading to any number of peers.
type Server struct {
	exports map[string]Export
	o       ServerOptions
}

// maxPeers is how many connections one listener holds. A machine uses a few per
// disk; more would only let a broken peer use up memory.
const maxPeers = 256

// NewServer makes a server of these exports, by name. The map is copied.
func NewServer(exports map[string]Export, o ServerOptions) *Server {
	if o.OnError == nil {
		o.OnError = func(string, error) {}
	}
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = 10 * time.Second
	}
	return &Server{exports: maps.Clone(exports), o: o}
}

// export finds an export by its name.
func (s *Server) export(name string) (Export, bool) {
	e, ok := s.exports[name]
	if !ok && s.o.Find != nil {
		e = s.o.Find(name)
		ok = e != nil
	}
	return e, ok
}

// Serve answers the peers of a listener, a Unix socket or TCP, until ctx ends.
// It then closes the listener and every connection, waits for all it started,
// and returns nil; it returns an error when the listener broke. It may be
// called for several listeners at once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var peers sync.WaitGroup
	defer peers.Wait()
	defer cancel()
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()

	slots := make(chan struct{}, maxPeers)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) {
			// The machines that are connected go on; only newcomers wait.
			pause(ctx, 100*time.Millisecond)
			continue
		}
		if err != nil {
			return fmt.Errorf("accept connections on %s: %w", l.Addr(), err)
		}
		select {
		case slots <- struct{}{}:
			peers.Go(func() {
				defer func() { <-slots }()
				s.servePeer(ctx, conn)
			})
		default:
			conn.Close()
		}
	}
}

// servePeer talks to one peer until it goes, breaks the protocol, or ctx ends.
// What a peer does wrong is its own loss; there is nobody to tell.
func (s *Server) servePeer(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	h := handshake{s: s, conn: conn, in: bufio.NewReaderSize(conn, 16<<10)}
	conn.SetDeadline(time.Now().Add(s.o.HandshakeTimeout))
	if err := h.run(); err != nil {
		return
	}
	conn.SetDeadline(time.Time{})
	p := peer{
		conn:       conn,
		in:         h.in,
		name:       h.chosen,
		export:     h.export,
		structured: h.structured,
		allocation: h.allocation && h.metaExport == h.chosen,
		onError:    s.o.OnError,
	}
	p.run(ctx)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
