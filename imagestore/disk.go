package imagestore

import (
	"context"
	"io"

	"lifeboat"
)

// Disk is one disk of a restore point, to be read at random. Every chunk is
// checked against its id when it is read. It is safe for many readers at once.
type Disk struct {
}

var _ io.ReaderAt = (*Disk)(nil)

// Disk opens a disk of a restore point. An excluded disk reads as zeros. The
// error wraps ErrNoPoint if there is no such point or disk.
func (s *Store) Disk(ctx context.Context, pointID, key string) (*Disk, error) {
	panic("not written yet")
}

// SizeBytes is the exact size of the disk.
func (d *Disk) SizeBytes() int64 { panic("not written yet") }

// ReadAt is ReadAtContext without a context.
func (d *Disk) ReadAt(p []byte, offset int64) (int, error) { panic("not written yet") }

// ReadAtContext fills p from offset; at the end of the disk it returns io.EOF
// with what there was. A damaged chunk is an error that wraps
// lifeboat.ErrDamaged and names drive, point, disk, offset and pack; a drive
// that no longer answers is lifeboat.ErrDriveGone.
func (d *Disk) ReadAtContext(ctx context.Context, p []byte, offset int64) (int, error) {
	panic("not written yet")
}

// Extents returns the runs inside the given one that are not zero blocks,
// ascending and without overlaps. Everything else reads as zeros.
func (d *Disk) Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	panic("not written yet")
}
