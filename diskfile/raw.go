package diskfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lifeboat"
)

// rawDisk is a raw image or a block device.
type rawDisk struct {
	f         *os.File
	device    bool
	sizeBytes int64
}

func newRawDisk(f *os.File, device bool) (*rawDisk, error) {
	// The end of a block device is its size, as with a file.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w", f.Name(), err)
	}
	return &rawDisk{f: f, device: device, sizeBytes: size}, nil
}

func (d *rawDisk) SizeBytes() int64 { return d.sizeBytes }

// ReadAt fills p from the given offset, or fails.
func (d *rawDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if err := errors.Join(ctx.Err(), checkInside(offset, int64(len(p)), d.sizeBytes)); err != nil {
		return err
	}
	if _, err := d.f.ReadAt(p, offset); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the file became shorter
		}
		return fmt.Errorf("read %d bytes at %d of %s: %w", len(p), offset, d.f.Name(), err)
	}
	return nil
}

// Extents asks the file system. Where it does not know, all is data.
func (d *rawDisk) Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	if err := errors.Join(ctx.Err(), checkInside(within.Offset, within.Length, d.sizeBytes)); err != nil {
		return nil, err
	}
	var list []lifeboat.Extent
	for at := within.Offset; at < within.End(); {
		start, end, err := d.nextData(at)
		if err != nil {
			return nil, err
		}
		start, end = min(start, within.End()), min(end, within.End())
		if start < end {
			list = append(list, lifeboat.Extent{Offset: start, Length: end - start})
		}
		at = max(start, end)
	}
	return list, nil
}

// nextData returns the first run of data at or after an offset.
func (d *rawDisk) nextData(at int64) (start, end int64, err error) {
	fd := int(d.f.Fd())
	start, err = unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // a hole up to the end
		return d.sizeBytes, d.sizeBytes, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), d.device:
		return at, d.sizeBytes, nil
	case err != nil:
		return 0, 0, fmt.Errorf("look for data at %d of %s: %w", at, d.f.Name(), err)
	}
	end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
	if err != nil || end <= start {
		return start, d.sizeBytes, nil
	}
	return start, end, nil
}

// WriteAt writes p at the given offset.
func (d *rawDisk) WriteAt(ctx context.Context, p []byte, offset int64) error {
	if err := errors.Join(ctx.Err(), checkInside(offset, int64(len(p)), d.sizeBytes)); err != nil {
		return err
	}
	if _, err := d.f.WriteAt(p, offset); err != nil {
		return fmt.Errorf("write %d bytes at %d of %s: %w", len(p), offset, d.f.Name(), err)
	}
	return nil
}

// zeroPiece is written where neither file system nor device can make zeros.
var zeroPiece = make([]byte, 1<<20)

// ZeroAt makes a run read as zeros: by punching a hole, by asking for zeros, or
// by writing them, whatever works first.
func (d *rawDisk) ZeroAt(ctx context.Context, offset, length int64) error {
	if err := errors.Join(ctx.Err(), checkInside(offset, length, d.sizeBytes)); err != nil || length == 0 {
		return err
	}
	for _, mode := range []uint32{unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE} {
		err := error(unix.EINTR)
		for errors.Is(err, unix.EINTR) { // a signal met long work: begin again
			err = unix.Fallocate(int(d.f.Fd()), mode|unix.FALLOC_FL_KEEP_SIZE, offset, length)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("zero %d bytes at %d of %s: %w", length, offset, d.f.Name(), err)
		}
	}
	for length > 0 {
		n := min(length, int64(len(zeroPiece)))
		if err := d.WriteAt(ctx, zeroPiece[:n], offset); err != nil {
			return err
		}
		offset += n
		length -= n
	}
	return nil
}

// Sync returns once everything written, and the name of a new file, is on the
// medium.
func (d *rawDisk) Sync(context.Context) error {
	if err := d.f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", d.f.Name(), err)
	}
	if d.device {
		return nil
	}
	return syncDir(filepath.Dir(d.f.Name()))
}

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", name, err)
	}
	return nil
}

func (d *rawDisk) Close() error { return d.f.Close() }
