package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// healSmallFiles completes the second copies of all small files, and does without
// those that are lost and that the store can do without.
func (s *Store) healSmallFiles(ctx context.Context) error {
	if err := s.healPoints(s.state.points); err != nil {
		return err
	}
	if err := s.healHeads(); err != nil {
		return err
	}
	checks, err := listTwins(s.dir, checksFolder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list the checks: %w", err)
	}
	for _, name := range checks {
		if err := s.healOrRemove(checksFolder+"/"+name, format.KindChecks); err != nil {
			return err
		}
	}
	return s.repairEnclosures(ctx)
}

// healHeads completes the heads. Where the newest is lost, the points that are
// known are committed anew.
func (s *Store) healHeads() error {
	names, err := listTwins(s.dir, "heads")
	if err != nil {
		return fmt.Errorf("list the commits: %w", err)
	}
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if len(s.state.points) == 0 {
		return nil
	}
	newest := s.state.sequence()
	for _, name := range names {
		if sequence, ok := parseSequence(name); ok {
			newest = max(newest, sequence)
		}
	}
	if s.state.head.Sequence == 0 || newest > s.state.sequence() {
		if err := s.writeHead(newest+1, s.state.points); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := s.healOrRemove("heads/"+name, format.KindHead); err != nil {
			return err
		}
	}
	return nil
}

// healOrRemove makes both copies of a file the good one, or removes both.
func (s *Store) healOrRemove(name string, kind format.Kind) error {
	check := s.sealedAs(kind)
	_, err := readTwin(s.dir, name, format.MaxSmallFile, check)
	if isGone(err) {
		return err
	}
	if err == nil {
		return healTwin(s.dir, name, format.MaxSmallFile, check)
	}
	s.log.Warn("removing a file of which no copy is good", "file", name, "why", err)
	return removeTwin(s.dir, name)
}

// marksInFile bounds how many marks one file holds.
const marksInFile = 100_000

// restateMarks keeps the marks of what a verification of the whole store found
// bad, and drops all others: those places are good again.
func (s *Store) restateMarks(states map[uint32]*packState) error {
	old, err := s.dir.List("marks")
	if err != nil {
		return fmt.Errorf("list the marks: %w", err)
	}
	kept := s.marks.stillTrue(states, s.packs)
	for _, r := range s.index.brokenRuns() {
		kept = append(kept, format.MarkEntry{Pack: r.id})
	}
	// The new files come first: no bad place is ever without a mark.
	for part := range slices.Chunk(kept, marksInFile) {
		if err := s.remember(part); err != nil {
			return err
		}
	}
	for _, e := range old {
		if strings.HasSuffix(e.Name(), ".mark") || durable.IsTemp(e.Name()) {
			if err := s.index.remove("marks/" + e.Name()); err != nil {
				return err
			}
		}
	}
	if err := s.dir.SyncDir("marks"); err != nil {
		return fmt.Errorf("sync the marks: %w", err)
	}
	s.marks.replace(s.packs, kept)
	return nil
}

// stillTrue are the marks of the places that a verification found bad. Of a pack
// whose directory cannot be read, what is marked stays marked.
func (m *marks) stillTrue(states map[uint32]*packState, p *packs) (kept format.Mark) {
	for number, state := range states {
		pack := p.pack(number)
		if state.lost {
			kept = append(kept, format.MarkEntry{Pack: pack.ID})
		}
		for offset := range state.bad {
			kept = append(kept, format.MarkEntry{Pack: pack.ID, Offset: offset})
		}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for key := range m.places {
		if state := states[key.pack]; state != nil && state.good != nil && !state.good[key.offset] {
			kept = append(kept, format.MarkEntry{Pack: p.pack(key.pack).ID, Offset: key.offset, Chunk: key.chunk})
		}
	}
	return kept
}

// replace forgets all marks but these.
func (m *marks) replace(p *packs, mark format.Mark) {
	m.mu.Lock()
	clear(m.places)
	clear(m.whole)
	m.mu.Unlock()
	m.add(p, mark)
}
