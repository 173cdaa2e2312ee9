package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// ResealPlan says what there is to seal anew, so that a drive needs its newest
// master key only.
type ResealPlan struct {
	// Packs hold the blocks, and Bytes are how long they are together; each byte
	// is read once, written once, and read back.
	Packs int   `json:"packs"`
	Bytes int64 `json:"bytes"`
	// Files are all others: the index, points, commits and notes.
	Files int `json:"files"`
}

// PlanReseal lists what is sealed with a key older than the present one, or, when
// another key is to come, everything.
func (s *Store) PlanReseal(ctx context.Context, withNewKey bool) (ResealPlan, error) {
	var plan ResealPlan
	until := s.super.Generation
	if withNewKey {
		until++
	}
	if err := s.begin(); err != nil {
		return plan, err
	}
	defer s.end()
	packs, err := s.listPacks(ctx)
	if err != nil {
		return plan, s.explain(err)
	}
	for _, p := range packs {
		if !withNewKey && !s.sealedBefore(packName(p.RunPack), until) {
			continue
		}
		info, err := p.entry.Info()
		if err != nil {
			return plan, s.explain(err)
		}
		plan.Packs++
		plan.Bytes += info.Size()
	}
	small, err := s.smallBefore(ctx, until)
	if err != nil {
		return plan, s.explain(err)
	}
	plan.Files = len(small)
	for _, r := range *s.index.runs.Load() {
		if s.sealedBefore(runName(r.id), until) {
			plan.Files++
		}
	}
	return plan, nil
}

// Reseal seals everything anew that is sealed with an older master key, and then
// drops the older keys from every key slot. Only their fingerprints stay. The
// store must have been opened Alone; Rotate comes first.
//
// It may be stopped at any moment, by the context as by a power cut: everything
// can be read then as before, and the next Reseal goes on. What is damaged
// cannot be sealed anew: then the older keys stay, and the error wraps
// lifeboat.ErrDamaged.
func (s *Store) Reseal(ctx context.Context, o RotateOptions, progress func(Progress)) error {
	// The slots come last; whether they can be made is found out first.
	if err := s.checkSlots(o); err != nil {
		return err
	}
	newest := s.super.Generation
	older := func(_ format.RunPack, h format.Header) bool { return h.Generation < newest }
	damaged := s.rewritePacks(ctx, older, progress)
	if damaged != nil && !errors.Is(damaged, lifeboat.ErrDamaged) {
		return damaged
	}
	if err := s.resealIndex(ctx); err != nil {
		return err
	}
	if err := s.resealSmall(ctx); err != nil {
		return err
	}
	left, err := s.leftBehind(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: %d files cannot be sealed with the new key because they are damaged, the first is %s", s.label(), len(left), left[0]),
			Safe: "everything else is sealed with the new key, and nothing was removed; the drive keeps the older key for what is left",
			Next: "heal the drive, then go on with: lifeboat key rotate --all-data --resume",
			Err:  errors.Join(lifeboat.ErrDamaged, damaged),
		}
	}
	if damaged != nil {
		return damaged
	}
	return s.dropOldKeys(ctx, o)
}

// checkSlots says whether every slot that stays can be made anew.
func (s *Store) checkSlots(o RotateOptions) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	if s.mode != Alone {
		return fmt.Errorf("the store at %s was not opened alone", s.dir)
	}
	_, err := s.slotsToKeep(o)
	return err
}

// resealIndex writes one run in place of those that an older key seals. A damaged
// one among them is made anew from its packs, and the others are begun again.
func (s *Store) resealIndex(ctx context.Context) error {
	if err := s.beginMoving(); err != nil {
		return err
	}
	defer s.endMoving()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var older []*run
		room := int64(0)
		for _, r := range *s.index.runs.Load() {
			if s.sealedBefore(runName(r.id), s.super.Generation) {
				older = append(older, r)
				room += r.footer.FileSize()
			}
		}
		if len(older) == 0 {
			return nil
		}
		free, _, err := s.dir.Space()
		if err != nil {
			return s.explain(fmt.Errorf("ask for the free space: %w", err))
		}
		if free < room+pruneSlack {
			return s.explain(fmt.Errorf("%w: the new index needs %d MiB", lifeboat.ErrDriveFull, room>>20))
		}
		if err := s.index.compact(older); err != nil {
			return s.wrote(err)
		}
	}
}

// smallFolders hold the small sealed files, of each folder its kind.
var smallFolders = map[string]format.Kind{
	"points": format.KindPoint, "heads": format.KindHead, "marks": format.KindMark, checksFolder: format.KindChecks,
	enclosuresFolder: format.KindEnclosure, partsFolder: format.KindPart,
}

// smallBefore lists the small sealed files, without the suffix of a copy, of
// which a copy is sealed with a key before a generation.
func (s *Store) smallBefore(ctx context.Context, generation uint32) ([]string, error) {
	var names []string
	for folder, kind := range smallFolders {
		list, suffixes := listTwins, []string{copyA, copyB}
		if kind == format.KindMark {
			list, suffixes = listMarks, []string{""}
		}
		all, err := list(s.dir, folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", folder, err)
		}
		for _, name := range all {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			older := func(suffix string) bool { return s.sealedBefore(folder+"/"+name+suffix, generation) }
			if slices.ContainsFunc(suffixes, older) {
				names = append(names, folder+"/"+name)
			}
		}
	}
	return names, nil
}

// sealedBefore says whether a file of this drive is sealed with a key before a
// generation.
func (s *Store) sealedBefore(name string, generation uint32) bool {
	h, err := s.headerOf(name)
	return err == nil && h.Drive == s.driveID && h.Generation < generation
}

// resealSmall seals points, commits, marks and records of checks with the
// present key. Their bodies, and so their hashes, stay as they are. One that
// does not open is left as it is.
func (s *Store) resealSmall(ctx context.Context) error {
	if err := s.beginMoving(); err != nil {
		return err
	}
	defer s.endMoving()
	names, err := s.smallBefore(ctx, s.super.Generation)
	if err != nil {
		return s.explain(err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.resealOne(name); err != nil {
			return s.wrote(fmt.Errorf("seal %s anew: %w", name, err))
		}
	}
	return nil
}

func (s *Store) resealOne(name string) error {
	folder, _, _ := strings.Cut(name, "/")
	kind := smallFolders[folder]
	if kind == format.KindMark {
		return s.resealMark(name)
	}
	var body []byte
	_, err := readTwin(s.dir, name, format.MaxSmallFile, func(b []byte) (err error) {
		_, body, err = format.OpenSmall(b, s.driveID, kind, s.masters)
		return err
	})
	if isGone(err) {
		return err
	}
	if err != nil {
		s.log.Warn("a file cannot be sealed anew", "file", name, "why", err)
		return nil
	}
	return s.writeSealed(kind, name, body)
}

// resealMark writes a mark anew under another name: it is named by its file id.
func (s *Store) resealMark(name string) error {
	mark, err := s.readMark(name)
	if isGone(err) {
		return err
	}
	if err != nil {
		s.log.Warn("a mark cannot be sealed anew", "file", name, "why", err)
	} else if err := s.remember(mark); err != nil {
		return err
	}
	// A mark that nobody can read tells nothing, and would keep the older key.
	return s.index.remove(name)
}

// leftBehind names the files that still need an older key.
func (s *Store) leftBehind(ctx context.Context) ([]string, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	left, err := s.smallBefore(ctx, s.super.Generation)
	if err != nil {
		return nil, s.explain(err)
	}
	runs, err := listIDs(s.dir, "index", ".run")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, s.explain(fmt.Errorf("list the index: %w", err))
	}
	for _, name := range runs {
		if s.sealedBefore("index/"+name, s.super.Generation) {
			left = append(left, "index/"+name)
		}
	}
	packs, err := s.listPacks(ctx)
	if err != nil {
		return nil, s.explain(err)
	}
	for _, p := range packs {
		needs, err := s.needsOlderKey(ctx, p.RunPack)
		if err != nil {
			return nil, s.explain(err)
		}
		if needs {
			left = append(left, packName(p.RunPack))
		}
	}
	return left, nil
}

// dropOldKeys makes every slot anew with the newest key alone.
func (s *Store) dropOldKeys(ctx context.Context, o RotateOptions) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	slots, err := s.slotsToKeep(o)
	if err != nil {
		return err
	}
	keyring := s.presentKeys().DropBefore(s.super.Generation, s.driveID)
	files, err := s.wrapAnew(ctx, keyring, slots)
	if err != nil {
		return err
	}
	err = s.writeSlots(ctx, files)
	if err != nil && err == ctx.Err() {
		return err // no write failed
	}
	if err == nil {
		s.keyring, s.masters = keyring, keyring.Masters
		err = s.removeSlotsBut(files)
	}
	return s.wrote(err)
}
