package main

import (
	"context"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
)

// driveKeys says who opens one drive, as of when.
type driveKeys struct {
	lifeboat.Drive
	// Attached: it was read just now. AsOf is when its slots were seen.
	Attached bool      `json:"attached"`
	Path     string    `json:"path,omitempty"`
	AsOf     time.Time `json:"asOf,omitzero"`
	// Note says of an attached drive why it could not be read.
	Note  string                     `json:"note,omitempty"`
	Slots []catalog.KeySlot          `json:"slots"`
	Waits []catalog.PendingKeyChange `json:"pending"`
}

// driveKeys lists who opens the drives of the site: those that are open as they
// are now, the others as they were seen last, each with what it waits for.
func (a *app) driveKeys(ctx context.Context, cat *catalog.Catalog, open []*openedDrive) ([]driveKeys, error) {
	drives, err := a.keyDrives(ctx, cat)
	if err != nil {
		return nil, err
	}
	slots, err := cat.KeySlots(ctx)
	if err != nil {
		return nil, err
	}
	var all []driveKeys
	for _, d := range drives {
		k := driveKeys{Drive: d.Drive, Slots: []catalog.KeySlot{}}
		if i := slices.IndexFunc(open, func(o *openedDrive) bool { return o.store.Drive().ID == d.ID }); i >= 0 {
			k.Attached, k.Path = true, open[i].found.Path
		}
		for _, s := range slots {
			if s.DriveID == d.ID {
				k.Slots, k.AsOf = append(k.Slots, s), s.SeenAt
			}
		}
		if k.Waits, err = cat.PendingKeyChanges(ctx, d.ID); err != nil {
			return nil, err
		}
		if k.Waits == nil {
			k.Waits = []catalog.PendingKeyChange{}
		}
		all = append(all, k)
	}
	return all, nil
}

// coming are the slots that the drive has once it has what it waits for.
func (k driveKeys) coming() []catalog.KeySlot {
	slots := slices.Clone(k.Slots)
	for _, c := range k.Waits {
		named := func(s catalog.KeySlot) bool { return s.Name == c.Slot }
		switch c.Kind {
		case catalog.KeyRemove:
			slots = slices.DeleteFunc(slots, func(s catalog.KeySlot) bool {
				return named(s) && (len(c.Recipients) == 0 || slices.Contains(c.Recipients, s.Recipient))
			})
		case catalog.KeyAdd, catalog.KeyReplace:
			if !slices.ContainsFunc(slots, named) {
				slots = append(slots, slotOf(c.KeyChange))
			}
		}
	}
	return slots
}

// slotOf is the slot that a change makes.
func slotOf(c catalog.KeyChange) catalog.KeySlot {
	s := catalog.KeySlot{Name: c.Slot, Kind: "passphrase"}
	if len(c.Recipients) > 0 {
		s.Kind, s.Recipient = "recipient", c.Recipients[0]
	}
	return s
}

// slot finds a slot by its name among those that are coming.
func (k driveKeys) slot(name string) (catalog.KeySlot, bool) {
	slots := k.coming()
	i := slices.IndexFunc(slots, func(s catalog.KeySlot) bool { return s.Name == name })
	if i < 0 {
		return catalog.KeySlot{}, false
	}
	return slots[i], true
}

func (a *app) keyListEverywhere(ctx context.Context) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	open, refused, err := a.openEvery(ctx, cat, imagestore.Read)
	if err != nil {
		return err
	}
	drives, err := a.driveKeys(ctx, cat, open)
	for _, d := range open {
		if err == nil {
			err = a.warnOfStraySlots(ctx, d)
		}
		d.Close()
	}
	if err != nil {
		return err
	}
	for i := range drives {
		drives[i].Note = refused[drives[i].ID]
	}
	if a.json {
		if drives == nil {
			drives = []driveKeys{}
		}
		a.printJSON(drives)
		return nil
	}
	var rows [][]string
	for _, d := range drives {
		rows = append(rows, a.keyRows(d)...)
	}
	a.print("%s", table([]string{"DRIVE", "NAME", "KIND", "MADE", "KEYS", "AS OF", "PENDING", "PUBLIC KEY"}, rows))
	a.sayTroubles(drives)
	return nil
}

// keyRows are the lines of one drive: its slots, and what it waits for.
func (a *app) keyRows(d driveKeys) (rows [][]string) {
	asOf := "last seen " + dayWords(d.AsOf)
	switch {
	case d.Attached:
		asOf = "now"
	case d.AsOf.IsZero():
		asOf = "never seen"
	}
	waits := func(c catalog.PendingKeyChange) string { return string(c.Kind) + " since " + dayWords(c.MadeAt) }
	shown := map[string]bool{}
	for _, s := range d.Slots {
		pending := ""
		for _, c := range d.Waits {
			if c.Slot == s.Name {
				pending, shown[c.ID] = joinWords(pending, waits(c)), true
			}
		}
		rows = append(rows, []string{d.Label, s.Name, s.Kind, dayWords(s.CreatedAt), s.Generations, asOf, pending, s.Recipient})
	}
	for _, c := range d.Waits {
		if shown[c.ID] {
			continue
		}
		s := slotOf(c.KeyChange)
		if c.Kind == catalog.KeyRotate {
			s = catalog.KeySlot{Name: "(master key)"}
		}
		rows = append(rows, []string{d.Label, s.Name, s.Kind, "-", "-", asOf, waits(c), s.Recipient})
	}
	if len(rows) == 0 {
		rows = append(rows, []string{d.Label, "-", "-", "-", "-", asOf, "", ""})
	}
	return rows
}

func joinWords(before, more string) string {
	if before == "" {
		return more
	}
	return before + ", " + more
}

// dayWords is the date of a moment for people.
func dayWords(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateOnly)
}

// sayTroubles warns of what keeps changes from being applied.
func (a *app) sayTroubles(drives []driveKeys) {
	for _, d := range drives {
		if d.Note != "" {
			a.warn("drive %s is attached and was not read: %s", d.Label, d.Note)
		}
		for _, c := range d.Waits {
			if c.Trouble != "" {
				a.warn("drive %s: %s is still pending: %s", d.Label, changeWords(c.KeyChange), c.Trouble)
			}
		}
	}
}

// slotsAnywhere completes the names of slots of all drives.
func (a *app) slotsAnywhere(ctx context.Context) (names []string) {
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return nil
	}
	defer cat.Close()
	slots, err := cat.KeySlots(ctx)
	if err != nil {
		return nil
	}
	for _, s := range slots {
		if name := s.Name + "\t" + s.Kind; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
