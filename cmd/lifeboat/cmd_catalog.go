package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
)

func (a *app) catalogCommand() *cobra.Command {
	return group("catalog", "Make what this computer remembers again from the drives",
		"  lifeboat catalog rebuild\n  lifeboat catalog rebuild --dry-run", "look",
		a.catalogRebuildCommand())
}

func (a *app) catalogRebuildCommand() *cobra.Command {
	var from []string
	var yes, dryRun bool
	c := &cobra.Command{
		Use: "rebuild", Short: "Make a lost or damaged catalogue again from the attached drives",
		Long: "Reads the ledger, the extract and the points of every drive of the site that is attached, and\n" +
			"makes of them the catalogue as it was when the newest of them was last attached. Secrets, and\n" +
			"what hosts noted, are in no extract: machines of those hosts are read whole once. The catalogue\n" +
			"that is there is kept aside. Nothing is written to a drive.",
		Example:     "  lifeboat catalog rebuild\n  lifeboat catalog rebuild --from /mnt/a --from /mnt/b --dry-run",
		Annotations: exits(exitPartial, exitNoDrive, exitHeld, exitPerson), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.catalogRebuild(c.Context(), from, yes, dryRun)
		},
	}
	c.Flags().StringArrayVar(&from, "from", nil, "the folder or label of a drive; may be given several times; without it all that are attached")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask, even where this computer knows more than the drives")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what the drives know")
	c.RegisterFlagCompletionFunc("from", a.completeDrives)
	return c
}

func (a *app) catalogRebuild(ctx context.Context, from []string, yes, dryRun bool) error {
	site, err := a.loadSite()
	if err != nil {
		return err
	}
	if !dryRun {
		if err := a.nothingUnderWay(); err != nil {
			return err
		}
	}
	drives, skipped, err := a.openSources(ctx, site, from)
	defer func() {
		for _, d := range drives {
			d.Close()
		}
	}()
	if err != nil {
		return err
	}
	report, err := a.rebuildFrom(ctx, drives, func(r rebuilt) error {
		if dryRun {
			return errDryRun
		}
		return a.mayReplace(ctx, yes, r)
	})
	if errors.Is(err, errDryRun) {
		report.DryRun, err = true, nil
	}
	if err != nil {
		return err
	}
	report.Trouble = append(report.Trouble, skipped...)
	if !dryRun {
		for _, d := range drives {
			if err := a.bringRunbooks(ctx, d); err != nil {
				report.Trouble = append(report.Trouble, fmt.Sprintf("the runbooks on %s: %v", d.name(), err))
			}
		}
	}
	a.showRebuilt(report)
	if len(report.Trouble) > 0 {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s could not be used: %s", count(len(report.Trouble), "source"), report.Trouble[0]),
			Safe: "the catalogue holds what the others know; nothing was written to a drive",
			Next: "look at what is listed; attach other drives of the site and run again: lifeboat catalog rebuild",
			Err:  lifeboat.ErrPartial,
		}
	}
	return nil
}

// errDryRun ends a rebuild before anything is replaced.
var errDryRun = errors.New("only tried")

// openSources opens the drives that a catalogue is made from, for reading. Those
// that were not named and do not open are left out, and said.
func (a *app) openSources(ctx context.Context, site *siteFile, from []string) (drives []*openedDrive, skipped []string, err error) {
	for _, want := range from {
		d, err := a.openDrive(ctx, want, imagestore.Read)
		if err != nil {
			return drives, nil, err
		}
		drives = append(drives, d)
	}
	if len(from) > 0 {
		return drives, nil, nil
	}
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range found {
		if !f.Usable() || f.Drive.SiteID != site.Site.ID {
			continue
		}
		d, err := a.openDrive(ctx, f.Path, imagestore.Read)
		if ctx.Err() != nil {
			return drives, nil, err
		}
		if err != nil {
			skipped = append(skipped, fmt.Sprintf("drive %s at %s: %s", f.Drive.Label, f.Path, problemOf(err).What))
			continue
		}
		drives = append(drives, d)
	}
	if len(drives) == 0 {
		return nil, nil, noSources()
	}
	return drives, skipped, nil
}

// rebuildFrom makes a catalogue of what drives know, asks whether it may take the
// place of the one that is there, and puts it there. Until then nothing is changed.
func (a *app) rebuildFrom(ctx context.Context, drives []*openedDrive, may func(rebuilt) error) (rebuilt, error) {
	unlock, err := a.lockState()
	if err != nil {
		return rebuilt{}, err
	}
	defer unlock()
	var sources []rebuildSource
	for _, d := range drives {
		s, err := a.sourceOf(ctx, d)
		if err != nil {
			return rebuilt{}, err
		}
		sources = append(sources, s)
	}
	// An earlier try that was cut off leaves its beginnings.
	const name = "catalog.rebuilt"
	defer removeCatalog(filepath.Join(a.stateDir, name))
	removeCatalog(filepath.Join(a.stateDir, name))
	cat, err := catalog.Open(ctx, filepath.Join(a.stateDir, name))
	if err != nil {
		return rebuilt{}, err
	}
	report, err := a.fillCatalog(ctx, cat, sources)
	if err = errors.Join(err, cat.Close()); err != nil {
		return report, err
	}
	if err := may(report); err != nil {
		return report, err
	}
	report.Before, err = a.replaceCatalog(name)
	return report, err
}

// catalogParts are the files of a catalogue; all but the first are there only
// while it is in use, or after a crash.
var catalogParts = []string{"", "-wal", "-shm", ".lock"}

func removeCatalog(path string) {
	for _, part := range catalogParts {
		os.Remove(path + part)
	}
}

// replaceCatalog puts a new catalogue in the place of the old one, which is kept.
func (a *app) replaceCatalog(name string) (before string, err error) {
	dir, err := durable.OpenPrivate(a.stateDir)
	if err != nil {
		return "", err
	}
	defer closeDir(dir)
	if _, err := dir.Stat("catalog.db"); err == nil {
		before = "catalog.db.before-" + a.now().UTC().Format("20060102T150405Z")
		for n := 2; ; n++ {
			if _, err := dir.Stat(before); errors.Is(err, fs.ErrNotExist) {
				break
			}
			before = fmt.Sprintf("catalog.db.before-%s-%d", a.now().UTC().Format("20060102T150405Z"), n)
		}
		for _, part := range []string{"-wal", "-shm", ""} {
			if err := dir.Rename("catalog.db"+part, before+part); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	if err := dir.Rename(name, "catalog.db"); err != nil {
		return before, err
	}
	return before, dir.SyncDir(".")
}

// mayReplace asks before a catalogue goes aside that knows more than the drives do.
func (a *app) mayReplace(ctx context.Context, yes bool, r rebuilt) error {
	if !a.hasMemory() {
		return nil
	}
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return nil // damaged: that is why
	}
	defer cat.Close()
	head, err := cat.LedgerHead(ctx)
	if err != nil || head.Sequence <= uint64(r.LedgerEntries) {
		return nil
	}
	return a.confirm(ctx, yes, fmt.Sprintf("This computer's ledger has %d entries, and the drives that are attached know %d of them.\n"+
		"A catalogue made of these drives lacks what happened since; the one that is here would be kept aside.\n", head.Sequence, r.LedgerEntries))
}

// rebuildAt makes the catalogue of a new control machine from one drive.
func (a *app) rebuildAt(ctx context.Context, d *openedDrive) (rebuilt, error) {
	return a.rebuildFrom(ctx, []*openedDrive{d}, func(rebuilt) error { return nil })
}
