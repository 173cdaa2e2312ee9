package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"lifeboat/imagestore/format"
)

// smallFiles reads both copies of every small file.
func (v *verification) smallFiles(ctx context.Context) error {
	names := []string{superblockName}
	for _, folder := range []string{"slots", "points", "heads", checksFolder, enclosuresFolder, partsFolder} {
		list, err := listTwins(v.s.dir, folder)
		if err != nil && !(mayBeMissing(folder) && errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("list %s: %w", folder, err)
		}
		for _, name := range list {
			names = append(names, folder+"/"+name)
		}
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		var failed [2]error
		for i, suffix := range []string{copyA, copyB} {
			failed[i] = v.smallFile(name + suffix)
			if isGone(failed[i]) {
				return failed[i]
			}
		}
		if errors.Is(failed[0], fs.ErrNotExist) && errors.Is(failed[1], fs.ErrNotExist) {
			continue // removed since the listing, as a commit does with the head before the last
		}
		for i, suffix := range []string{copyA, copyB} {
			if failed[i] == nil || v.stillComing(name) {
				continue
			}
			if errors.Is(failed[i], fs.ErrNotExist) && failed[1-i] == nil {
				// A power cut came between the two; the next writer completes it.
				v.s.log.Info("there is only one copy", "file", name)
				continue
			}
			v.fault(Fault{File: name + suffix, Lost: failed[1-i] != nil, Why: failed[i].Error()})
		}
	}
	return v.enclosures(ctx)
}

// mayBeMissing says that a folder is made only when there is something for it.
func mayBeMissing(folder string) bool {
	return folder == checksFolder || folder == enclosuresFolder || folder == partsFolder
}

// stillComing says that a point was not there when the verification began.
func (v *verification) stillComing(name string) bool {
	p, ok := parsePointName(trimFolder(name))
	return ok && len(v.o.Points) == 0 && !slices.ContainsFunc(v.records, func(r record) bool { return r.ID == p.ID }) &&
		(len(v.records) == 0 || p.Sequence > v.records[len(v.records)-1].Sequence)
}

func (v *verification) smallFile(name string) error {
	f, err := v.s.dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size > format.MaxSmallFile {
		return format.ErrCorrupt
	}
	b := make([]byte, size)
	if err := errors.Join(f.DropCache(0, size), readFull(f, b, 0)); err != nil {
		return err
	}
	v.meter.read.Add(size)
	h, err := format.DecodeHeader(b)
	if err != nil {
		return err
	}
	if h.Kind == format.KindSlot {
		_, err = format.DecodeSlot(b)
		return err
	}
	_, _, err = format.OpenSmall(b, v.s.driveID, h.Kind, v.s.masters)
	return err
}
