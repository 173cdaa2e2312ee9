package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
)

// keeping is what the catalogue adds to what a drive knows of its points: holds,
// proofs, what other drives hold, and damage that the drive itself did not note.
// Without a catalogue it is empty.
type keeping struct {
	points []catalog.Point
	// here are those on the drive, by id.
	here   map[string]catalog.Point
	drives map[string]catalog.Drive
	// doubted is when damage was met of which nobody knows whom it hurts.
	doubted time.Time
}

// keeping reads it. What cannot be read is left out, and said.
func (a *app) keeping(ctx context.Context, d *openedDrive) keeping {
	k := keeping{here: map[string]catalog.Point{}, drives: map[string]catalog.Drive{}}
	cat := a.knownSite(ctx)
	if cat == nil {
		return k
	}
	points, err := cat.Points(ctx, catalog.PointFilter{})
	if err == nil {
		k.doubted, err = cat.DoubtedAt(ctx, d.store.Drive().ID)
	}
	var drives []catalog.Drive
	if err == nil {
		drives, err = cat.Drives(ctx)
	}
	if err != nil {
		a.warn("what is held and proven is not known: %s", problemOf(err).What)
		return k
	}
	k.points = points
	for _, p := range points {
		if p.DriveID == d.store.Drive().ID {
			k.here[p.PointID] = p
		}
	}
	for _, d := range drives {
		k.drives[d.ID] = d
	}
	return k
}

// trusted is a drive's own record without what damage has taken back since.
func (k keeping) trusted(c imagestore.Checked) imagestore.Checked {
	c.Points = maps.Clone(c.Points)
	for id, p := range c.Points {
		if !p.VerifiedAt.After(k.doubted) {
			p.VerifiedAt = time.Time{}
		}
		if !p.ReadSince.After(k.doubted) {
			p.ReadSince = time.Time{}
		}
		c.Points[id] = p
	}
	return c
}

// note is what a list says of a point: proven and held.
func (k keeping) note(a *app, id string) string {
	p, note := k.here[id], ""
	if !p.ProvenAt.IsZero() {
		note = "proven " + p.ProvenAt.In(a.zone()).Format(time.DateOnly) + " "
	}
	if a.holds(p) {
		note += fmt.Sprintf("held %s: %s ", a.untilWords(p.HeldUntil), p.Held)
	}
	return note
}

// elsewhere says which other drives have a point, or newer ones of its machine.
func (k keeping) elsewhere(driveID string, p lifeboat.RestorePoint) string {
	var words []string
	for _, id := range slices.SortedFunc(maps.Keys(k.drives), func(x, y string) int { return strings.Compare(k.drives[x].Label, k.drives[y].Label) }) {
		same, newest := catalog.Point{}, catalog.Point{}
		for _, q := range k.points {
			switch {
			case id == driveID || q.DriveID != id || q.MachineID != p.Machine.ID:
			case q.PointID == p.ID:
				same = q
			case q.TakenAt.After(p.TakenAt):
				newest = q // they are listed oldest first
			}
		}
		if same.PointID != "" {
			words = append(words, k.drives[id].Label+" has it too, "+wholeWords(same))
		}
		if newest.PointID != "" {
			words = append(words, fmt.Sprintf("%s has one of %s, %s", k.drives[id].Label, stamp(newest.TakenAt), wholeWords(newest)))
		}
	}
	if len(words) == 0 {
		return "no other drive is known to have it, or a newer one"
	}
	return strings.Join(words, "; ")
}

// wholeWords says when all of a point was read.
func wholeWords(p catalog.Point) string {
	if p.WholeAt().IsZero() {
		return "not verified"
	}
	return "verified " + stamp(p.WholeAt())
}

// keptWhy says why a point of a drive is kept, or that it may go, or nothing where
// nothing decides.
func (a *app) keptWhy(ctx context.Context, d *openedDrive, id string) string {
	cat := a.knownSite(ctx)
	if cat == nil {
		return ""
	}
	v, err := a.verdicts(ctx, cat, d)
	if err != nil {
		return "not known: " + problemOf(err).What
	}
	for _, p := range v.Points {
		switch {
		case p.Point == id && p.Keep:
			return p.Why
		case p.Point == id:
			return "not for long: " + p.Why
		}
	}
	return ""
}

// keptLines are the lines of a point that the catalogue knows: when it was proven,
// who holds it, why it is kept, and which other drives have it or a newer one.
func (a *app) keptLines(ctx context.Context, d *openedDrive, k keeping, p lifeboat.RestorePoint) (lines [][2]string) {
	if len(k.drives) == 0 {
		return nil
	}
	known := k.here[p.ID]
	proven := "never"
	if !known.ProvenAt.IsZero() {
		proven = stamp(known.ProvenAt) + ", booted from this drive"
	}
	lines = append(lines, [2]string{"proven", proven})
	if a.holds(known) {
		lines = append(lines, [2]string{"held", a.untilWords(known.HeldUntil) + ": " + known.Held})
	}
	if why := a.keptWhy(ctx, d, p.ID); why != "" {
		lines = append(lines, [2]string{"kept", why})
	}
	return append(lines, [2]string{"elsewhere", k.elsewhere(d.store.Drive().ID, p)})
}
