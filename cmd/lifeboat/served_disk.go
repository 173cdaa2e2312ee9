package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/nbd"
)

// A drive may vanish under the machines that run from it. Their reads are then
// answered with "no space", on which QEMU stops a machine with nothing in
// flight: its guest sees no error, its clocks stand, and it can still be looked
// at and ended. When the same drive is back, wherever it is attached by then,
// the machines are told to try again.

// servedDisk is a stored disk that survives the going and coming of its drive.
type servedDisk struct {
	from  *servedDrive
	point string
	key   string
	size  int64
	// waits says that reads wait for a drive that is away, because the guest's
	// controller cannot stop its machine.
	waits bool
	// blocks, if given, are those that were read, and given is how many bytes.
	blocks *readBlocks
	given  atomic.Int64

	mu    sync.Mutex
	drive *openedDrive
	disk  *imagestore.Disk
}

// SizeBytes is the size of the disk, known while the drive is away as well.
func (d *servedDisk) SizeBytes() int64 { return d.size }

func (d *servedDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	d.given.Add(int64(len(p)))
	if d.blocks != nil {
		d.blocks.note(offset, int64(len(p)))
	}
	return d.with(ctx, func(disk *imagestore.Disk) error {
		n, err := disk.ReadAtContext(ctx, p, offset)
		if n == len(p) && errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}

func (d *servedDisk) Extents(ctx context.Context, within lifeboat.Extent) (runs []lifeboat.Extent, err error) {
	err = d.with(ctx, func(disk *imagestore.Disk) error {
		runs, err = disk.Extents(ctx, within)
		return err
	})
	return runs, err
}

// with does something with the disk. While the drive is away it waits and does
// it again, or says at once that the drive is away.
func (d *servedDisk) with(ctx context.Context, do func(*imagestore.Disk) error) error {
	// A drive that is only just being opened is not away.
	select {
	case <-d.from.tried:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		disk, drive, err := d.open(ctx)
		if err == nil {
			err = do(disk)
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case drive != d.from.current():
			continue // it was closed under us: the drive is back already
		case !errors.Is(err, lifeboat.ErrDriveGone):
			return err
		case !d.waits:
			d.from.refuse(drive)
			return fmt.Errorf("%w (%w)", err, nbd.ENOSPC)
		}
		if err := d.from.reopen(ctx, drive); err != nil {
			return err
		}
	}
}

// open returns the disk from the store that is open now.
func (d *servedDisk) open(ctx context.Context) (*imagestore.Disk, *openedDrive, error) {
	drive := d.from.current()
	if drive == nil {
		return nil, nil, lifeboat.ErrDriveGone
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drive == drive {
		return d.disk, drive, nil
	}
	disk, err := drive.store.Disk(ctx, d.point, d.key)
	if err != nil {
		return nil, drive, err
	}
	d.drive, d.disk = drive, disk
	return disk, drive, nil
}
