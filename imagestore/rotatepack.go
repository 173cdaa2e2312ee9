package imagestore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"

	"lifeboat/imagestore/format"
)

// needsOlderKey says whether a pack may be sealed with an older key than the
// present one. Its header proves nothing, because a flipped bit of it is seen
// only when something is opened: a pack counts as new when its directory, or of a
// torn one a frame, opens with the present key. One that opens with no key may
// still be healed, and then needs the key that it was sealed with.
func (s *Store) needsOlderKey(ctx context.Context, p format.RunPack) (bool, error) {
	o, err := s.openPack(p)
	if isGone(err) {
		return false, err
	}
	if err == nil {
		defer o.file.Close()
		isNew := false
		if o.key.Header().Generation == s.super.Generation {
			isNew, err = s.opens(ctx, o, p.Tree)
		}
		if isNew || err != nil && !isDamage(err) {
			return false, err
		}
	}
	if s.index.isCovered(p) {
		return true, nil
	}
	if _, err := s.dir.Stat(parityName(p)); !errors.Is(err, fs.ErrNotExist) {
		if isGone(err) {
			return false, err
		}
		return true, nil // it was whole once
	}
	return s.opensWithOlderKey(ctx, p)
}

// opens says whether anything of a pack opens with the key of its header.
func (s *Store) opens(ctx context.Context, o *openPack, tree bool) (bool, error) {
	_, err := o.directory()
	if err == nil || isGone(err) {
		return err == nil, err
	}
	found := false
	err = s.scanTorn(ctx, o, tree, func(format.RunEntry) { found = true })
	return found, err
}

// opensWithOlderKey looks at a pack without parity that is in no run, perhaps
// without a header: where nothing of it opens with any key, it is what a power
// cut left of a new one. What cannot be read may be anything.
func (s *Store) opensWithOlderKey(ctx context.Context, p format.RunPack) (bool, error) {
	r, err := s.readPackTolerant(p)
	if err != nil {
		return true, onlyGone(err)
	}
	if len(r.lost) > 0 {
		return true, nil
	}
	for _, master := range s.masters {
		if master.Generation == s.super.Generation {
			continue
		}
		h := format.Header{Kind: packKind(p.Tree), Generation: master.Generation, Drive: s.driveID, File: p.ID}
		key, err := format.NewPackKey(h, master.Key)
		if err != nil {
			return true, err
		}
		o := &openPack{file: memoryFile{bytes.NewReader(r.data)}, key: key, size: int64(len(r.data))}
		if found, err := s.opens(ctx, o, p.Tree); found || err != nil {
			return true, err
		}
	}
	return false, nil
}

// onlyGone is an error that is about the drive, or nil.
func onlyGone(err error) error {
	if isGone(err) {
		return err
	}
	return nil
}
