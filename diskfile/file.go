package diskfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"lifeboat"
)

// Options say how to open a disk; the zero value decides from the file.
type Options struct {
	// Format is what the caller says the file is; empty lets Open decide by the
	// rule of [Detect].
	Format Format
	// AllowBacking opens an image that reads part of itself from other files.
	AllowBacking bool
}

// File is a disk image or block device open for reading. It satisfies
// imagestore.Source. Its methods may be called from many goroutines.
type File struct {
	disk
	path   string
	format Format
	// claimed keeps the claim on an image that a helper reads.
	claimed *os.File
}

// disk is what reads a format.
type disk interface {
	SizeBytes() int64
	ReadAt(ctx context.Context, p []byte, offset int64) error
	Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error)
	Close() error
}

// Open opens a disk image or a block device for reading. It refuses, with a
// lifeboat.Problem, what a running machine is writing, what is not surely of
// one format, and images that depend on other files unless that is allowed.
func Open(ctx context.Context, path string, o Options) (*File, error) {
	f, device, err := openDisk(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	opened, err := open(ctx, f, device, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	return opened, nil
}

func open(ctx context.Context, f *os.File, device bool, o Options) (*File, error) {
	path := f.Name()
	if err := claim(f, false); err != nil {
		return nil, err
	}
	head, err := readHead(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	format, err := Detect(path, device, head, o.Format)
	if err != nil {
		return nil, err
	}
	if format == Raw {
		raw, err := newRawDisk(f, device)
		return &File{disk: raw, path: path, format: Raw}, err
	}
	if !o.AllowBacking {
		names, err := outside(f, format)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(names) > 0 {
			return nil, refuseOutside(path, names)
		}
	}
	h, err := startHelper(ctx, image{path: path, format: format, device: device, backing: o.AllowBacking})
	if err != nil {
		return nil, err
	}
	return &File{disk: h, path: path, format: format, claimed: f}, nil
}

// openDisk opens a regular file or a block device, and nothing else. A device
// that the system uses, mounted or as part of another, is refused.
func openDisk(path string, flags int) (f *os.File, device bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, err
	}
	device = info.Mode().Type() == fs.ModeDevice
	if !device && !info.Mode().IsRegular() {
		return nil, false, fmt.Errorf("%s is neither a file nor a block device: %w", path, fs.ErrInvalid)
	}
	if device {
		flags |= os.O_EXCL
	}
	f, err = os.OpenFile(path, flags, 0)
	if device && errors.Is(err, unix.EBUSY) {
		return nil, true, inUse(path, "this system has mounted it or made it part of something")
	}
	return f, device, err
}

// Path is where the disk is.
func (f *File) Path() string { return f.path }

// Format is the format of the file.
func (f *File) Format() Format { return f.format }

// Changed knows nothing: files have no change tracking.
func (f *File) Changed(context.Context) ([]lifeboat.Extent, bool, string) {
	return nil, false, "no change tracking"
}

// Close closes the file and ends the helper, if there is one.
func (f *File) Close() error {
	err := f.disk.Close()
	if f.claimed != nil {
		err = errors.Join(err, f.claimed.Close())
	}
	return err
}

// checkInside refuses what is not inside a disk.
func checkInside(offset, length, sizeBytes int64) error {
	if offset < 0 || length < 0 || length > math.MaxInt64-offset || offset+length > sizeBytes {
		return fmt.Errorf("%d bytes at %d are not inside a disk of %d: %w", length, offset, sizeBytes, fs.ErrInvalid)
	}
	return nil
}
