package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// packImage is a pack in memory together with what is good of it.
type packImage struct {
	tolerantRead
	// directory says that the pack has one that opens; then bad holds the
	// offsets of the frames that are not as it says.
	directory bool
	good, bad map[uint32]bool
	// torn: the pack never had a directory.
	torn bool
}

// whole says that nothing is wrong with the pack.
func (i *packImage) whole() bool {
	return len(i.lost) == 0 && (i.directory && len(i.bad) == 0 || i.torn && len(i.good) > 0)
}

// betterThan says that everything that was good before is good, and more is.
func (i *packImage) betterThan(before *packImage) bool {
	for offset := range before.good {
		if !i.good[offset] {
			return false
		}
	}
	return len(i.good) > len(before.good) || i.directory && !before.directory || i.whole() && !before.whole()
}

// inspectPack reads a pack from the medium and checks every frame. What the
// medium does not give is zeros.
func (s *Store) inspectPack(ctx context.Context, p format.RunPack) (*packImage, error) {
	r, err := s.readPackTolerant(p)
	if err != nil {
		return nil, err
	}
	return s.inspect(ctx, p, r)
}

// readPackTolerant reads a pack from the medium, or its second copy where that is
// all there is.
func (s *Store) readPackTolerant(p format.RunPack) (*tolerantRead, error) {
	r, err := readTolerant(s.dir, packName(p), format.MaxPackSize)
	if errors.Is(err, fs.ErrNotExist) {
		return readTolerant(s.dir, packName(p)+healedSuffix, format.MaxPackSize)
	}
	return r, err
}

// inspect checks every frame of a pack that was read: that it opens, and that
// its chunks have the ids that the directory says.
func (s *Store) inspect(ctx context.Context, p format.RunPack, r *tolerantRead) (*packImage, error) {
	img := &packImage{tolerantRead: *r, good: map[uint32]bool{}, bad: map[uint32]bool{}, torn: s.packs.isTorn(s.packs.add(p))}
	o, err := s.readPackHeader(memoryFile{bytes.NewReader(r.data)}, p)
	if err != nil {
		return img, nil // nothing opens without its header
	}
	d, err := o.directory()
	if err != nil {
		return img, s.scanTorn(ctx, o, p.Tree, func(e format.RunEntry) { img.good[e.Place.Offset] = true })
	}
	img.directory = true
	reader := packReader{v: &verification{s: s}}
	reader.begin(o, d)
	for _, f := range d {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := reader.frame(o, p, f); err != nil {
			img.bad[f.Offset] = true
		} else {
			img.good[f.Offset] = true
		}
	}
	return img, nil
}

// memoryFile is a file in memory.
type memoryFile struct{ *bytes.Reader }

func (m memoryFile) Size() (int64, error)       { return m.Reader.Size(), nil }
func (memoryFile) Close() error                 { return nil }
func (memoryFile) DropCache(int64, int64) error { return nil }

var _ durable.ReadFile = memoryFile{}

// healed is what parity makes of a pack.
type healedPack struct {
	image *packImage
	cells int
	// before is the pack as it is on the drive.
	before *packImage
}

// proposeHealing computes what a pack is once parity has healed it, and nil if
// parity does not help. Only what opens with the key of the pack and has the
// right ids counts: parity that somebody has edited makes nothing good.
func (s *Store) proposeHealing(ctx context.Context, p format.RunPack) (*healedPack, error) {
	before, err := s.inspectPack(ctx, p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, format.ErrCorrupt) {
		before, err = &packImage{tolerantRead: tolerantRead{lost: map[int]bool{}}}, nil
	}
	if err != nil {
		return nil, err
	}
	h := &healedPack{before: before}
	par, err := s.readParity(p)
	if isGone(err) {
		return nil, err
	}
	if err != nil || before.directory && before.whole() {
		return h, nil
	}
	r := &tolerantRead{}
	r.data, h.cells = par.heal(&before.tolerantRead)
	image, err := s.inspect(ctx, p, r)
	if err != nil {
		return nil, err
	}
	if h.cells > 0 && image.betterThan(before) {
		h.image = image
	}
	return h, nil
}

// healedSuffix names the second copy of a pack that a repair is putting in its
// place.
const healedSuffix = ".healed"

// replacePack puts what was healed in place of a pack, never over it. A file
// system without a journal may lose both names of a rename: until the name is
// durable there is a second copy under a name that was never renamed.
func (s *Store) replacePack(p format.RunPack, data []byte) error {
	second := packName(p) + healedSuffix
	if _, err := s.dir.Stat(packName(p)); errors.Is(err, fs.ErrNotExist) {
		// Nothing is in its place. A second copy is all that is left of it, and
		// stays until the healed one is durable.
		return s.settlePack(p, data)
	}
	if err := writeNew(s.dir, second, data); err != nil {
		return errors.Join(err, s.index.remove(second))
	}
	if err := s.dir.SyncDir(packName(p)[:len("packs/00")]); err != nil {
		return fmt.Errorf("sync the folder of %s: %w", second, err)
	}
	return s.settlePack(p, data)
}

// settlePack gives a pack that has a durable second copy its name.
func (s *Store) settlePack(p format.RunPack, data []byte) error {
	s.packs.forget(s.packs.add(p))
	if err := s.placeFile(packName(p), data); err != nil {
		return err
	}
	return s.index.remove(packName(p) + healedSuffix)
}

// settleHealed ends what a repair that was cut off had begun.
func (s *Store) settleHealed(f *packFolders) error {
	for p := range maps.Keys(f.healed) {
		second := packName(p) + healedSuffix
		if f.packs[p] {
			// The old pack, which the next repair heals, or the new one.
			if err := s.index.remove(second); err != nil {
				return err
			}
			continue
		}
		data, err := durable.ReadWhole(s.dir, second, format.MaxPackSize)
		f.packs[p] = true
		if err != nil && isDamage(err) {
			continue // a repair looks at what is left of it
		}
		if err == nil {
			err = s.settlePack(p, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openHealed opens the second copy of a pack whose own name is not there.
func (s *Store) openHealed(p format.RunPack, missing error) (durable.ReadFile, error) {
	f, err := s.dir.Open(packName(p) + healedSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing
	}
	return f, err
}
