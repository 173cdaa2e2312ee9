package main

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"lifeboat/hypervisor"
	"lifeboat/imagestore"
)

// diskCopy follows how the disks of one machine are copied to its host.
type diskCopy struct {
	progress *progress
	done     atomic.Int64
	total    int64
	// all counts for every machine of the run.
	all *atomic.Int64
}

// readBytes is how much was read from the drive so far: by the server of the
// disks, and for copies.
func (b *booter) readBytes() int64 {
	serving, _ := readServing(b.booted.dir(b.a))
	return serving.ReadBytes + b.copied.Load()
}

func (b *booter) newDiskCopy(m plannedBoot) *diskCopy {
	c := &diskCopy{all: &b.copied, progress: b.a.newProgress(b.run, m.Name+" to host "+b.host.Name())}
	for _, d := range m.Point.Disks {
		c.total += d.DataBytes
	}
	return c
}

// copiedDisk is a disk of a restore point, read by a host that copies it.
type copiedDisk struct {
	*imagestore.Disk
	copy *diskCopy
}

// ReadAt fills p, or fails: damage on the drive is an error.
func (d copiedDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	n, err := d.ReadAtContext(ctx, p, offset)
	d.copy.all.Add(int64(n))
	d.copy.progress.show(d.copy.done.Add(int64(n)), d.copy.total)
	if n == len(p) && errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

var _ hypervisor.DiskReader = copiedDisk{}
