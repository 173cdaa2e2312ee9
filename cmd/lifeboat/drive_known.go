package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/blockdev"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// knownDrive is what is remembered of a drive beside what can be seen of it.
type knownDrive struct {
	// Place is where the ledger has it, Since since when, Due when it was promised
	// back.
	Place custody.Place `json:"place,omitzero"`
	Since time.Time     `json:"since,omitzero"`
	Due   time.Time     `json:"due,omitzero"`
	// ProvenAt is when a machine was last booted from it and answered.
	ProvenAt    time.Time `json:"provenAt,omitzero"`
	PendingKeys int       `json:"pendingKeys,omitempty"`
	// FullAt is when it will be full if it goes on as in its own past.
	FullAt time.Time `json:"fullAt,omitzero"`
	// WrittenBytes is what exports wrote to it as far as this computer knows.
	WrittenBytes       int64              `json:"writtenBytes,omitempty"`
	ReadBytesPerSecond int64              `json:"readBytesPerSecond,omitempty"`
	Last               *catalog.DriveFact `json:"hardware,omitempty"`
	Suspect            string             `json:"suspect,omitempty"`
}

// knownDrives are those facts of all drives, by id.
func (a *app) knownDrives(ctx context.Context, cat *catalog.Catalog) (map[string]knownDrive, error) {
	shelf, err := a.shelf(ctx, cat)
	if err != nil {
		return nil, err
	}
	facts, err := cat.Facts(ctx, "")
	if err != nil {
		return nil, err
	}
	all := map[string]knownDrive{}
	for _, d := range shelf.Drives {
		all[d.ID] = knownOf(d, facts)
	}
	return all, nil
}

func knownOf(d rotation.ShelfDrive, facts []catalog.DriveFact) knownDrive {
	k := knownDrive{Place: d.Place, Since: d.Since, Due: d.Due, ProvenAt: d.ProvenAt, PendingKeys: d.PendingKeys, Suspect: d.Suspect}
	k.FullAt, _ = fullIn(d.Fills)
	for _, f := range facts {
		if f.DriveID != d.ID {
			continue
		}
		k.WrittenBytes += f.WrittenBytes
		if f.ReadBytesPerSecond > 0 {
			k.ReadBytesPerSecond = f.ReadBytesPerSecond
		}
		if k.Last != nil && f.Health == "" {
			f.Health, f.HealthWhy = k.Last.Health, k.Last.HealthWhy
		}
		k.Last = &f
	}
	return k
}

// away says where a drive is that is not attached: at a place, with a person, or
// somewhere in the house.
func (k knownDrive) away(seen string) string {
	if k.Place.State == custody.Onsite || k.Place.State == "" {
		return "not attached, seen " + seen
	}
	text := placeWords(k.Place)
	if !k.Due.IsZero() {
		text += ", due " + k.Due.Local().Format("2 Jan")
	}
	return text
}

// remarks are what a person should know at once.
func (k knownDrive) remarks(now time.Time) string {
	var all []string
	if k.Suspect != "" {
		all = append(all, k.Suspect)
	}
	if k.Last != nil && k.Last.Health == string(blockdev.HealthFailing) {
		all = append(all, "SMART: "+k.Last.HealthWhy)
	}
	const soon = 60 * 24 * time.Hour
	if !k.FullAt.IsZero() && k.FullAt.Sub(now) < soon {
		all = append(all, "full in "+weekWords(k.FullAt))
	}
	if k.PendingKeys > 0 {
		all = append(all, count(k.PendingKeys, "key change")+" pending")
	}
	return strings.Join(all, "; ")
}

func weekWords(t time.Time) string {
	year, week := t.Local().ISOWeek()
	return fmt.Sprintf("week %d of %d", week, year)
}

// hardwareLines are what drive show tells of the drive as a thing.
func (a *app) hardwareLines(ctx context.Context, d *openedDrive) string {
	var out strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "  %-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	if disk, err := blockdev.OfMount(d.found.Path); err == nil && !disk.System() {
		line("disk", "%s", hardwareWords(disk))
		if _, slow := blockdev.SlowLink(disk.LinkMbit, 0); slow {
			line("link", "slow: use another port or cable")
		}
		if disk.Transport != "loop" {
			h := blockdev.CheckHealth(ctx, disk)
			line("health", "%s", strings.TrimSuffix(string(h.Verdict)+": "+h.Why, ": "))
		}
	}
	line("made", "%s, %s", d.store.Drive().CreatedAt.Local().Format(time.DateOnly), humanAge(a.now(), d.store.Drive().CreatedAt))
	k, known := a.knownFacts(ctx, d.store.Drive().ID)
	if !known {
		return out.String()
	}
	out.WriteString(k.lines(a.now()))
	return out.String()
}

// lines are what is remembered of a drive, for drive show.
func (k knownDrive) lines(now time.Time) string {
	var out strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "  %-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("place", "%s", placeWords(k.Place))
	if !k.Due.IsZero() {
		line("due", "%s", k.Due.Local().Format(time.DateOnly))
	}
	if k.WrittenBytes > 0 {
		line("written", "%s by exports from this computer", humanBytes(k.WrittenBytes))
	}
	if k.ReadBytesPerSecond > 0 {
		line("reads", "%s/s", humanBytes(k.ReadBytesPerSecond))
	}
	if !k.FullAt.IsZero() {
		line("full", "in %s, if it goes on like this", weekWords(k.FullAt))
	}
	if !k.ProvenAt.IsZero() {
		line("proven", "%s, %s", stamp(k.ProvenAt), humanAge(now, k.ProvenAt))
	}
	if k.PendingKeys > 0 {
		line("keys", "%s pending", count(k.PendingKeys, "change"))
	}
	return out.String()
}

// knownFacts are those of one drive. A computer without a state knows none.
func (a *app) knownFacts(ctx context.Context, id string) (knownDrive, bool) {
	if !a.hasState() {
		return knownDrive{}, false
	}
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return knownDrive{}, false
	}
	defer cat.Close()
	all, err := a.knownDrives(ctx, cat)
	k, known := all[id]
	return k, known && err == nil
}

// sameLabel says that a label stands on more than one of the rows.
func sameLabel(rows []driveRow, label string) bool {
	first := slices.IndexFunc(rows, func(r driveRow) bool { return r.Label == label })
	return slices.ContainsFunc(rows[first+1:], func(r driveRow) bool { return r.Label == label })
}
