package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"lifeboat/imagestore/format"
)

// The index can always be made from the packs. A writer does so with the runs
// that it met damaged, so that a bad sector never stops an export.

// healIndex makes the broken runs anew.
func (s *Store) healIndex() error {
	for _, r := range s.index.brokenRuns() {
		if err := s.rebuildRun(r); err != nil {
			return fmt.Errorf("make %s anew: %w", runName(r.id), err)
		}
		s.index.healed(runName(r.id))
	}
	return nil
}

// rebuildRun writes runs that know what the packs of a broken one hold. The last
// of them takes its place.
func (s *Store) rebuildRun(r *run) error {
	s.log.Info("making an index run anew from its packs", "run", r.id, "packs", len(r.packs))
	var found syncedEntries
	for _, number := range r.packs {
		if len(found.entries) >= s.limits.runEntries {
			if err := s.index.writeRun(found.entries, found.packs); err != nil {
				return err
			}
			found = syncedEntries{}
		}
		pack := s.packs.pack(number)
		before := len(found.entries)
		_, err := s.scanPack(context.Background(), pack, func(e format.RunEntry) {
			e.Place.Pack = number
			found.entries = append(found.entries, e)
		})
		if err != nil && !isDamage(err) {
			return err
		}
		if len(found.entries) > before {
			found.packs = append(found.packs, number)
		}
	}
	if len(found.entries) == 0 {
		return s.index.drop(r)
	}
	return s.index.writeRun(found.entries, found.packs, r)
}

// learnHealed takes into the index what a pack holds that was healed. The index
// may know a part of it only: what opened while its directory was rotten.
func (s *Store) learnHealed(ctx context.Context, p format.RunPack) error {
	number := s.packs.add(p)
	known := s.index.isCovered(p) && !s.packs.isTorn(number)
	var failed error
	synced := syncedEntries{packs: []uint32{number}}
	torn, err := s.scanPack(ctx, p, func(e format.RunEntry) {
		e.Place.Pack = number
		synced.entries = append(synced.entries, e)
		if known && failed == nil {
			_, known, failed = s.index.searchRuns(e.ID, func(at format.Place) bool { return at == e.Place })
		}
	})
	if err := errors.Join(failed, err); err != nil && !isDamage(err) {
		return err
	}
	if !torn {
		s.packs.end(number)
	}
	if known {
		return nil
	}
	return s.commitEntries(&synced)
}

// drop takes a run out of the index, of whose packs nothing is left.
func (x *index) drop(r *run) error {
	x.mu.Lock()
	var kept []*run
	for _, other := range *x.runs.Load() {
		if other != r {
			kept = append(kept, other)
		}
	}
	x.runs.Store(&kept)
	x.retired = append(x.retired, r.file)
	x.coverAgain()
	x.mu.Unlock()
	return x.remove(runName(r.id))
}

// removeEmpty removes a pack that no run covers if it certainly holds nothing: it
// is shorter than a frame, or zeros follow its header, as after a power cut.
// Whatever else cannot be read is left for a repair.
func (s *Store) removeEmpty(pack format.RunPack) error {
	name := packName(pack)
	if par, err := s.readParity(pack); err == nil && par.fault == nil {
		return nil // something was in it once, and may come back
	}
	empty, err := s.isEmpty(name)
	if err != nil || !empty {
		if isGone(err) {
			return err
		}
		return nil
	}
	s.log.Info("removing a pack that holds nothing", "pack", name)
	return s.removePack(pack)
}

func (s *Store) isEmpty(name string) (bool, error) {
	f, err := s.dir.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size < format.HeaderSize+format.FrameHeaderSize {
		return err == nil, err
	}
	if size > format.MaxPackSize {
		return false, nil
	}
	b := make([]byte, scanWindow)
	for at := int64(format.HeaderSize); at < size; at += int64(len(b)) {
		b = b[:min(int64(len(b)), size-at)]
		if err := readFull(f, b, at); err != nil || len(bytes.TrimLeft(b, "\x00")) > 0 {
			return false, err
		}
	}
	return true, nil
}

// removeAll removes runs that could not be opened, once every pack that can be
// read is in another run.
func (x *index) removeAll(names []string) error {
	for _, name := range names {
		if err := x.remove(name); err != nil {
			return err
		}
	}
	x.healed(names...)
	return nil
}

func (x *index) remove(name string) error {
	if err := x.s.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
