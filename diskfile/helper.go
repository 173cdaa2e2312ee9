package diskfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"lifeboat"
	"lifeboat/nbd"
)

// image is what a helper is to open.
type image struct {
	path    string
	format  Format
	device  bool
	backing bool
	write   bool
	// sizeBytes is the size of the disk where the image had to be made larger;
	// zero takes the image's.
	sizeBytes int64
}

// helper is a qemu-nbd that opened an image, and our connection to it. It dies
// with us.
type helper struct {
	*nbd.Client
	image   image
	dir     string
	process *os.Process
	said    *tail
	fresh   fresh
	// ended is closed when the process is gone, with why.
	ended chan struct{}
	why   error
}

const (
	helperStart = 30 * time.Second // a large VHDX with a log to replay takes a while
	helperStop  = 30 * time.Second // what it still holds has to reach the medium
	helperPoll  = 5 * time.Millisecond
)

// startHelper opens an image with QEMU's own code. The context bounds the
// starting alone.
func startHelper(ctx context.Context, im image) (*helper, error) {
	program, err := findTool("qemu-nbd")
	if err != nil {
		return nil, err
	}
	spec, err := im.spec()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lifeboat-") // mode 0700: nobody else connects
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "s")
	args := []string{"--persistent", "--shared=8", "--discard=unmap", "--socket", socket, "--export-name", "disk"}
	if !im.write {
		args = append(args, "--read-only")
	}
	h := &helper{image: im, dir: dir, said: &tail{}, ended: make(chan struct{})}
	if err := h.start(exec.Command(program, append(args, spec)...)); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	if err := h.connect(ctx, socket); err != nil {
		h.kill()
		return nil, err
	}
	// We are connected: from here on nobody needs the socket, and nothing is
	// left of it should we be killed.
	os.RemoveAll(dir)
	return h, nil
}

// spec describes the image so that QEMU has nothing to guess.
func (im image) spec() (string, error) {
	path, err := filepath.Abs(im.path)
	if err != nil {
		return "", err
	}
	if !utf8.ValidString(path) {
		return "", fmt.Errorf("%q is not a name that QEMU can be told: %w", path, fs.ErrInvalid)
	}
	driver := "file"
	if im.device {
		driver = "host_device"
	}
	node := map[string]any{
		"driver":    im.format,
		"read-only": !im.write,
		"file":      map[string]any{"driver": driver, "filename": path},
	}
	if !im.backing && (im.format == QCOW2 || im.format == VMDK) {
		node["backing"] = nil
	}
	b, err := json.Marshal(node)
	return "json:" + string(b), err
}

// start runs the program so that it dies with us.
func (h *helper) start(cmd *exec.Cmd) error {
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = h.said, h.said
	// A group of its own: Ctrl-C is for us, we tell the helper.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		// The signal comes when the thread that started the child ends, so
		// this one stays as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			h.why = cmd.Wait()
			close(h.ended)
		}
	}()
	err := <-started
	h.process = cmd.Process
	return err
}

// connect waits until the helper serves.
func (h *helper) connect(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, helperStart)
	defer cancel()
	poll := time.NewTicker(helperPoll)
	defer poll.Stop()
	for {
		c, err := nbd.Dial(ctx, "unix", socket, "disk", nbd.DialOptions{MetaContexts: []string{nbd.ContextAllocation}, Connections: 2})
		switch {
		case err == nil && c.SizeBytes() < h.image.sizeBytes:
			c.Close()
			return fmt.Errorf("%s holds %d bytes, not %d: %w", h.image.path, c.SizeBytes(), h.image.sizeBytes, ErrTooSmall)
		case err == nil:
			h.Client = c
			return nil
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, nbd.ErrGone):
			return fmt.Errorf("open %s: %w", h.image.path, err)
		}
		select {
		case <-h.ended:
			return h.refused()
		case <-ctx.Done():
			return fmt.Errorf("open %s: %w", h.image.path, context.Cause(ctx))
		case <-poll.C:
		}
	}
}

// refused explains why the helper ended before it served.
func (h *helper) refused() error {
	if said := h.said.String(); strings.Contains(said, "lock") && strings.Contains(said, "Failed to get") {
		return inUse(h.image.path, "a running machine or a tool holds it")
	}
	return fmt.Errorf("open %s as %s: qemu-nbd: %s (%w)", h.image.path, h.image.format, h.said, h.why)
}

// SizeBytes is the size of the disk.
func (h *helper) SizeBytes() int64 {
	if h.image.sizeBytes > 0 {
		return h.image.sizeBytes
	}
	return h.Client.SizeBytes()
}

// ReadAt fills p from the given offset, or fails.
func (h *helper) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if err := checkInside(offset, int64(len(p)), h.SizeBytes()); err != nil {
		return err
	}
	return h.explain(h.Client.ReadAt(ctx, p, offset))
}

// Extents returns the runs that the image says are not zeros.
func (h *helper) Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	if err := checkInside(within.Offset, within.Length, h.SizeBytes()); err != nil {
		return nil, err
	}
	list, err := h.Client.DataExtents(ctx, within)
	return list, h.explain(err)
}

// Close ends the helper. An error means that what was written may not all be in
// the image.
func (h *helper) Close() error {
	h.Client.Close()
	h.process.Signal(syscall.SIGTERM)
	t := time.NewTimer(helperStop)
	defer t.Stop()
	select {
	case <-h.ended:
	case <-t.C:
		h.kill()
	}
	if h.why != nil && h.image.write {
		return fmt.Errorf("close %s: qemu-nbd: %s (%w)", h.image.path, h.said, h.why)
	}
	return nil
}

// kill ends the helper at once and waits for its end.
func (h *helper) kill() {
	h.process.Kill()
	<-h.ended
	os.RemoveAll(h.dir)
}

// explain adds to an error which file it was, and what the helper said before
// it went away.
func (h *helper) explain(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-h.ended:
		return fmt.Errorf("%s: %w; qemu-nbd ended: %s", h.image.path, err, h.said)
	default:
		return fmt.Errorf("%s: %w", h.image.path, err)
	}
}

// tail keeps the end of what a program says.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-tailBytes):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(string(t.b)), " ")
}
