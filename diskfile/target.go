package diskfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"lifeboat"
)

// Target is a disk to write. Its methods may be called from many goroutines.
type Target interface {
	SizeBytes() int64
	// ReadAt fills p with what the target holds now.
	ReadAt(ctx context.Context, p []byte, offset int64) error
	// WriteAt writes p at the given offset.
	WriteAt(ctx context.Context, p []byte, offset int64) error
	// ZeroAt makes a run read as zeros, without using space where that is
	// possible.
	ZeroAt(ctx context.Context, offset, length int64) error
	// Sync returns once everything written is on the medium.
	Sync(ctx context.Context) error
	// Close lets go of the target; without a Sync before, nothing is promised
	// about what was written.
	Close() error
}

// sector is the unit in which QEMU's formats give a disk its size.
const sector = 512

// Create makes a disk of the given size at path and opens it for writing. A new
// image reads as zeros; one that exists is refused. A block device, for Raw
// only, is taken as it is: it keeps what is not written, also behind the end of
// the disk. Formats that count in sectors make the image larger by the rest of
// one; the target has the exact size.
func Create(ctx context.Context, path string, format Format, sizeBytes int64) (Target, error) {
	if sizeBytes < 0 {
		return nil, fmt.Errorf("make a disk of %d bytes: %w", sizeBytes, fs.ErrInvalid)
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.Mode().Type() == fs.ModeDevice && format == Raw:
		return openDevice(path, sizeBytes)
	case err == nil:
		return nil, exists(path)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	switch format {
	case Raw:
		return createRaw(path, sizeBytes)
	case QCOW2, VMDK, VHDX:
		return createImage(ctx, path, format, sizeBytes)
	default:
		return nil, fmt.Errorf("make %s: disks of format %q cannot be made: %w", path, format, errors.ErrUnsupported)
	}
}

func exists(path string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s exists already", path),
		Safe: "it was not changed",
		Next: "name another place, or move what is there out of the way",
		Err:  ErrExists,
	}
}

func openDevice(path string, sizeBytes int64) (Target, error) {
	f, _, err := openDisk(path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	d, err := newRawDisk(f, true)
	if err == nil {
		err = claim(f, true)
	}
	if err == nil && d.sizeBytes < sizeBytes {
		err = &lifeboat.Problem{
			What: fmt.Sprintf("%s has %d bytes, the disk needs %d", path, d.sizeBytes, sizeBytes),
			Safe: "nothing was written to it",
			Next: "name a device of at least that size",
			Err:  ErrTooSmall,
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	d.sizeBytes = sizeBytes
	return d, nil
}

func createRaw(path string, sizeBytes int64) (Target, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, exists(path)
	}
	if err != nil {
		return nil, err
	}
	err = claim(f, true)
	if err == nil {
		err = f.Truncate(sizeBytes)
	}
	if err != nil {
		f.Close()
		os.Remove(path)
		return nil, fmt.Errorf("make a disk of %d bytes: %w", sizeBytes, err)
	}
	return &rawDisk{f: f, sizeBytes: sizeBytes}, nil
}

func createImage(ctx context.Context, path string, format Format, sizeBytes int64) (Target, error) {
	program, err := findTool("qemu-img")
	if err != nil {
		return nil, err
	}
	// Made by us first, so that nothing that exists is ever written over and
	// nobody else can read it.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, exists(path)
	}
	if err != nil {
		return nil, err
	}
	f.Close()
	h, err := fillImage(ctx, program, image{path: path, format: format, write: true, sizeBytes: sizeBytes})
	if err != nil {
		os.Remove(path)
		return nil, err
	}
	return h, nil
}

func fillImage(ctx context.Context, program string, im image) (*helper, error) {
	size := (im.sizeBytes + sector - 1) / sector * sector
	// The prefix keeps QEMU from reading a name like nbd:… as an address.
	name := "file:" + im.path
	cmd := exec.CommandContext(ctx, program, "create", "-q", "-f", string(im.format), name, strconv.FormatInt(size, 10))
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make %s: qemu-img: %s (%w)", im.path, strings.TrimSpace(string(out)), err)
	}
	return startHelper(ctx, im)
}
