package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
)

// What every drive carries beside its points, by the names of its enclosures.
const (
	ledgerEnclosure  = "ledger.jsonl"
	extractEnclosure = "catalog.jsonl.gz"
	siteEnclosure    = "site.yaml"
	// ledgerFork and extractFork begin the names of what another control machine
	// wrote; the hash of the first entry of its ledger that differs follows.
	ledgerFork  = "ledger.fork-"
	extractFork = "catalog.fork-"
	// documentEnclosure begins the name of what people attached.
	documentEnclosure = "document/"
)

// errOurLedger: it is this computer's ledger that cannot be used, not the drive's.
var errOurLedger = errors.New("this computer's ledger")

// joinLedger takes over what the drive's ledger and extract know and this
// computer does not: its state was restored from an older one, or another control
// machine wrote the drive. A ledger that says something else than ours is shown
// and kept on both sides, never mixed. It comes before anything is recorded.
func (a *app) joinLedger(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	theirs, err := a.ledgerOn(ctx, d)
	if err != nil || len(theirs) == 0 {
		return err
	}
	if err := a.witnessed(ctx, cat, d, theirs); err != nil {
		return err
	}
	ours, err := cat.Ledger(ctx)
	if errors.Is(err, custody.ErrBroken) {
		// The drive may have the entry as it was written.
		if cat.ReplaceLedger(ctx, theirs) == nil {
			a.warn("an entry of the ledger was changed on this computer; it is put back as %s has it", d.name())
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errOurLedger, err)
	}
	all, err := custody.Union(ours, theirs)
	var fork *custody.ForkError
	switch {
	case errors.As(err, &fork):
		return a.forked(ctx, cat, d, theirs, fork)
	case err != nil || len(all) == len(ours):
		return err
	}
	if err := a.absorbExtract(ctx, cat, d, true); err != nil {
		a.warn("what else %s knows is not taken over: %v", d.name(), err)
	}
	if err := cat.ReplaceLedger(ctx, all); err != nil {
		return err
	}
	a.note("%s knew the ledger up to entry %d and this computer up to %d; what it knew is taken over", d.name(), len(all), len(ours))
	return nil
}

// ledgerOn reads the ledger of a drive; none is no error. One whose chain does not
// hold is an error that wraps [custody.ErrBroken].
func (a *app) ledgerOn(ctx context.Context, d *openedDrive) ([]custody.Entry, error) {
	var text bytes.Buffer
	_, err := d.store.ReadEnclosure(ctx, ledgerEnclosure, &text)
	if errors.Is(err, imagestore.ErrNoEnclosure) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := custody.Read(&text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d.name(), custody.ErrBroken, err)
	}
	_, found := custody.Verify(d.store.Site().ID, custody.Lines(entries))
	if bad, broken := custody.FirstFault(found); broken {
		return nil, fmt.Errorf("%s: %w: %s", d.name(), custody.ErrBroken, bad.What)
	}
	return entries, nil
}

// witnessed remembers the head that a drive carries: it finds a chain that is
// computed anew later.
func (a *app) witnessed(ctx context.Context, cat *catalog.Catalog, d *openedDrive, entries []custody.Entry) error {
	return cat.Witness(ctx, custody.Witness{Where: witnessName(d), Head: custody.HeadOf(entries), SeenAt: a.now()})
}

// witnessName is how the ledger's witnesses call a drive.
func witnessName(d *openedDrive) string {
	return custody.Clean("drive " + d.found.Drive.Label + " (" + short(d.store.Drive().ID) + ")")
}

// forked keeps a ledger that says something else than ours, and says so the first
// time. The drive stays in use: an export is worth more than the question.
func (a *app) forked(ctx context.Context, cat *catalog.Catalog, d *openedDrive, theirs []custody.Entry, fork *custody.ForkError) error {
	var text bytes.Buffer
	if err := custody.Write(&text, theirs); err != nil {
		return err
	}
	head := custody.HeadOf(theirs)
	fresh, err := cat.RecordFork(ctx, catalog.Fork{Head: string(head.Hash), Sequence: head.Sequence, DriveID: d.store.Drive().ID,
		FirstDiffers: fork.Sequence, FoundAt: a.now(), Text: text.String()})
	if err != nil {
		return err
	}
	if fresh {
		a.warn("the ledger on %s and the one of this computer differ from entry %d on: two control machines wrote, or one was put back. The drive says: %s. This computer says: %s. "+
			"Both are kept and neither is mixed into the other; see them with: lifeboat rotate audit", d.name(), fork.Sequence, entryWords(fork.Theirs), entryWords(fork.Ours))
	}
	return nil
}

// entryWords is an entry of a ledger in a few words.
func entryWords(e custody.Entry) string {
	if e.Sequence == 0 {
		return "an entry that cannot be read"
	}
	words := stamp(e.RecordedAt) + " " + string(e.Act)
	if e.Item != nil {
		words += " " + e.Item.Label
	}
	return fmt.Sprintf("%s, by %s on %s", words, e.User, e.Computer)
}

// absorbExtract takes over what a drive's extract knows, if it has one.
func (a *app) absorbExtract(ctx context.Context, cat *catalog.Catalog, d *openedDrive, newer bool) error {
	var packed bytes.Buffer
	_, err := d.store.ReadEnclosure(ctx, extractEnclosure, &packed)
	if errors.Is(err, imagestore.ErrNoEnclosure) {
		return nil
	}
	if err != nil {
		return err
	}
	plain, err := gzip.NewReader(&packed)
	if err != nil {
		return fmt.Errorf("%w: %w", catalog.ErrExtract, err)
	}
	return cat.Absorb(ctx, d.store.Site().ID, plain, newer)
}

// leaveExtract writes onto a drive what it carries beside its points: the ledger,
// the documents and runbooks, what the catalogue knows, and site.yaml. Each is tried, whatever
// becomes of the others. The drive is open for writing.
func (a *app) leaveExtract(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	if d.store.Mode() == imagestore.Read {
		return nil
	}
	// What the drive knows and we do not must not be written over.
	a.joinOrWarn(ctx, cat, d)
	ledger := a.leaveLedger(ctx, cat, d)
	if errors.Is(ledger, errOurLedger) {
		a.warnOfLedger(ledger)
		ledger = nil
	}
	return errors.Join(
		ledger,
		a.leaveDocuments(ctx, cat, d),
		a.leaveRunbooks(ctx, d),
		a.leaveDrills(ctx, cat, d),
		a.leaveBootSets(ctx, d),
		a.leaveCatalog(ctx, cat, d),
		a.leaveSite(ctx, d),
	)
}

// leaveOn is leaveExtract for a command whose own work is done: what fails is said.
func (a *app) leaveOn(ctx context.Context, cat *catalog.Catalog, d *openedDrive) {
	if cat == nil || d == nil {
		return
	}
	if err := a.leaveExtract(context.WithoutCancel(ctx), cat, d); err != nil {
		a.warn("%s does not carry all that this computer knows: %v", d.name(), err)
	}
}

// leaveLedger writes the ledger. One on the drive that says something else, or
// that cannot be read, is put beside it first.
func (a *app) leaveLedger(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	ours, err := cat.Ledger(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errOurLedger, err)
	}
	if len(ours) == 0 {
		return nil
	}
	theirs, err := a.ledgerOn(ctx, d)
	switch {
	case errors.Is(err, custody.ErrBroken):
		err = a.putBeside(ctx, d, "broken")
	case errors.Is(err, lifeboat.ErrDamaged):
		err = nil // nobody can read it: ours takes its place
	}
	if err != nil {
		return err
	}
	all, err := custody.Union(ours, theirs)
	var fork *custody.ForkError
	switch {
	case errors.As(err, &fork):
		if err := a.putBeside(ctx, d, string(custody.HashOf(custody.Encode(fork.Theirs)))[:16]); err != nil {
			return err
		}
	case err != nil:
		return err
	case len(all) > len(ours):
		return nil // it is taken over at the next arrival
	}
	if err := a.witnessed(ctx, cat, d, ours); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := custody.Write(&text, ours); err != nil {
		return err
	}
	_, err = d.store.Enclose(ctx, ledgerEnclosure, "", &text)
	return err
}

// putBeside keeps the ledger that is on a drive, and the extract that goes with
// it, under other names.
func (a *app) putBeside(ctx context.Context, d *openedDrive, which string) error {
	for from, to := range map[string]string{ledgerEnclosure: ledgerFork + which, extractEnclosure: extractFork + which} {
		var text bytes.Buffer
		_, err := d.store.ReadEnclosure(ctx, from, &text)
		if errors.Is(err, imagestore.ErrNoEnclosure) {
			continue
		}
		if err == nil {
			_, err = d.store.Enclose(ctx, to, "", &text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leaveCatalog writes the extract of the catalogue.
func (a *app) leaveCatalog(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := errors.Join(cat.WriteExtract(ctx, d.store.Site().ID, zip), zip.Close()); err != nil {
		return err
	}
	_, err = d.store.Enclose(ctx, extractEnclosure, "", &packed)
	return err
}

// leaveSite writes site.yaml, which holds no secret, as people left it.
func (a *app) leaveSite(ctx context.Context, d *openedDrive) error {
	f, err := os.Open(a.sitePath())
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = d.store.Enclose(ctx, siteEnclosure, "", io.LimitReader(f, siteLimit))
	return err
}

// siteLimit is longer than any site.yaml.
const siteLimit = 16 << 20
