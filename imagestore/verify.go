package imagestore

import (
	"context"

	"lifeboat"
)

// VerifyOptions narrow a verification. The zero value reads everything.
type VerifyOptions struct {
	// Points limits it to what these points refer to.
	Points   []string
	Progress func(Progress)
}

// VerifyReport is what a verification found.
type VerifyReport struct {
	Points    int   `json:"points"`
	Packs     int   `json:"packs"`
	Frames    int64 `json:"frames"`
	Chunks    int64 `json:"chunks"`
	ReadBytes int64 `json:"readBytes"`
	// Faults are files or parts of files that are not what was written,
	// whether or not a point is hurt.
	Faults []Fault `json:"faults,omitempty"`
	// Hurt lists what of which points cannot be restored, point by point.
	Hurt []Hurt `json:"hurt,omitempty"`
}

// Hurt is a part of a point that cannot be restored from this drive.
type Hurt struct {
	PointID string `json:"pointId"`
	Machine string `json:"machine"`
	Disk    string `json:"disk"`
	// Extents are the ranges of the disk, merged and ascending.
	Extents []lifeboat.Extent `json:"extents"`
}

// Verify reads every byte of the store from the medium, past the page cache,
// and recomputes every id. When it finds damage it returns the report and an
// error that wraps lifeboat.ErrDamaged; on a drive that can be written it also
// marks the damaged chunks, so that the next export writes them again.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	panic("not written yet")
}
