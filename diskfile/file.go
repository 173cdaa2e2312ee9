package diskfile

import (
	"context"
	"errors"

	"lifeboat"
)

// Format is how the bytes of a disk lie in a file.
type Format string

// The formats that can be read; VDI cannot be written.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VHDX  Format = "vhdx"
	VDI   Format = "vdi"
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
// imagestore.Source.
type File struct{}

// Open opens a disk image or a block device for reading. It refuses, with a
// lifeboat.Problem, what a running machine is writing.
func Open(ctx context.Context, path string, o Options) (*File, error) {
	return nil, errors.ErrUnsupported
}

// SizeBytes is the exact size of the disk.
func (f *File) SizeBytes() int64 { return 0 }

// Format is the format of the file.
func (f *File) Format() Format { return Raw }

// Changed knows nothing: files have no change tracking.
func (f *File) Changed(context.Context) ([]lifeboat.Extent, bool, string) {
	return nil, false, "no change tracking"
}

// Extents returns the runs inside the given one that may hold anything but
// zeros.
func (f *File) Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return nil, errors.ErrUnsupported
}

// ReadAt fills p from the given offset, or fails.
func (f *File) ReadAt(ctx context.Context, p []byte, offset int64) error {
	return errors.ErrUnsupported
}

// Close closes the file and ends the helper, if there is one.
func (f *File) Close() error { return nil }

// Target is a disk to write. Its methods may be called from many goroutines.
type Target interface {
	SizeBytes() int64
	// WriteAt writes p at the given offset.
	WriteAt(ctx context.Context, p []byte, offset int64) error
	// ZeroAt makes a run read as zeros, without using space where that is
	// possible.
	ZeroAt(ctx context.Context, offset, length int64) error
	// Sync returns once everything written is on the medium.
	Sync(ctx context.Context) error
	Close() error
}

// Create makes a disk of the given size at path and opens it for writing.
func Create(ctx context.Context, path string, format Format, sizeBytes int64) (Target, error) {
	return nil, errors.ErrUnsupported
}
