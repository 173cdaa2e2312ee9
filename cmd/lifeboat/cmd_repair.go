package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

type repairFlags struct {
	drive                string
	dryRun, rebuildIndex bool
}

func (a *app) repairCommand() *cobra.Command {
	var f repairFlags
	c := &cobra.Command{
		Use: "repair [DRIVE]", Short: "Heal a damaged drive, and say what stays lost", GroupID: "look",
		Long: "Reads the whole drive. What is damaged is healed from the drive's own parity, else from any\n" +
			"other drive of the site that is attached and has the block. What no drive has is listed by\n" +
			"machine, disk and byte range; everything else restores: see restore --allow-damaged.\n" +
			"No restore point is removed, and nothing is changed in place. It may be stopped at any\n" +
			"moment and run again. Nobody else may use the drive meanwhile.",
		Example:     "  lifeboat repair A --dry-run\n  lifeboat repair A",
		Annotations: exits(exitNoDrive, exitHeld, exitDamage, exitStopped), Args: oneArgAtMost("the label or path of a drive"),
		ValidArgsFunction: a.completeDrives,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && f.drive != "" {
				return usagef("the drive is named twice: %s and --drive %s", args[0], f.drive)
			}
			if len(args) == 1 {
				f.drive = args[0]
			}
			return a.repair(c.Context(), f)
		},
	}
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be healed, and change nothing")
	c.Flags().BoolVar(&f.rebuildIndex, "rebuild-index", false, "make the whole index anew from the blocks themselves")
	a.driveFlag(c, &f.drive)
	return c
}

func (a *app) repair(ctx context.Context, f repairFlags) error {
	mode := imagestore.Alone
	if f.dryRun {
		mode = imagestore.Read // a look may be taken beside others
	}
	d, err := a.openDriveAlone(ctx, f.drive, mode)
	if err != nil {
		return err
	}
	defer d.Close()
	siblings, err := a.openSiblings(ctx, d)
	if err != nil {
		return err
	}
	o := imagestore.RepairOptions{DryRun: f.dryRun, RebuildIndex: f.rebuildIndex}
	for _, sibling := range siblings {
		defer sibling.Close()
		a.note("%s may give what is missing", sibling.name())
		o.Siblings = append(o.Siblings, sibling.store)
	}
	r, err := a.beginRun("repair", os.Args[1:])
	if err != nil {
		return err
	}
	began := time.Now()
	p := a.newProgress(r, "repair")
	o.Progress = func(pr imagestore.Progress) { p.show(pr.DoneBytes, pr.TotalBytes) }
	report, err := d.store.Repair(ctx, o)
	p.end()
	if !f.dryRun && (err == nil || errors.Is(err, lifeboat.ErrDamaged)) {
		err = errors.Join(err, a.afterRepair(ctx, d))
	}
	summary := repairSummary(d, f, report)
	a.showRepair(r, d, f, report, summary, time.Since(began).Seconds(), err)
	r.end(summary, err)
	return err
}

// openSiblings opens the other drives of the site that are attached. One that
// does not open is passed over, and that is said.
func (a *app) openSiblings(ctx context.Context, d *openedDrive) ([]*openedDrive, error) {
	all, err := a.attachedDrives(ctx)
	if err != nil {
		return nil, err
	}
	var opened []*openedDrive
	for _, found := range all {
		if found.Kind != rotation.KindDrive || found.Drive.ID == d.store.Drive().ID {
			continue
		}
		other, err := a.openFound(ctx, found, d.keys, imagestore.Read, nil)
		if err != nil {
			a.warn("drive %s is not asked for what is missing: %v", found.Drive.Label, err)
			continue
		}
		if other.store.Site().ID != d.store.Site().ID {
			other.Close()
			continue
		}
		opened = append(opened, other)
	}
	return opened, nil
}

// afterRepair makes what stands beside the store right again: the drive's note,
// and what the catalogue knows of the drive.
func (a *app) afterRepair(ctx context.Context, d *openedDrive) error {
	made, err := rotation.CompleteNote(d.found.Path, d.store.Drive())
	if err != nil {
		return fmt.Errorf("write drive.json anew: %w", err)
	}
	if made {
		a.note("drive.json was written anew")
	}
	if !a.hasState() {
		return nil
	}
	cat, err := a.openCatalog(ctx)
	if err != nil {
		a.warn("the catalogue does not learn of this repair: %v", err)
		return nil
	}
	defer cat.Close()
	points, _, err := d.store.Points(ctx)
	if err == nil {
		err = errors.Join(a.sawDrive(ctx, cat, d), cat.ReplacePoints(ctx, d.store.Drive().ID, points))
	}
	if err != nil {
		a.warn("the catalogue does not learn of this repair: %v", err)
	}
	return nil
}

func repairSummary(d *openedDrive, f repairFlags, report imagestore.RepairReport) string {
	borrowed := 0
	for _, b := range report.Borrowed {
		borrowed += b.Chunks
	}
	healed := "healed"
	if f.dryRun {
		healed = "would be healed"
	}
	if len(report.Faults) == 0 && report.DamagedPacks == 0 && len(report.Hurt) == 0 {
		return fmt.Sprintf("%s: %s, %s read; nothing was damaged", d.name(), count(report.Points, "point"), humanBytes(report.ReadBytes)) + madeAnew(f, report)
	}
	summary := fmt.Sprintf("%s: %s of blocks damaged; %d %s from parity, %s from other drives; %s lost", d.name(),
		count(report.DamagedPacks, "file"), report.HealedPacks, healed, count(borrowed, "block"), count(report.Lost, "block"))
	if report.DamagedPacks > report.HealedPacks && borrowed+report.Lost+report.Unknown == 0 {
		summary += "; whatever is needed of the damaged files is whole elsewhere on the drive"
	}
	return summary + madeAnew(f, report)
}

// madeAnew says what a repair completed though nothing was lost without it.
func madeAnew(f repairFlags, report imagestore.RepairReport) string {
	made, text := "made anew", ""
	if f.dryRun {
		made = "would be made anew"
	}
	if report.RebuiltRuns > 0 {
		text += fmt.Sprintf("; %s of the index %s", count(report.RebuiltRuns, "file"), made)
	}
	if report.ParityMade > 0 {
		text += fmt.Sprintf("; parity of %s %s", count(report.ParityMade, "file"), made)
	}
	return text
}

func (a *app) showRepair(r *run, d *openedDrive, f repairFlags, report imagestore.RepairReport, summary string, seconds float64, err error) {
	if a.json {
		a.printJSON(event{Event: "result", Time: a.now().UTC(), Run: r.ID, Result: struct {
			Drive   lifeboat.Drive          `json:"drive"`
			Report  imagestore.RepairReport `json:"report"`
			Seconds float64                 `json:"seconds"`
			Exit    int                     `json:"exit"`
		}{d.store.Drive(), report, seconds, exitCode(err)}})
		return
	}
	a.print("%s\n", summary)
	for _, f := range report.Faults {
		a.print("found: %s: %s\n", f.File, f.Why)
	}
	for _, b := range report.Borrowed {
		a.print("from drive %s: %s, %s\n", b.Drive, count(b.Chunks, "block"), humanBytes(b.Bytes))
	}
	for _, f := range report.Remaining {
		a.print("still damaged: %s: %s\n", f.File, f.Why)
	}
	if f.dryRun && len(report.Hurt) > 0 && report.Lost+report.Unknown == 0 {
		a.print("hurt as it is now, and whole after a repair:\n")
	}
	a.printHurt(report.Hurt)
}

// printHurt lists what cannot be restored, range by range.
func (a *app) printHurt(hurt []imagestore.Hurt) {
	for _, h := range hurt {
		for _, e := range h.Extents {
			a.print("hurt: point %s  %s  disk %s  %s at byte %d\n", short(h.PointID), h.Machine, h.Disk, humanBytes(e.Length), e.Offset)
		}
	}
}
