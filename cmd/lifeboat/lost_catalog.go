package main

import (
	"context"
	"fmt"
	"slices"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/rotation"
)

// siteDrives are the attached drives that say that they belong to a site.
func siteDrives(found []rotation.Found, siteID string) (all []rotation.Found) {
	for _, f := range found {
		if f.Usable() && f.Drive.SiteID == siteID {
			all = append(all, f)
		}
	}
	return all
}

// forgotten says that a catalogue knows no drive although one of the site is
// attached: it was lost, and a new one is in its place.
func (a *app) forgotten(ctx context.Context, cat *catalog.Catalog, found []rotation.Found) (bool, error) {
	site, err := a.siteOrNone()
	if err != nil || site == nil || site.Site.ID == "" {
		return false, err
	}
	known, err := cat.Drives(ctx)
	return len(known) == 0 && len(siteDrives(found, site.Site.ID)) > 0, err
}

// mayMakeDrive refuses to make a drive with a catalogue that is new although the
// site has drives: the ledger of the site would begin a second time. Where none of
// them is attached it is only said; they may all be gone.
func (a *app) mayMakeDrive(ctx context.Context, site *siteFile) error {
	if a.hasMemory() {
		cat := a.remembered(ctx)
		if cat == nil {
			return nil // that was said
		}
		known, err := cat.Drives(ctx)
		if err != nil || len(known) > 0 {
			return err
		}
	}
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return err
	}
	if here := siteDrives(found, site.Site.ID); len(here) > 0 {
		return &lifeboat.Problem{
			What: fmt.Sprintf("this computer remembers no drive, and drive %s of this site is attached: its catalogue was lost, and a new drive would begin a second ledger", here[0].Drive.Label),
			Safe: "nothing was written; the drives have the ledger and their points",
			Next: "make the catalogue again first, from as many drives as you can attach: lifeboat catalog rebuild",
		}
	}
	runs, err := a.listRuns()
	if err != nil {
		return err
	}
	if len(site.Drives) > 0 || slices.ContainsFunc(runs, func(r runFile) bool { return r.Kind == "export" }) {
		a.warn("this computer remembers no drive, and this site had some: its catalogue was lost, and this drive begins a second ledger. If any of them still exists, attach it now and run: lifeboat catalog rebuild")
	}
	return nil
}

// nothingUnderWay refuses while a run of this computer goes on: it writes to the
// catalogue that would be put aside.
func (a *app) nothingUnderWay() error {
	runs, err := a.listRuns()
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.state() == "running" {
			return &lifeboat.Problem{
				What: fmt.Sprintf("run %s (%s, since %s) is under way, and writes to the catalogue", short(r.ID), r.Kind, stamp(r.Began)),
				Safe: "nothing was changed; the run goes on",
				Next: fmt.Sprintf("wait until it has ended: lifeboat run attach %s; then run again: lifeboat catalog rebuild", short(r.ID)),
				Err:  lifeboat.ErrDriveHeld,
			}
		}
	}
	return nil
}
