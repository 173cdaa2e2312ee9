package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// A machine whose disks lie on several drives has a point on each of them, which
// is a part. No part may exist as long as the blocks of another are not on its
// drive, so an export has two steps: Prepare on every drive, then Commit on every
// drive. A crash between the commits leaves parts without their others. Each says
// which those are, so nobody takes it for the machine.

// Prepared is a machine, or a part of one, whose blocks are on the drive and of
// which no restore point exists yet.
type Prepared struct {
	s     *Store
	point lifeboat.RestorePoint
	trees []format.PointDisk
	once  sync.Once
}

// Prepare stores a machine like Capture, all but its commit. The store stays open,
// and nothing is removed from it, until Commit or Drop, one of which must follow.
// What was stored for one that was dropped is used by the next try.
func (s *Store) Prepare(ctx context.Context, c Capture) (*Prepared, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	s.moving.RLock()
	p := &Prepared{s: s}
	var err error
	if p.point, p.trees, err = s.store(ctx, c); err != nil {
		p.Drop()
		return nil, s.explain(fmt.Errorf("capture %s: %w", c.Machine.Name, err))
	}
	return p, nil
}

// Commit makes the restore point: once it returns nil the point survives a power
// cut.
func (p *Prepared) Commit(ctx context.Context) (lifeboat.RestorePoint, error) {
	defer p.Drop()
	point, err := p.s.commit(ctx, p.point, p.trees)
	if err != nil {
		return lifeboat.RestorePoint{}, p.s.explain(fmt.Errorf("commit %s: %w", point.Machine.Name, err))
	}
	return point, nil
}

// Drop gives up what was not committed; after a commit it does nothing.
func (p *Prepared) Drop() {
	p.once.Do(func() {
		p.s.moving.RUnlock()
		p.s.end()
	})
}

// elsewhere says that a disk is in another part than the one to be captured.
func (c Capture) elsewhere(key string) bool {
	return slices.ContainsFunc(c.Together, func(p lifeboat.Part) bool { return p.PointID != c.PointID && p.Has(key) })
}

// allowParts says in the superblock that points of this store may be parts, so
// that no older program takes one for a machine. The caller holds commitMu.
func (s *Store) allowParts() error {
	if s.super.Incompatible&format.FeatureParts != 0 {
		return nil
	}
	super := s.super
	super.Incompatible |= format.FeatureParts
	if err := s.writeSealed(format.KindSuperblock, superblockName, super.Append(nil)); err != nil {
		return fmt.Errorf("say that points may be parts: %w", err)
	}
	s.super = super
	return nil
}

// noDisk says why a point has no such disk here: it may be in another part.
func (s *Store) noDisk(r record, key string) error {
	part, ok := r.point.PartWith(key)
	if !ok {
		return fmt.Errorf("%w: point %s has no disk %q", ErrNoPoint, r.point.ID, key)
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("disk %s of %s is not on %s: it is in the part on drive %s", key, r.point.Machine.Name, s.label(), part.Label),
		Safe: "nothing was changed; the disks that are here can be read",
		Next: fmt.Sprintf("attach drive %s beside this one and run the command again", part.Label),
		Err:  errors.Join(ErrNoPoint, lifeboat.ErrNoDrive),
	}
}
