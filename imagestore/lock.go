package imagestore

import (
	"errors"
	"fmt"

	"lifeboat"
	"lifeboat/internal/durable"
)

// The locks. Everybody shares lock.use, so that a remover, who takes it alone,
// never takes away what is being read; a writer holds lock.write alone.
const (
	lockUse   = "lock.use"
	lockWrite = "lock.write"
)

func (s *Store) lock() error {
	if s.mode.writes() && s.dir.ReadOnly() {
		return &lifeboat.Problem{
			What: fmt.Sprintf("nothing can be written to %s", s.label()),
			Safe: "its restore points are as they were",
			Next: "mount the drive for writing, or attach the drive that is due",
			Err:  durable.ErrReadOnly,
		}
	}
	err := s.takeLock(lockUse, s.mode == Alone)
	if s.mode == Read && err != nil && !errors.Is(err, durable.ErrLocked) {
		// Whoever may only look cannot make a lock file; a medium may have no locks.
		s.log.Warn("reading without a lock", "why", err)
		return nil
	}
	if err == nil && s.mode.writes() {
		err = s.takeLock(lockWrite, true)
	}
	if err != nil {
		s.unlockFiles()
	}
	return s.explain(err)
}

func (s *Store) takeLock(name string, alone bool) error {
	l, err := s.dir.Lock(name, alone)
	if errors.Is(err, durable.ErrLocked) {
		return &lifeboat.Problem{
			What: fmt.Sprintf("another run works on %s: %s", s.label(), err),
			Safe: "nothing was changed; that run goes on, and the restore points can be read meanwhile",
			Next: "wait for it, or look at it with: lifeboat run list",
			Err:  fmt.Errorf("%w: %w", lifeboat.ErrDriveHeld, err),
		}
	}
	if err != nil {
		return err
	}
	s.locks = append(s.locks, l)
	return nil
}

func (s *Store) unlockFiles() error {
	var errs []error
	for _, l := range s.locks {
		errs = append(errs, l.Close())
	}
	s.locks = nil
	return errors.Join(errs...)
}
