package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"lifeboat/imagestore"
)

// A drive carries the boot sets of the site, so that a computer that has nothing but
// the drive reads ahead as well.

const (
	// bootSetsEnclosure is the document on a drive: a JSON list.
	bootSetsEnclosure = "bootsets.json"
	// mostBootSetsBytes bounds it. The newest sets come first.
	mostBootSetsBytes = 8 << 20
)

// ownBootSets are the boot sets of the state folder, as a drive carries them: as
// many of the newest as fit, in the order of their machines.
func (a *app) ownBootSets() ([]byte, error) {
	files, _ := filepath.Glob(filepath.Join(a.stateDir, bootSetsFolder, "*.json")) // the pattern is a good one
	var sets []bootSet
	for _, file := range files {
		var set bootSet
		if loadJSON(file, &set) == nil && file == a.bootSetPath(set.Machine) {
			sets = append(sets, set) // a damaged one is made anew by the next drill
		}
	}
	slices.SortFunc(sets, func(x, y bootSet) int { return cmp.Or(y.At.Compare(x.At), cmp.Compare(x.Machine, y.Machine)) })
	size := 2
	for i, set := range sets {
		text, err := json.Marshal(set)
		if err != nil {
			return nil, err
		}
		if size += len(text) + 1; size > mostBootSetsBytes {
			sets = sets[:i]
			break
		}
	}
	if len(sets) == 0 {
		return nil, nil
	}
	slices.SortFunc(sets, func(x, y bootSet) int { return cmp.Compare(x.Machine, y.Machine) })
	return json.Marshal(sets)
}

// leaveBootSets makes a drive carry the boot sets of the site, and takes home those
// that only the drive has.
func (a *app) leaveBootSets(ctx context.Context, d *openedDrive) error {
	if err := a.takeBootSets(ctx, d); err != nil {
		a.warn("the boot sets on drive %s cannot be read, and are written anew: %v", d.found.Drive.Label, err)
	}
	text, err := a.ownBootSets()
	if err != nil || text == nil {
		return err
	}
	sum := imagestore.NewEnclosureHash()
	sum.Write(text)
	there, _, err := d.store.Enclosures(ctx)
	if err != nil || slices.ContainsFunc(there, func(e imagestore.Enclosure) bool {
		return e.Name == bootSetsEnclosure && e.Hash == hex.EncodeToString(sum.Sum(nil))
	}) {
		return err
	}
	_, err = d.store.Enclose(ctx, bootSetsEnclosure, "", bytes.NewReader(text))
	return err
}

// takeBootSets keeps here the boot sets of a drive that are newer than those that
// are here.
func (a *app) takeBootSets(ctx context.Context, d *openedDrive) error {
	there, _, err := d.store.Enclosures(ctx)
	i := slices.IndexFunc(there, func(e imagestore.Enclosure) bool { return e.Name == bootSetsEnclosure })
	if err != nil || i < 0 {
		return err
	}
	if there[i].SizeBytes > mostBootSetsBytes {
		return fmt.Errorf("they are %s long, which nothing writes", humanBytes(there[i].SizeBytes))
	}
	var text bytes.Buffer
	if _, err := d.store.ReadEnclosure(ctx, bootSetsEnclosure, &text); err != nil {
		return err
	}
	var sets []bootSet
	if err := json.Unmarshal(text.Bytes(), &sets); err != nil {
		return fmt.Errorf("read %s: %w", bootSetsEnclosure, err)
	}
	var errs []error
	for _, set := range sets {
		var own bootSet
		path := a.bootSetPath(set.Machine)
		if set.At.After(a.now()) || loadJSON(path, &own) == nil && !set.At.After(own.At) {
			continue
		}
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = saveJSON(path, set)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
