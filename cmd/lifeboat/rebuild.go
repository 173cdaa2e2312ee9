package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
)

// rebuildSource is a drive that a catalogue is made from, and what it carries.
type rebuildSource struct {
	drive  *openedDrive
	ledger []custody.Entry
	// extract is as it lies on the drive; at is when it was written.
	extract []byte
	at      time.Time
	// trouble says what of it could not be read.
	trouble []string
}

// rebuilt is what a rebuild found, and what it did not.
type rebuilt struct {
	Drives []rebuiltDrive `json:"drives"`
	// Away are drives that are known and were not attached: what changed on them
	// since, only they know.
	Away          []rebuiltDrive `json:"away"`
	Points        int            `json:"points"`
	Machines      int            `json:"machines"`
	LedgerEntries int            `json:"ledgerEntries"`
	// Forks are ledgers that say something else than the one that was taken.
	Forks []catalog.Fork `json:"forks,omitempty"`
	// Trouble says what could not be read.
	Trouble []string `json:"trouble,omitempty"`
	// Before is where the catalogue lies that was there.
	Before string `json:"before,omitempty"`
	DryRun bool   `json:"dryRun,omitempty"`
}

type rebuiltDrive struct {
	Label         string    `json:"label"`
	ID            string    `json:"id"`
	Path          string    `json:"path,omitempty"`
	SeenAt        time.Time `json:"seenAt,omitzero"`
	Points        int       `json:"points"`
	LedgerEntries int       `json:"ledgerEntries"`
	// ExtractOf is when its extract was written; zero when it has none.
	ExtractOf time.Time `json:"extractOf,omitzero"`
}

// sourceOf reads what a drive carries. What is damaged is said, and the rest used.
func (a *app) sourceOf(ctx context.Context, d *openedDrive) (rebuildSource, error) {
	s := rebuildSource{drive: d}
	unusable := func(what string, err error) {
		s.trouble = append(s.trouble, fmt.Sprintf("%s: its %s cannot be used: %v", d.name(), what, err))
	}
	var err error
	if s.ledger, err = a.ledgerOn(ctx, d); err != nil {
		s.ledger = nil
		unusable("ledger", err)
	}
	var packed bytes.Buffer
	e, err := d.store.ReadEnclosure(ctx, extractEnclosure, &packed)
	switch {
	case err == nil:
		s.extract, s.at = packed.Bytes(), e.WrittenAt
	case !errors.Is(err, imagestore.ErrNoEnclosure):
		unusable("extract", err)
	}
	return s, ctx.Err()
}

// fillCatalog makes an empty catalogue know what drives know. The ledger that goes
// on longest is taken, and with it the newest extract of that history; what is of
// the same history and older adds nothing. A ledger that says something else is
// kept beside it, and of its extract only what nothing else knows.
func (a *app) fillCatalog(ctx context.Context, cat *catalog.Catalog, sources []rebuildSource) (rebuilt, error) {
	report := rebuilt{Drives: []rebuiltDrive{}, Away: []rebuiltDrive{}}
	for _, s := range sources {
		report.Trouble = append(report.Trouble, s.trouble...)
	}
	newestFirst := slices.SortedStableFunc(slices.Values(sources), func(x, y rebuildSource) int {
		return cmp.Or(cmp.Compare(len(y.ledger), len(x.ledger)), y.at.Compare(x.at))
	})
	base := newestFirst[0].ledger
	var same []rebuildSource
	for _, s := range newestFirst {
		_, err := custody.Union(base, s.ledger)
		var fork *custody.ForkError
		if !errors.As(err, &fork) {
			same = append(same, s)
			continue
		}
		if err := a.forked(ctx, cat, s.drive, s.ledger, fork); err != nil {
			return report, err
		}
		report.note(a.absorbPacked(ctx, cat, s, false))
	}
	for _, s := range same {
		if s.extract == nil {
			continue
		}
		err := a.absorbPacked(ctx, cat, s, true)
		if err == nil {
			break
		}
		report.note(err)
	}
	if err := cat.ReplaceLedger(ctx, base); err != nil {
		return report, err
	}
	report.LedgerEntries = len(base)
	for _, s := range sources {
		if err := a.learnDrive(ctx, cat, s, &report); err != nil {
			return report, err
		}
	}
	return report, a.countRebuilt(ctx, cat, &report)
}

// note adds what went wrong, if anything did.
func (r *rebuilt) note(err error) {
	if err != nil {
		r.Trouble = append(r.Trouble, err.Error())
	}
}

func (a *app) absorbPacked(ctx context.Context, cat *catalog.Catalog, s rebuildSource, newer bool) error {
	if s.extract == nil {
		return nil
	}
	plain, err := gzip.NewReader(bytes.NewReader(s.extract))
	if err == nil {
		err = cat.Absorb(ctx, s.drive.store.Site().ID, plain, newer)
	}
	if err != nil {
		return fmt.Errorf("%s: its extract cannot be used: %w", s.drive.name(), err)
	}
	return nil
}

// learnDrive takes from an attached drive itself what no extract knew of it: its
// points, and what of them was read when. One that is as the extract says is not
// touched.
func (a *app) learnDrive(ctx context.Context, cat *catalog.Catalog, s rebuildSource, report *rebuilt) error {
	d := s.drive
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return err
	}
	id, head := d.store.Drive().ID, d.store.Head()
	report.Drives = append(report.Drives, rebuiltDrive{Label: d.found.Drive.Label, ID: id, Path: d.found.Path, SeenAt: a.now().UTC(),
		Points: len(points), LedgerEntries: len(s.ledger), ExtractOf: s.at})
	if err := a.witnessedOnce(ctx, cat, d, s.ledger); err != nil {
		return err
	}
	suspects, err := cat.Suspects(ctx)
	if err != nil {
		return err
	}
	_, suspect := suspects[id]
	known, err := cat.Drive(ctx, id)
	if err == nil && !suspect && known.Head == (catalog.Head{Sequence: head.Sequence, Hash: head.Hash}) && known.Fingerprint == d.store.Fingerprint() {
		return nil
	}
	if err := a.sawDrive(ctx, cat, d); err != nil {
		// It went back in time, or split: that is said at its next export as well.
		report.note(err)
		return ctx.Err()
	}
	if err := cat.ReplacePoints(ctx, id, points); err != nil {
		return err
	}
	checked, err := d.store.Checked(ctx)
	if err != nil {
		return err
	}
	reading := catalog.Reading{VerifiedAt: checked.VerifiedAt}
	for _, p := range points {
		if c, ok := checked.Points[p.ID]; ok {
			reading.Points = append(reading.Points, catalog.PointReading{PointID: p.ID, VerifiedAt: c.VerifiedAt, ReadSince: c.ReadSince})
		}
	}
	return cat.RecordReading(ctx, id, reading)
}

// witnessedOnce is witnessed for a head that may be remembered already.
func (a *app) witnessedOnce(ctx context.Context, cat *catalog.Catalog, d *openedDrive, entries []custody.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	known, err := cat.Witnesses(ctx)
	if err != nil || slices.ContainsFunc(known, func(w custody.Witness) bool {
		return w.Where == witnessName(d) && w.Head == custody.HeadOf(entries)
	}) {
		return err
	}
	return a.witnessed(ctx, cat, d, entries)
}

// countRebuilt completes a report with what the new catalogue holds.
func (a *app) countRebuilt(ctx context.Context, cat *catalog.Catalog, report *rebuilt) error {
	points, err := cat.Points(ctx, catalog.PointFilter{})
	if err != nil {
		return err
	}
	machines, onDrive := map[string]bool{}, map[string]int{}
	for _, p := range points {
		machines[p.MachineID] = true
		onDrive[p.DriveID]++
	}
	report.Points, report.Machines = len(points), len(machines)
	drives, err := cat.Drives(ctx)
	if err != nil {
		return err
	}
	for _, d := range drives {
		if !slices.ContainsFunc(report.Drives, func(r rebuiltDrive) bool { return r.ID == d.ID }) {
			report.Away = append(report.Away, rebuiltDrive{Label: d.Label, ID: d.ID, SeenAt: d.SeenAt, Points: onDrive[d.ID]})
		}
	}
	report.Forks, err = cat.Forks(ctx)
	return err
}

// showRebuilt prints what a rebuild found.
func (a *app) showRebuilt(r rebuilt) {
	if a.json {
		a.printJSON(r)
		return
	}
	verb := "is made again"
	if r.DryRun {
		verb = "would be made again"
	}
	a.print("the catalogue %s: %s of %s, %d entries in the ledger\n", verb, count(r.Points, "point"), count(r.Machines, "machine"), r.LedgerEntries)
	for _, d := range r.Drives {
		extract := "no extract"
		if !d.ExtractOf.IsZero() {
			extract = "extract of " + stamp(d.ExtractOf)
		}
		a.print("  from drive %s at %s: %s, %d entries, %s\n", d.Label, d.Path, count(d.Points, "point"), d.LedgerEntries, extract)
	}
	for _, d := range r.Away {
		a.print("  not attached: drive %s, as it was on %s; what changed on it since, only it knows\n", d.Label, stamp(d.SeenAt))
	}
	for _, f := range r.Forks {
		a.print("  another ledger: it differs from entry %d on, and is kept beside; see lifeboat rotate audit\n", f.FirstDiffers)
	}
	for _, t := range r.Trouble {
		a.warn("%s", t)
	}
	if r.Before != "" {
		a.print("what was there is kept as %s\n", r.Before)
	}
	if len(r.Away) > 0 && !r.DryRun {
		a.note("to know more, attach the other drives and run again: lifeboat catalog rebuild")
	}
}

// noSources says that there is nothing to make a catalogue from.
func noSources() error {
	return &lifeboat.Problem{
		What: "no drive of this site is attached to make the catalogue from",
		Safe: "nothing was changed",
		Next: "attach as many drives of the site as you can, or name their folders: lifeboat catalog rebuild --from PATH",
		Err:  lifeboat.ErrNoDrive,
	}
}
