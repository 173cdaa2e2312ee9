package imagestore

import (
	"context"
	"errors"

	"lifeboat"
)

// ErrNoPoint: the drive has no such restore point, or the point no such disk.
var ErrNoPoint = errors.New("no such restore point on this drive")

// Fault is something of the store that cannot be read as it was written.
type Fault struct {
	// File is the name inside the store.
	File string `json:"file"`
	// PointID is the point it belongs to, when that is known.
	PointID string `json:"pointId,omitempty"`
	// Lost says that no good copy was found; otherwise the second copy served.
	Lost bool   `json:"lost"`
	Why  string `json:"why"`
}

// Points lists the restore points, oldest first by Sequence. A record that
// cannot be read is a Fault and never hides the others; the error is for a
// drive that cannot be listed at all. It looks at the drive anew each time.
func (s *Store) Points(ctx context.Context) ([]lifeboat.RestorePoint, []Fault, error) {
	panic("not written yet")
}

// Point returns one restore point; the error wraps ErrNoPoint.
func (s *Store) Point(ctx context.Context, id string) (lifeboat.RestorePoint, error) {
	panic("not written yet")
}

// Newest returns the newest point of a machine, by its Machine.ID; the error
// wraps ErrNoPoint.
func (s *Store) Newest(ctx context.Context, machineID string) (lifeboat.RestorePoint, error) {
	panic("not written yet")
}
