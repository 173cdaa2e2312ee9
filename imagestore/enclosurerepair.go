package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"lifeboat/imagestore/format"
)

// healEnclosures completes the records and parts of which there is one copy only,
// after a power cut.
func (s *Store) healEnclosures() error {
	for _, folder := range []string{enclosuresFolder, partsFolder} {
		entries, err := s.dir.List(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", folder, err)
		}
		copies := map[string]int{}
		for _, e := range entries {
			copies[strings.TrimSuffix(strings.TrimSuffix(e.Name(), copyA), copyB)]++
		}
		for name, n := range copies {
			if n != 1 || !twinNames[folder].MatchString(name) {
				continue
			}
			if err := healTwin(s.dir, folder+"/"+name, format.MaxSmallFile, s.sealedAs(smallFolders[folder])); err != nil {
				return fmt.Errorf("complete a document: %w", err)
			}
		}
	}
	return nil
}

// repairEnclosures makes both copies of every record and part the good one. A
// document of which a part is lost goes altogether: half of one helps nobody, and
// its name is free again.
func (s *Store) repairEnclosures(ctx context.Context) error {
	for _, folder := range []string{partsFolder, enclosuresFolder} {
		names, err := s.twins(folder)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := s.healOrRemove(folder+"/"+name, smallFolders[folder]); err != nil {
				return err
			}
		}
	}
	records, _, err := s.enclosureRecords(ctx)
	if err != nil {
		return err
	}
	return s.removeEnclosures(records, func(e format.Enclosure) bool {
		lost := s.lostParts(e)
		if len(lost) > 0 {
			s.log.Warn("removing a document of which parts are lost", "parts", len(lost))
		}
		return len(lost) > 0
	})
}

// lostParts names the parts of a document that are not there at all.
func (s *Store) lostParts(e format.Enclosure) (names []string) {
	for number := range e.Parts() {
		_, errA := s.dir.Stat(partName(e.ID, number) + copyA)
		_, errB := s.dir.Stat(partName(e.ID, number) + copyB)
		if errors.Is(errA, fs.ErrNotExist) && errors.Is(errB, fs.ErrNotExist) {
			names = append(names, partName(e.ID, number))
		}
	}
	return names
}

// enclosures finds documents that lack parts; what is in files that are there is
// read with the other small files.
func (v *verification) enclosures(ctx context.Context) error {
	records, _, err := v.s.enclosureRecords(ctx)
	if err != nil {
		return err
	}
	for _, e := range records {
		lost := v.s.lostParts(e)
		if len(lost) == 0 {
			continue
		}
		if _, err := v.s.dir.Stat(enclosureName(e.ID) + copyA); errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		for _, name := range lost {
			v.fault(Fault{File: name, Lost: true, Why: "a part of a document is missing"})
		}
	}
	return nil
}
