package main

import (
	"context"
	"errors"
	"fmt"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
)

const (
	// A drive with more room than this is not pruned: what lies on it hurts nobody,
	// and to look for it costs a reading of all trees.
	pruneBelowFree = 0.2
	// From this share of the drive on, what no point needs is worth a prune.
	pruneFromGarbage = 0.1
)

// forgetDue does to a drive that has come what was decided about its points, and
// gives back room that tonight needs. Nothing of that stops an export: what fails
// is said. An error means that the drive cannot be written to any more.
func (a *app) forgetDue(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	forgotten, err := a.forgetVerdicts(ctx, cat, d)
	if err != nil {
		if errors.Is(err, lifeboat.ErrDriveGone) || ctx.Err() != nil {
			return err
		}
		p := problemOf(err)
		a.warn("nothing was forgotten on %s: %s (%s)", d.name(), p.What, p.Next)
	}
	o, due, err := a.pruneDue(ctx, cat, d, forgotten)
	if err != nil || !due {
		if err != nil && !errors.Is(err, lifeboat.ErrDriveGone) && ctx.Err() == nil {
			a.warn("%s was not pruned: %s", d.name(), problemOf(err).What)
			err = nil
		}
		return err
	}
	return a.pruneNowAndThen(ctx, d, o)
}

// forgetVerdicts forgets what the rules let go.
func (a *app) forgetVerdicts(ctx context.Context, cat *catalog.Catalog, d *openedDrive) (forgotten int, err error) {
	v, err := a.verdicts(ctx, cat, d)
	if err != nil {
		return 0, err
	}
	if v.Doubt != "" {
		a.warn("nothing is forgotten: %s", v.Doubt)
	}
	if forgotten, err = a.forgetByRules(ctx, cat, d, v); err != nil || forgotten == 0 {
		return 0, err
	}
	a.note("%s: %s forgotten by the rules, %s stay", d.name(), count(forgotten, "point"), fmt.Sprint(len(v.Points)-forgotten))
	return forgotten, nil
}

// pruneDue says whether a drive is pruned before it is written: when it lacks room
// for tonight, or when it is rather full and much of it is needed by no point.
func (a *app) pruneDue(ctx context.Context, cat *catalog.Catalog, d *openedDrive, forgotten int) (o imagestore.PruneOptions, due bool, err error) {
	free, total, err := d.dir.Space()
	if err != nil || total <= 0 {
		return o, false, err
	}
	tonight, err := tonightBytes(ctx, cat, d.store.Drive().ID)
	if err != nil {
		return o, false, err
	}
	lacks := free < tonight+d.store.Reserve(total)
	if !lacks && (forgotten == 0 || float64(free) >= pruneBelowFree*float64(total)) {
		return o, false, nil
	}
	if o.Untouched, err = a.untouched(ctx, d); err != nil {
		return o, false, err
	}
	plan, err := d.store.PlanPrune(ctx, o)
	if err != nil {
		return o, false, err
	}
	if lacks {
		return o, plan.FreeEstimateBytes > 0, nil
	}
	return o, float64(plan.FreeEstimateBytes) >= pruneFromGarbage*float64(total), nil
}

// tonightBytes is about what an export to a drive is going to store: of each
// machine twice what its newest point added, and all of it where the drive has no
// point of it yet.
func tonightBytes(ctx context.Context, cat *catalog.Catalog, driveID string) (n int64, err error) {
	machines, err := cat.Machines(ctx)
	if err != nil {
		return 0, err
	}
	points, err := cat.Points(ctx, catalog.PointFilter{})
	if err != nil {
		return 0, err
	}
	here, err := cat.Newest(ctx, driveID)
	if err != nil {
		return 0, err
	}
	for _, m := range machines {
		if !m.RetiredAt.IsZero() {
			continue
		}
		if p, ok := here[m.ID]; ok {
			n += 2 * p.NewBytes
			continue
		}
		whole := int64(0)
		for _, p := range points {
			if p.MachineID == m.ID {
				whole = p.DataBytes // the newest: they are listed oldest first
			}
		}
		n += whole
	}
	return n, nil
}

// pruneNowAndThen prunes the drive, for which nobody else may use it, and opens it
// for writing again.
func (a *app) pruneNowAndThen(ctx context.Context, d *openedDrive, o imagestore.PruneOptions) error {
	if err := d.store.Close(); err != nil {
		return err
	}
	alone, err := a.openFound(ctx, d.found, d.keys, imagestore.Alone, nil)
	if err == nil {
		var report imagestore.PruneReport
		report, err = alone.store.Prune(ctx, o, nil)
		alone.Close()
		if err == nil {
			a.note("%s: pruned, %s freed", d.name(), humanBytes(max(0, report.FreedBytes)))
		}
	}
	if err != nil && ctx.Err() == nil {
		a.warn("%s was not pruned: %s", d.name(), problemOf(err).What)
	}
	again, err := a.openFound(ctx, d.found, d.keys, imagestore.Write, nil)
	if err != nil {
		return err
	}
	if id := d.store.Drive().ID; again.store.Drive().ID != id {
		defer again.Close()
		return swapped(again, id)
	}
	closeDir(d.dir)
	d.store, d.dir = again.store, again.dir
	return nil
}
