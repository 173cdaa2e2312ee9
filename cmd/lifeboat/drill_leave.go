package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"lifeboat/catalog"
)

const (
	// drillEnclosure begins the names of what a drive carries of drills; the id of the
	// run and the name of a file follow.
	drillEnclosure = "drill/"
	// drillsOnDrive is how many runs a drive carries in full: the newest. The records
	// of all are in its extract.
	drillsOnDrive = 12
)

// leaveDrills makes a drive carry the records and the reports of the newest runs.
// A record that was changed here is not given on.
func (a *app) leaveDrills(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	all, err := a.keptIn(ctx, cat)
	if err != nil || len(all) == 0 {
		return err
	}
	there, _, err := d.store.Enclosures(ctx)
	if err != nil {
		return err
	}
	has := map[string]string{}
	for _, e := range there {
		if strings.HasPrefix(e.Name, drillEnclosure) {
			has[e.Name] = e.Note
		}
	}
	wanted := map[string]bool{}
	var errs []error
	for _, k := range all[max(0, len(all)-drillsOnDrive):] {
		record, report := drillEnclosure+k.RunID+"/"+recordFile, drillEnclosure+k.RunID+"/"+reportFile
		wanted[record], wanted[report] = true, true
		if k.Trouble != "" || k.Seal.Broken != "" {
			continue
		}
		errs = append(errs, a.leaveDrill(ctx, d, k, all, record, report, has))
	}
	for name := range has {
		run, _, _ := strings.Cut(strings.TrimPrefix(name, drillEnclosure), "/")
		known := slices.ContainsFunc(all, func(k keptRun) bool { return k.RunID == run })
		// One that only another computer knows stays on the drive.
		if known && !wanted[name] {
			errs = append(errs, d.store.RemoveEnclosure(ctx, name))
		}
	}
	return errors.Join(errs...)
}

// leaveDrill writes one run onto a drive, unless the drive has it. The note of the
// report tells what it was made from: it is made anew when somebody has signed.
func (a *app) leaveDrill(ctx context.Context, d *openedDrive, k keptRun, all []keptRun, record, report string, has map[string]string) error {
	if note, there := has[record]; !there || note != k.Hash {
		if _, err := d.store.Enclose(ctx, record, k.Hash, strings.NewReader(k.Drill.Record)); err != nil {
			return err
		}
	}
	state := k.Hash
	for _, s := range k.Signed {
		state += ", signed by " + bounded(s.Name)
	}
	state = cut(state, 1000)
	if note, there := has[report]; there && note == state {
		return nil
	}
	page, err := a.reportOf(k, all)
	if err != nil {
		return err
	}
	_, err = d.store.Enclose(ctx, report, state, bytes.NewReader(page))
	return err
}

// leaveRecord brings what a run leaves onto the drives that it read, where they are
// attached to a control machine and free. One that is not gets it when it is next
// written to.
func (a *app) leaveRecord(ctx context.Context, runID string) {
	all, err := a.keptRuns(ctx)
	if err != nil {
		a.warn("no drive has the record of this run yet: %v", err)
		return
	}
	i := slices.IndexFunc(all, func(k keptRun) bool { return k.RunID == runID })
	if i < 0 || all[i].Record == nil {
		return
	}
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return
	}
	for _, f := range found {
		if !f.Usable() || f.Drive.ID != all[i].DriveID {
			continue
		}
		err := a.writeDrive(ctx, f.Path, f.Drive.ID, false, func(*catalog.Catalog, *openedDrive) error { return nil })
		if err != nil {
			a.warn("drive %s gets the record of this run when it is next written to: %v", f.Drive.Label, problemOf(err).What)
		}
	}
}
