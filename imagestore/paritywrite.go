package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// parityRoom is what the parity of a pack of that size takes up at most.
func parityRoom(packBytes int64) int64 {
	h := format.ParityHead{Parity: format.DefaultParity, Size: packBytes}
	return h.FileSize()
}

// syncParity makes the parity of a pack durable that is durable itself; the
// caller syncs their folder. The name is new and the index does not cover the
// pack yet, so a parity file that a power cut leaves torn is made anew when the
// pack is salvaged.
//
// A drive that is full costs the parity and not the export: the pack is good
// without it, a verification tells how many packs have none, and the next writer
// tries again. Any other error is the drive's, and ends all writing.
func (s *Store) syncParity(p *packWriter) error {
	if p.parity == nil {
		return nil
	}
	defer func() { p.parity.release(); p.parity = nil }()
	data, err := p.parity.end()
	if err != nil {
		return fmt.Errorf("make the parity of %s: %w", packName(p.pack), err)
	}
	name := parityName(p.pack)
	err = writeNew(s.dir, name, data)
	if !errors.Is(err, lifeboat.ErrDriveFull) {
		return err
	}
	s.log.Warn("a pack has no parity, because the drive is full", "pack", packName(p.pack))
	return s.index.remove(name)
}

// writeNew writes a file under a name that is new, and syncs its bytes. Whoever
// calls it syncs the folder.
func writeNew(dir durable.Dir, name string, data []byte) error {
	f, err := dir.Create(name)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	if _, err = f.Write(data); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		f.Close()
		if errors.Is(err, lifeboat.ErrDriveFull) {
			// It is not tried again elsewhere: a sync that went wrong ends all writing.
			return fmt.Errorf("sync %s: %v", name, err)
		}
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return f.Close()
}

// parityAtOpening bounds how many packs get their parity when a writer opens the
// store: 256 MiB to read, some seconds on a slow disk. A repair makes them all.
const parityAtOpening = 4

// packFolders is what lies in the folders of packs, beside the packs.
type packFolders struct {
	packs map[format.RunPack]bool
	// parity and healed are the packs that have such a file.
	parity, healed map[format.RunPack]bool
	// temps are the names of what unfinished writes left.
	temps []string
}

// listFolders looks at everything that lies in the folders of packs.
func (s *Store) listFolders(ctx context.Context) (*packFolders, error) {
	f := &packFolders{packs: map[format.RunPack]bool{}, parity: map[format.RunPack]bool{}, healed: map[format.RunPack]bool{}}
	err := s.walkPacks(ctx, func(folder string, e fs.DirEntry) {
		name := e.Name()
		note := f.packs
		if stem, ok := strings.CutSuffix(name, ".par"); ok {
			name, note = stem, f.parity
		} else if stem, ok := strings.CutSuffix(name, healedSuffix); ok {
			name, note = stem, f.healed
		}
		if p, ok := parsePackName(folder, name); ok && !e.IsDir() {
			note[p] = true
		} else if durable.IsTemp(name) && !e.IsDir() {
			f.temps = append(f.temps, path.Join("packs", folder, name))
		}
	})
	return f, err
}

// tidyPacks removes what unfinished writes left in the folders of packs: files
// without a name of their own, parity that is torn or whose pack is nowhere. The
// caller has not salvaged yet; only packs that no run covers can have torn parity.
func (s *Store) tidyPacks(ctx context.Context) (*packFolders, error) {
	f, err := s.listFolders(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.settleHealed(f); err != nil {
		return nil, err
	}
	remove := f.temps
	for p := range f.parity {
		if s.index.isCovered(p) {
			continue // what it is worth, a verification tells
		}
		keep, err := s.keepsParity(ctx, p, f.packs[p])
		if err != nil {
			return nil, err
		}
		if !keep {
			remove = append(remove, parityName(p))
			delete(f.parity, p)
		}
	}
	for _, name := range remove {
		if err := s.index.remove(name); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// keepsParity says whether the parity of a pack that no run covers is worth
// keeping. What a power cut left torn is not; but rot is no reason to give up
// what may still heal a pack that rots as well.
func (s *Store) keepsParity(ctx context.Context, p format.RunPack, present bool) (bool, error) {
	if !present {
		return false, nil
	}
	par, err := s.readParity(p)
	if err != nil {
		if isGone(err) {
			return false, err
		}
		return false, nil
	}
	if par.fault == nil {
		return true, nil
	}
	img, err := s.inspectPack(ctx, p)
	if err != nil {
		if !isDamage(err) {
			return false, err
		}
		return true, nil
	}
	return !img.whole(), nil
}

// makeMissingParity makes parity for packs that have none, until limit of them
// are done. A pack that is damaged gets none: rot would be healed to rot.
func (s *Store) makeMissingParity(ctx context.Context, f *packFolders, limit int) error {
	if !s.hasParity() {
		return nil
	}
	for p := range f.packs {
		if f.parity[p] {
			continue
		}
		if limit == 0 {
			return nil
		}
		limit--
		img, err := s.inspectPack(ctx, p)
		if err != nil && !isDamage(err) {
			return err
		}
		if err != nil || !img.whole() {
			continue
		}
		err = s.remakeParity(p, img.data)
		if errors.Is(err, lifeboat.ErrDriveFull) {
			s.log.Warn("a pack has no parity, because the drive is full", "pack", packName(p))
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remakeParity gives a pack parity, in place of what it has.
func (s *Store) remakeParity(p format.RunPack, data []byte) error {
	b, err := s.parityOf(p, data)
	if err != nil {
		return fmt.Errorf("make the parity of %s: %w", packName(p), err)
	}
	return s.placeFile(parityName(p), b)
}

// placeFile writes a file under another name, syncs it, and then gives it its
// own, in place of what has it.
func (s *Store) placeFile(name string, data []byte) error {
	temp := name + ".tmp"
	err := writeNew(s.dir, temp, data)
	if err == nil {
		err = s.dir.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, s.index.remove(temp))
	}
	if err := s.dir.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("sync the folder of %s: %w", name, err)
	}
	return nil
}
