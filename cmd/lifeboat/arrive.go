package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// writeDrive opens a drive of the site to write to it, does what waits for its
// arrival, then work, and leaves everything known of it remembered. With an id it
// has to be that very drive. cat is nil where nothing is remembered.
func (a *app) writeDrive(ctx context.Context, want, id string, accept bool, work func(cat *catalog.Catalog, d *openedDrive) error) error {
	d, err := a.openDrive(ctx, want, imagestore.Write)
	if err != nil {
		return err
	}
	defer d.Close()
	if id != "" && d.store.Drive().ID != id {
		return swapped(d, id)
	}
	cat, err := a.recallDrive(ctx, d, accept)
	if err != nil {
		return err
	}
	if cat != nil {
		if err := a.arrived(ctx, cat, d); err != nil {
			return err
		}
	}
	if err := a.refreshPrograms(d); err != nil {
		return err
	}
	err = work(cat, d)
	if cat != nil {
		if serr := a.sawDrive(context.WithoutCancel(ctx), cat, d); serr != nil {
			a.warn("the catalogue does not learn what is on %s now: %v", d.name(), serr)
		}
		a.leaveOn(ctx, cat, d)
	}
	return err
}

// swapped: between choosing a drive and opening it, another one came in its place.
func swapped(d *openedDrive, id string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("the drive at %s is %s (%s) and not the one that was chosen (%s): it was swapped, or its label was changed by hand",
			d.found.Path, d.found.Drive.Label, short(d.store.Drive().ID), short(id)),
		Safe: "nothing was written to it",
		Next: "see which drives are attached: lifeboat drive list",
		Err:  lifeboat.ErrWrongDrive,
	}
}

// arrived is what happens first whenever a drive of the site is opened for
// writing: it has to be the one drive of its id, and then what waited for its
// return is done. What fails of that is said, and stops nothing: an export is
// never lost for its bookkeeping. The caller has compared it with what is
// remembered of it (recallDrive), and cat is not nil.
func (a *app) arrived(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	if err := a.onlyOfItsID(ctx, cat, d); err != nil {
		return err
	}
	// Before anything is recorded: an entry that is added to a ledger which is
	// behind the drive's makes two histories of one.
	a.joinOrWarn(ctx, cat, d)
	if err := a.inUse(ctx, cat, d); err != nil {
		return err
	}
	a.joinDrills(ctx, cat, d)
	// After the joining: another control machine may have changed who opens the
	// drives.
	if err := a.keysArrived(ctx, cat, d); err != nil {
		return err
	}
	return a.forgetDue(ctx, cat, d)
}

// joinOrWarn is joinLedger for a command that goes on without it.
func (a *app) joinOrWarn(ctx context.Context, cat *catalog.Catalog, d *openedDrive) {
	err := a.joinLedger(ctx, cat, d)
	switch {
	case err == nil:
	case errors.Is(err, errOurLedger):
		a.warnOfLedger(err)
	default:
		a.warn("the ledger on %s is not compared with this computer's: %v", d.name(), err)
	}
}

// onlyOfItsID refuses a drive that is attached twice: one is a copy of the other,
// and what is written to one of them makes two histories of one drive. It is
// believed again when it is attached alone, and is what is remembered of it.
func (a *app) onlyOfItsID(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Drive.ID == d.found.Drive.ID && !sameMedium(f.Path, d.found.Path) {
			twice := catalog.Suspicion{DriveID: d.store.Drive().ID, Why: "it was attached twice: one is a copy of the other", At: a.now()}
			if err := a.suspect(ctx, cat, twice); err != nil {
				a.warn("%v", err)
			}
			return &lifeboat.Problem{
				What: fmt.Sprintf("%s is there twice, at %s and at %s: one is a copy of the other", d.name(), d.found.Path, f.Path),
				Safe: "nothing was written to either",
				Next: "detach the copy, and never attach it again; to have two drives make a new one: lifeboat drive init, then lifeboat copy",
				Err:  lifeboat.ErrWrongDrive,
			}
		}
	}
	return nil
}

// suspect remembers why a drive is not believed, where anything is remembered.
func (a *app) suspect(ctx context.Context, cat *catalog.Catalog, s catalog.Suspicion) error {
	if cat == nil {
		return nil
	}
	return cat.Suspect(ctx, s)
}

// sameMedium says whether two paths lead to one store.
func sameMedium(x, y string) bool {
	one, err := os.Stat(filepath.Join(x, rotation.Folder))
	if err != nil {
		return false
	}
	other, err := os.Stat(filepath.Join(y, rotation.Folder))
	return err == nil && os.SameFile(one, other)
}
