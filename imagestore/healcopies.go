package imagestore

import (
	"fmt"

	"lifeboat/imagestore/format"
)

// healedPoints is how many points a writer looks at when it opens the store;
// thousands of small files on a disk that seeks would take minutes. Which ones
// moves on with each commit.
const healedPoints = 64

// healCopies makes the two copies of small files equal again: one may be
// missing after a power cut, or rotten.
func (s *Store) healCopies() error {
	if err := s.healSuper(); err != nil {
		return err
	}
	if err := healTwin(s.dir, headName(s.state.head.Sequence), format.MaxSmallFile, s.sealedAs(format.KindHead)); err != nil {
		return fmt.Errorf("complete the last commit: %w", err)
	}
	points, err := s.pointsToHeal()
	if err != nil {
		return err
	}
	if err := s.healPoints(points); err != nil {
		return err
	}
	if err := s.healEnclosures(); err != nil {
		return err
	}
	return s.healSlots()
}

// healPoints makes the two copies of some points equal again.
func (s *Store) healPoints(points []format.HeadPoint) error {
	for _, p := range points {
		err := healTwin(s.dir, pointName(p.Sequence, p.ID), format.MaxSmallFile, func(b []byte) error {
			_, err := s.decodeRecord(b, p)
			return err
		})
		if err != nil {
			return fmt.Errorf("complete a restore point: %w", err)
		}
	}
	return nil
}

// pointsToHeal are those of which there is one copy only, and some of the rest.
func (s *Store) pointsToHeal() ([]format.HeadPoint, error) {
	entries, err := s.dir.List("points")
	if err != nil {
		return nil, fmt.Errorf("list the restore points: %w", err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		there["points/"+e.Name()] = true
	}
	var chosen []format.HeadPoint
	for _, p := range s.state.points {
		if name := pointName(p.Sequence, p.ID); there[name+copyA] != there[name+copyB] {
			chosen = append(chosen, p)
		}
	}
	n := uint64(len(s.state.points))
	for i := range min(n, healedPoints) {
		chosen = append(chosen, s.state.points[(s.state.head.Sequence%n*healedPoints+i)%n])
	}
	return chosen, nil
}

func (s *Store) sealedAs(kind format.Kind) func([]byte) error {
	return func(b []byte) error {
		_, _, err := format.OpenSmall(b, s.driveID, kind, s.masters)
		return err
	}
}

// healSuper makes both superblocks those of the generation that the store was
// opened with. Where that fails nothing may be written: who opened the other one
// would not find the key of new files.
func (s *Store) healSuper() error {
	if err := healTwin(s.dir, superblockName, format.MaxSmallFile, s.sameSuper); err != nil {
		for _, c := range s.superCopies() {
			if c.err == nil && s.sameSuper(c.bytes) != nil {
				return fmt.Errorf("complete the superblock, of which there are two: %v", err)
			}
		}
		return fmt.Errorf("complete the superblock: %w", err)
	}
	return nil
}

// healSlots completes slots of which one copy is lost, and removes those that a
// rotation replaced: they open nothing that was written since.
func (s *Store) healSlots() error {
	files, err := s.slotFiles()
	if err != nil {
		return err
	}
	for _, f := range files.own {
		err := healTwin(s.dir, f.path(), format.MaxSlotFile, func(b []byte) error {
			slot, err := format.DecodeSlot(b)
			if err == nil {
				_, err = slot.OpenNote(s.presentKeys().Masters.Newest().Key)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("complete key slot %q: %w", f.note.Name, err)
		}
	}
	for _, f := range files.stale {
		if err := removeTwin(s.dir, f.path()); err != nil {
			return fmt.Errorf("remove key slot %q, which a rotation replaced: %w", f.note.Name, err)
		}
	}
	return nil
}
