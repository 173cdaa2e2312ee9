package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// pointVerdict says what becomes of one point of a drive.
type pointVerdict struct {
	Point   string    `json:"point"`
	Machine string    `json:"machine"`
	TakenAt time.Time `json:"takenAt"`
	Keep    bool      `json:"keep"`
	// Why is the rule, or the promise, that decided.
	Why string `json:"why"`
	// parts are all parts of its machine at that moment, if it is one.
	parts []lifeboat.Part
}

// driveVerdicts are those of all points of a drive, oldest first.
type driveVerdicts struct {
	Drive lifeboat.Drive `json:"drive"`
	// Doubt says why the clock is not believed; then everything is kept.
	Doubt  string         `json:"doubt,omitempty"`
	Points []pointVerdict `json:"points"`
}

// goes lists the points that may go.
func (v driveVerdicts) goes() (ids []string) {
	for _, p := range v.Points {
		if !p.Keep {
			ids = append(ids, p.Point)
		}
	}
	return ids
}

// String is the table that people read.
func (v driveVerdicts) String() string {
	var rows [][]string
	for _, p := range v.Points {
		word := "forget"
		if p.Keep {
			word = "keep"
		}
		why := p.Why
		if !p.Keep && len(p.parts) > 0 {
			why += "; its other parts on drives that are attached go with it"
		}
		rows = append(rows, []string{short(p.Point), p.Machine, stamp(p.TakenAt), word, why})
	}
	gone := len(v.goes())
	text := fmt.Sprintf("drive %s: %s kept, %s forgotten\n", v.Drive.Label, count(len(v.Points)-gone, "point"), count(gone, "point"))
	return text + table([]string{"POINT", "MACHINE", "TAKEN", "", "WHY"}, rows)
}

// verdicts asks what becomes of each point of an open drive. The drive is looked
// at first, and the catalogue learns what is on it and what its own record says
// was read; what is known of other drives is the catalogue's. [rotation.Decide]
// decides; here is only added what it cannot know: a machine runs from a point,
// or the drive's own list cannot be read whole.
func (a *app) verdicts(ctx context.Context, cat *catalog.Catalog, d *openedDrive) (driveVerdicts, error) {
	v := driveVerdicts{Drive: d.store.Drive(), Points: []pointVerdict{}}
	points, faults, err := d.store.Points(ctx)
	if err != nil {
		return v, err
	}
	if _, err := a.rememberPointsIn(ctx, cat, d); err != nil {
		return v, err
	}
	policy, err := a.policy()
	if err != nil {
		return v, err
	}
	shelf, err := a.shelf(ctx, cat)
	if err != nil {
		return v, err
	}
	for i := range shelf.Drives {
		if shelf.Drives[i].ID == v.Drive.ID {
			shelf.Drives[i].Attached = true // wherever it is mounted
		}
	}
	booted, err := a.bootedRuns()
	if err != nil {
		return v, err
	}
	decision := rotation.Decide(a.now(), policy, shelf)
	v.Doubt = decision.Doubt
	unread := slices.ContainsFunc(faults, func(f imagestore.Fault) bool { return f.Lost })
	for _, p := range points {
		one := pointVerdict{Point: p.ID, Machine: p.Machine.Name, TakenAt: p.TakenAt, Keep: true, Why: "nothing was decided about it", parts: p.Together}
		i := slices.IndexFunc(decision.Verdicts, func(r rotation.Verdict) bool { return r.DriveID == v.Drive.ID && r.PointID == p.ID })
		if i >= 0 {
			one.Keep, one.Why = decision.Verdicts[i].Keep, decision.Verdicts[i].Why
		}
		switch run := runsFrom(booted, v.Drive.ID, p.ID); {
		case one.Keep:
		case run != "":
			one.Keep, one.Why = true, "a machine runs from it (run "+short(run)+")"
		case unread:
			one.Keep, one.Why = true, "the record of a point on this drive cannot be read: nothing is forgotten until it is verified"
		}
		v.Points = append(v.Points, one)
	}
	return v, nil
}

// runsFrom is the run of a machine that runs from a point on a drive, or "".
func runsFrom(booted []*bootedRun, driveID, point string) string {
	for _, b := range booted {
		for _, m := range b.Machines {
			if !m.Settled && b.readsPoint(m, driveID, point) {
				return b.Run
			}
		}
	}
	return ""
}

// forgetByPolicy shows what becomes of each point of a drive, and does it.
func (a *app) forgetByPolicy(ctx context.Context, f forgetFlags) error {
	mode := imagestore.Write
	if f.dryRun {
		mode = imagestore.Read
	}
	if _, err := a.loadSite(); err != nil {
		return err
	}
	d, err := a.openDriveAlone(ctx, f.drive, mode)
	if err != nil {
		return err
	}
	defer d.Close()
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	v, err := a.verdicts(ctx, cat, d)
	if err != nil {
		return err
	}
	if v.Doubt != "" {
		a.warn("nothing is forgotten: %s", v.Doubt)
	}
	ids := v.goes()
	forgotten := 0
	if !f.dryRun && len(ids) > 0 {
		if err := a.confirm(ctx, f.yes, v.String()); err != nil {
			return err
		}
		if forgotten, err = a.forgetByRules(ctx, cat, d, v); err != nil {
			return err
		}
	}
	switch {
	case a.json:
		a.printJSON(v)
	case f.dryRun || len(ids) == 0:
		a.print("%s", v)
	default:
		a.print("%s: %s forgotten; their blocks are given back by: lifeboat prune %s\n", d.name(), count(forgotten, "point"), shellWord(d.found.Drive.Label))
	}
	return nil
}
