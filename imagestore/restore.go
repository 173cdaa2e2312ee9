package imagestore

import (
	"context"
	"io"
)

// RestoreTarget is where a disk is written to.
type RestoreTarget interface {
	io.WriterAt
}

// HolePuncher is a RestoreTarget that may hold something already: PunchHole is
// called for every run that must read as zeros. A target without it is taken to
// read as zeros wherever it was not written, as a new sparse file does.
type HolePuncher interface {
	PunchHole(offset, length int64) error
}

// RestoreOptions refine a restore.
type RestoreOptions struct {
	// Compare reads the target before writing (it must be an io.ReaderAt) and
	// writes only what differs: for a restore that is taken up again.
	Compare bool
	// Workers is the number of goroutines; 0 means one for each processor.
	Workers int
	// Progress, if set, is called about every tenth of a second and at the end.
	Progress func(Progress)
}

// Restore writes a disk of a restore point to w, byte for byte, each block
// checked; holes are skipped. On error the target holds a part of the disk.
func (s *Store) Restore(ctx context.Context, pointID, key string, w RestoreTarget, o RestoreOptions) error {
	panic("not written yet")
}
