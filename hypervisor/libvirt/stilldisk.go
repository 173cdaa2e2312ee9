//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
)

// stillDisk is one disk of a still.
type stillDisk struct {
	still  *still
	key    string
	size   int64
	fresh  string // the checkpoint that begins with this still, or empty
	base   string // the checkpoint of the drive's last point, or empty
	why    string // why there is no base
	bitmap string // what the export calls the changes since the base
	client *nbd.Client
}

// SizeBytes is the exact size of the disk.
func (sd *stillDisk) SizeBytes() int64 { return sd.size }

// Token names this moment of this disk for a later export to the same drive.
func (sd *stillDisk) Token() string { return token(sd.still.domain.uuid, sd.fresh, sd.size) }

// Changed returns what the guest wrote since the drive's last point.
func (sd *stillDisk) Changed(ctx context.Context) ([]lifeboat.Extent, bool, string) {
	if sd.base == "" {
		return nil, false, sd.why
	}
	extents, err := sd.client.DirtyExtents(ctx, sd.bitmap, lifeboat.Extent{Length: sd.size})
	if err == nil {
		err = sd.still.valid()
	}
	if err != nil {
		return nil, false, whyUnreadable + ": " + err.Error()
	}
	return extents, true, ""
}

// Extents returns the runs that may hold anything but zeros.
func (sd *stillDisk) Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	extents, err := sd.client.DataExtents(ctx, within)
	if err == nil {
		err = sd.still.valid()
	}
	if err != nil {
		return nil, sd.explain(ctx, "find the data of", err)
	}
	return extents, nil
}

// ReadAt fills p from the given offset, or fails.
func (sd *stillDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	err := sd.client.ReadAt(ctx, p, offset)
	if err == nil {
		err = sd.still.valid()
	}
	if err != nil {
		return sd.explain(ctx, "read", err)
	}
	return nil
}

// valid fails once the job is being ended: what was read from then on may be what
// the guest wrote later.
func (s *still) valid() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released && s.broken == nil {
		return errors.New("it was let go")
	}
	return s.broken
}

// explain tells a machine that went away from a still that broke.
func (sd *stillDisk) explain(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s, kind := sd.still, hypervisor.ErrStillBroken
	if broken := s.valid(); broken != nil {
		err = broken
	} else if errors.Is(err, nbd.ErrGone) && s.isOff(ctx) {
		kind = hypervisor.ErrMachineGone
	}
	return fmt.Errorf("%s disk %s of %s: %w: %w", what, sd.key, s.domain.name, kind, err)
}
