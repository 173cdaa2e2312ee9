package imagestore

import (
	"context"
	"time"

	"lifeboat"
)

// Source is one disk, held at one moment. hypervisor.StillDisk is one.
type Source interface {
	// SizeBytes is the exact size of the disk.
	SizeBytes() int64
	// Changed returns a superset of what differs from the point whose token the
	// source was asked for, ascending and without overlaps; or ok false and why.
	Changed(ctx context.Context) (extents []lifeboat.Extent, ok bool, why string)
	// Extents returns the runs inside the given one that may hold anything but
	// zeros, ascending and without overlaps.
	Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error)
	// ReadAt fills p from offset or fails. Many reads may be in flight.
	ReadAt(ctx context.Context, p []byte, offset int64) error
}

// Capture is one machine, held still, to be stored as a restore point.
type Capture struct {
	Machine     lifeboat.Machine
	RunID       string
	TakenAt     time.Time
	Consistency lifeboat.Consistency
	// Host is the host the machine runs on; Program the version of Lifeboat.
	Host, Program string
	// Sources holds the disks by their keys. Each disk of the machine has one,
	// unless it is excluded.
	Sources map[string]Source
	// Tokens are the sources' own names for this moment, kept in the point.
	Tokens map[string]string
	// Since holds, by disk key, the token that the source's change list counts
	// from. A list is used only if the machine's newest point on this drive
	// carries that very token.
	Since map[string]string
	// Workers is the number of goroutines that hash and compress; 0 means one
	// for each processor.
	Workers int
	// Progress, if set, is called about every tenth of a second and at the end,
	// never twice at a time.
	Progress func(Progress)
}

// Progress is how far a long operation has come.
type Progress struct {
	// TotalBytes is what there is to do and DoneBytes what of it is done, both
	// in bytes of the disks (Capture, Restore) or of the drive (Verify).
	TotalBytes int64 `json:"totalBytes"`
	DoneBytes  int64 `json:"doneBytes"`
	// ReadBytes came from the source, NewBytes of it were not on the drive
	// before, and WrittenBytes went to the drive.
	ReadBytes    int64 `json:"readBytes"`
	NewBytes     int64 `json:"newBytes"`
	WrittenBytes int64 `json:"writtenBytes"`
}

// Capture stores a machine and returns the new restore point once it is
// committed: from then on it survives a power cut. Until then the store lists
// what it listed before; on error or cancel nothing needs cleaning, and blocks
// that were already written are reused by the next try. Several captures may
// run at once.
//
// Errors wrap lifeboat.ErrDriveFull, lifeboat.ErrDriveGone, the context's error
// or the source's.
func (s *Store) Capture(ctx context.Context, c Capture) (lifeboat.RestorePoint, error) {
	panic("not written yet")
}
