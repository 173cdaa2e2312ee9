package nbd

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"lifeboat"
)

var errRotten = errors.New("this part of the disk is rotten")

// memoryDisk is an export in memory. Its holes are runs of zero granules.
type memoryDisk struct {
	data []byte
	// granule is the size of the pieces that Extents looks at.
	granule int64
	// rotten is a part that cannot be read.
	rotten lifeboat.Extent
	// gate, when set, is received from before each read.
	gate  chan struct{}
	reads atomic.Int64
}

func (d *memoryDisk) SizeBytes() int64 { return int64(len(d.data)) }

func (d *memoryDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	d.reads.Add(1)
	if d.gate != nil {
		select {
		case <-d.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if end := offset + int64(len(p)); offset < d.rotten.End() && end > d.rotten.Offset {
		return errRotten
	}
	copy(p, d.data[offset:])
	return nil
}

func (d *memoryDisk) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	var out []lifeboat.Extent
	for at := within.Offset; at < within.End(); {
		end := min((at/d.granule+1)*d.granule, within.End())
		if piece := d.data[at:end]; !bytes.Equal(piece, zeros[:len(piece)]) {
			out = append(out, lifeboat.Extent{Offset: at, Length: end - at})
		}
		at = end
	}
	return out, nil
}

// noise is what data is cut from.
var noise = func() []byte {
	b := make([]byte, 256<<10)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

var zeros = make([]byte, 64<<10)

// newDisk makes a disk whose granules are random bytes or zeros.
func newDisk(t testing.TB, size int64, seed uint64) *memoryDisk {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	d := &memoryDisk{data: make([]byte, size), granule: 4096}
	for at := int64(0); at < size; at += d.granule {
		if rnd.IntN(3) == 0 {
			continue
		}
		piece := d.data[at:min(at+d.granule, size)]
		copy(piece, noise[rnd.IntN(len(noise)-len(piece)):])
		if rnd.IntN(8) == 0 {
			at += d.granule * int64(rnd.IntN(100))
		}
	}
	return d
}

// errorLog collects what a server's OnError heard.
type errorLog struct {
	mu   sync.Mutex
	errs []error
}

func (l *errorLog) add(_ string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

func (l *errorLog) all() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]error(nil), l.errs...)
}

// serve starts a server on a Unix socket and returns the socket's path and a
// function that ends the server and waits for it.
func serve(t testing.TB, exports map[string]Export, o ServerOptions) (socket string, stop func()) {
	t.Helper()
	socket = filepath.Join(socketDir(t), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewServer(exports, o).Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return socket, stop
}

// socketDir makes a folder whose name is short enough for a socket's path.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// need skips a test whose program is not installed.
func need(t testing.TB, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed; to run this test: apt-get install %s", program, debianPackage)
	}
}

// tool runs a program and returns what it printed.
func tool(t testing.TB, program string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	return string(out), err
}
