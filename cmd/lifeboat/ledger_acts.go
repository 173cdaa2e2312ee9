package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
)

// errSetAside: the ledger has the drive lost, quarantined or retired. Nothing new
// is written to such a drive; it may still be read, verified and ejected.
var errSetAside = errors.New("the drive is not in use")

// inUse records that a drive is here, and refuses one that is set aside. What the
// ledger cannot say is a warning: a ledger that was tampered with keeps nobody from
// exporting.
func (a *app) inUse(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	drive := d.store.Drive()
	if err := a.noticed(ctx, cat, item(drive)); err != nil {
		if errors.Is(err, custody.ErrBroken) {
			a.warnOfLedger(err)
			return a.inUseByItself(ctx, d)
		}
		p := problemOf(err)
		a.warn("whether %s is in use is not known: %s (%s)", d.name(), p.What, p.Next)
		return nil
	}
	entries, err := cat.Ledger(ctx)
	if err != nil {
		return err
	}
	list := custody.Replay(entries)
	kept, _ := list.Of(drive.ID)
	return setAside(kept)
}

// inUseByItself asks the ledger that the drive carries, where this computer's does
// not hold. What neither can say keeps nobody from exporting.
func (a *app) inUseByItself(ctx context.Context, d *openedDrive) error {
	entries, err := a.ledgerOn(ctx, d)
	if err != nil {
		return nil
	}
	list := custody.Replay(entries)
	kept, _ := list.Of(d.store.Drive().ID)
	return setAside(kept)
}

// setAside is the problem of a drive that nothing is written to, or nil.
func setAside(k custody.Kept) error {
	p := &lifeboat.Problem{
		Safe: "nothing was written to it; what is on it can be read, verified and restored",
		Err:  errors.Join(lifeboat.ErrWrongDrive, errSetAside),
	}
	why := ""
	if k.Note != "" {
		why = ": " + k.Note
	}
	since := stamp(k.Since)
	id := shellWord(short(k.ID))
	switch k.Place.State {
	case custody.Lost:
		p.What = fmt.Sprintf("drive %s is lost since %s%s", k.Label, since, why)
		p.Next = "say that it was found: lifeboat drive found " + id
	case custody.Quarantined:
		p.What = fmt.Sprintf("drive %s is in quarantine since %s%s", k.Label, since, why)
		p.Next = "find out what is wrong with it: lifeboat verify " + shellWord(k.Label) + "; then take it back: lifeboat drive release " + id
	case custody.Retired:
		p.What = fmt.Sprintf("drive %s is retired since %s%s", k.Label, since, why)
		p.Next = "use another drive; to use this medium again, empty it and make a new drive of it: lifeboat drive init"
	default:
		return nil
	}
	return p
}

// enterExport records a run's points on one drive: one entry, however many
// machines there are.
func (a *app) enterExport(ctx context.Context, cat *catalog.Catalog, d *openedDrive, run string, results []exportResult) {
	done, failed := 0, 0
	for _, r := range results {
		switch {
		case r.Point != nil:
			done++
		case r.Problem != nil:
			failed++
		}
	}
	if done == 0 {
		return // nothing was committed
	}
	a.enter(ctx, cat, custody.Entry{Act: custody.ActExported, Item: item(d.store.Drive()), Facts: map[string]string{
		"run": run, "machines": strconv.Itoa(done), "failed": strconv.Itoa(failed)}})
}

// enterReading records a verification of everything on a drive, or damage that any
// reading found.
func (a *app) enterReading(ctx context.Context, cat *catalog.Catalog, d *openedDrive, report imagestore.VerifyReport) {
	e := custody.Entry{Item: item(d.store.Drive())}
	switch {
	case len(report.Faults) > 0:
		e.Act, e.Facts = custody.ActFault, map[string]string{"damaged": strconv.Itoa(len(report.Hurt)), "faults": strconv.Itoa(len(report.Faults))}
		if report.Unread {
			e.Note = "damage was found when it was read back before ejecting"
		}
	case !report.VerifiedAt.IsZero() && report.Sample == 0 && !report.Unread && report.FromMemory == "":
		e.Act, e.Facts = custody.ActVerified, map[string]string{"points": strconv.Itoa(report.Points)}
	default:
		return
	}
	a.enter(ctx, cat, e)
}

// enterKeys records a change of who opens a drive. The name of a slot is no
// secret.
func (a *app) enterKeys(ctx context.Context, d *openedDrive, change, slot string) {
	if !a.hasState() {
		return
	}
	facts := map[string]string{"change": change}
	if slot != "" {
		facts["slot"] = custody.Clean(slot)
	}
	a.enter(ctx, a.remembered(ctx), custody.Entry{Act: custody.ActKeys, Item: item(d.store.Drive()), Facts: facts})
}
