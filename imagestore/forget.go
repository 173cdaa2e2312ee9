package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// Forget takes restore points off the list, by their ids. It removes no data:
// what only they needed stays until a prune. The new list is on the drive before
// anything else happens, so that a power cut leaves each point listed whole or
// not at all. It may run beside readers, who go on reading what they opened, and
// beside captures of this store.
//
// The error wraps ErrNoPoint, and then nothing was forgotten.
func (s *Store) Forget(ctx context.Context, ids ...string) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	if err := s.writable(); err != nil {
		return err
	}
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if err := errors.Join(s.writer.err(), ctx.Err()); err != nil {
		return err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(s.state.points, func(p format.HeadPoint) bool { return p.ID.String() == id }) {
			return fmt.Errorf("%w: %s on %s", ErrNoPoint, id, s.label())
		}
	}
	return s.forget(slices.DeleteFunc(slices.Clone(s.state.points), func(p format.HeadPoint) bool {
		return slices.Contains(ids, p.ID.String())
	}))
}

// forget commits a shorter list of points and removes the files of those that
// are not on it. The caller holds commitMu.
func (s *Store) forget(kept []format.HeadPoint) error {
	if len(kept) < len(s.state.points) {
		// Its own sequence: files up to it that are not listed were forgotten.
		sequence, err := s.state.next()
		if err != nil {
			return s.explain(err)
		}
		if err := s.writeHead(sequence, kept); err != nil {
			return s.wrote(fmt.Errorf("write the list without the points that are forgotten: %w", err))
		}
	}
	return s.wrote(s.removeForgotten())
}

// removeForgotten removes the files of points that are not listed any more,
// those that an earlier try left behind too.
func (s *Store) removeForgotten() error {
	names, err := listTwins(s.dir, "points")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the restore points: %w", err)
	}
	listed := map[format.ShortID]bool{}
	for _, p := range s.state.points {
		listed[p.ID] = true
	}
	for _, name := range names {
		p, ok := parsePointName(name)
		if !ok || listed[p.ID] || p.Sequence > s.state.head.Sequence {
			continue
		}
		if err := removeTwin(s.dir, "points/"+name); err != nil {
			return fmt.Errorf("remove a forgotten point: %w", err)
		}
	}
	return nil
}

// recordsOf returns the points that are to be kept: the listed ones, or those
// of the ids. Nothing may be removed while one of them cannot be read.
func (s *Store) recordsOf(ctx context.Context, ids []string) (keep []record, gone []format.HeadPoint, err error) {
	state, _, err := s.readState()
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(state.points, func(p format.HeadPoint) bool { return p.ID.String() == id }) {
			return nil, nil, fmt.Errorf("%w: %s on %s", ErrNoPoint, id, s.label())
		}
	}
	for _, p := range state.points {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if ids != nil && !slices.Contains(ids, p.ID.String()) {
			gone = append(gone, p)
			continue
		}
		r, _, err := s.readRecord(p)
		if isGone(err) {
			return nil, nil, err
		}
		if err != nil {
			return nil, nil, &lifeboat.Problem{
				What: fmt.Sprintf("restore point %s on %s cannot be read, so nobody knows what it needs", p.ID, s.label()),
				Safe: "nothing was removed",
				Next: "heal it with: lifeboat repair; or give it up with: lifeboat point forget " + p.ID.String(),
				Err:  fmt.Errorf("%w: %w", lifeboat.ErrDamaged, err),
			}
		}
		keep = append(keep, r)
	}
	return keep, gone, nil
}
