package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
)

// prove records of each machine that was booted, and whose checks all passed, that
// its point on that drive is proven. A boot that met damage proves nothing.
func (b *booter) prove(ctx context.Context, results []bootResult) {
	cat := b.a.knownSite(ctx)
	if serving, err := readServing(b.run.dir); cat == nil || err == nil && len(serving.Damage) > 0 {
		return
	}
	ctx = context.WithoutCancel(ctx)
	var points, machines []string
	for _, r := range results {
		i := slices.IndexFunc(b.plan.Machines, func(m plannedBoot) bool { return m.Name == r.Machine })
		if i < 0 || r.err != nil || r.Skipped != "" || len(b.plan.Machines[i].Checks) == 0 {
			continue
		}
		m := b.plan.Machines[i]
		if err := b.proveParts(ctx, cat, m); err != nil {
			b.a.warn("the catalogue does not learn that %s is proven: %v", m.Name, err)
			continue
		}
		points, machines = append(points, m.Point.ID), append(machines, m.Point.Machine.Name)
	}
	if len(points) > 0 {
		b.a.enterProven(ctx, cat, item(b.booted.Drive), b.run.ID, points, machines)
	}
}

// enterProven records in the ledger which machines came up from a drive.
func (a *app) enterProven(ctx context.Context, cat *catalog.Catalog, drive *custody.Item, run string, points, machines []string) {
	a.enter(ctx, cat, custody.Entry{Act: custody.ActProven, Item: drive, Note: bounded("booted and answered: " + list(machines)),
		Facts: map[string]string{"run": run, "points": fmt.Sprint(len(points))}})
}

// proveParts records a proof of each point that the machine was read from.
func (b *booter) proveParts(ctx context.Context, cat *catalog.Catalog, m plannedBoot) error {
	booted := b.booted.machine(m.Name)
	proven := map[bootedPart]bool{{b.booted.Drive.ID, m.Point.ID}: true}
	for key := range booted.Exports {
		drive, point := b.booted.source(booted, key)
		proven[bootedPart{drive, point}] = true
	}
	for p := range proven {
		proof := catalog.Proof{DriveID: p.DriveID, PointID: p.Point, RunID: b.run.ID, At: b.a.now(), Checked: checkWords(m.Checks)}
		if err := cat.RecordProof(ctx, proof); err != nil {
			return err
		}
	}
	return nil
}

// checkWords are the checks that a machine answered, such as tcp:5432.
func checkWords(checks []bootCheck) string {
	var words []string
	for _, c := range checks {
		words = append(words, fmt.Sprint(c))
	}
	return strings.Join(words, ", ")
}

// knownSite is the catalogue of a control machine that has one, or nil: a
// computer that only recovers remembers nothing.
func (a *app) knownSite(ctx context.Context) *catalog.Catalog {
	if !a.hasMemory() || !a.hasState() {
		return nil
	}
	return a.remembered(ctx)
}

// damaged records damage that a boot or a restore met. Nobody knows which other
// points of the drive need the same blocks, so nothing that was read of it before
// counts any more, until it is verified again.
func (a *app) damaged(ctx context.Context, drive lifeboat.Drive, f catalog.Fault) {
	ctx = context.WithoutCancel(ctx)
	cat := a.knownSite(ctx)
	if cat == nil {
		return
	}
	f.DriveID, f.At, f.Others = drive.ID, a.now(), true
	if err := cat.RecordFault(ctx, f); err != nil {
		a.warn("the catalogue does not learn of the damage: %v", err)
		return
	}
	facts := map[string]string{"run": f.RunID}
	if f.PointID != "" {
		facts["point"] = f.PointID
	}
	a.enter(ctx, cat, custody.Entry{Act: custody.ActFault, Item: item(drive), Note: bounded(f.What), Facts: facts})
}

// bounded is text for the ledger: on one line, and no longer than an entry takes.
func bounded(text string) string { return custody.Clean(oneLine(text)) }
