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

// fill brings the newest point of every machine from the standing store to the
// drive of the day. Production is read once, and a drive that was away gets what
// it lacks.
func (a *app) fill(ctx context.Context, o exportOrder, t exportTarget) error {
	report, name, err := a.fillDrive(ctx, o, t)
	switch {
	case ctx.Err() != nil:
		return &lifeboat.Problem{
			What: fmt.Sprintf("stopped while %s was filled from the standing store", name),
			Safe: "the points of this run are whole in the standing store, and so are those that are on the drive",
			Next: "run the export again; what was written already is used",
			Err:  context.Cause(ctx),
		}
	case err != nil:
		p := problemOf(err)
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s was not filled from the standing store: %s", name, p.What),
			Safe: "the points of this run are whole in the standing store; " + p.Safe,
			Next: p.Next,
			Err:  errors.Join(lifeboat.ErrPartial, err),
		}
	}
	for _, n := range report.NotCopied {
		a.warn("point %s of %s was not copied to %s: %s", short(n.PointID), n.Machine, name, n.Why)
	}
	a.note("%s was filled from the standing store: %s copied, %s stored", name, count(len(report.Copied), "point"), humanBytes(report.WrittenBytes))
	if len(report.NotCopied) > 0 {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s of the standing store could not be copied to %s", count(len(report.NotCopied), "point"), name),
			Safe: "the points that are listed on the drive are whole",
			Next: "read the lines above, then look at the standing store: lifeboat verify --drive " + shellWord(t.standing),
			Err:  lifeboat.ErrPartial,
		}
	}
	return nil
}

func (a *app) fillDrive(ctx context.Context, o exportOrder, t exportTarget) (report imagestore.CopyReport, name string, err error) {
	name = "the drive"
	from, err := a.openDrive(ctx, t.standing, imagestore.Read)
	if err != nil {
		return report, name, err
	}
	defer from.Close()
	err = a.writeDrive(ctx, t.drive, t.driveID, o.flags.acceptDrive, func(cat *catalog.Catalog, d *openedDrive) error {
		name = d.name()
		points, faults, err := from.store.Points(ctx)
		if err != nil {
			return err
		}
		a.warnFaults(from, faults)
		newest := lifeboat.Newest(points)
		ids := make([]string, 0, len(newest))
		for _, p := range newest {
			ids = append(ids, p.ID)
		}
		progress := a.newProgress(o.run, "fill "+d.name())
		report, err = d.store.Copy(ctx, from.store, ids, imagestore.CopyOptions{Progress: func(p imagestore.Progress) { progress.show(p.DoneBytes, p.TotalBytes) }})
		progress.end()
		for _, p := range report.Copied {
			o.run.log(event{Event: "point", Machine: p.Machine.Name, Text: fmt.Sprintf("%s: copied point %s to %s", p.Machine.Name, short(p.ID), d.name()), Result: p})
		}
		if len(report.Copied) > 0 {
			a.rememberPoints(context.WithoutCancel(ctx), d)
			a.enter(ctx, cat, custody.Entry{Act: custody.ActExported, Item: item(d.store.Drive()), Facts: map[string]string{
				"run": o.run.ID, "machines": strconv.Itoa(len(report.Copied)), "from": "standing store"}})
		}
		return err
	})
	return report, name, err
}
