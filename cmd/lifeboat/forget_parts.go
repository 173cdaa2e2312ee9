package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
)

// forgetByRules forgets on a drive what the rules let go, and with a part of a
// machine its other parts on drives that are attached. A part whose others cannot
// be forgotten now stays. It returns how many points of the drive went.
func (a *app) forgetByRules(ctx context.Context, cat *catalog.Catalog, d *openedDrive, v driveVerdicts) (forgotten int, err error) {
	others := map[string]*openedDrive{}
	defer func() {
		for _, o := range others {
			o.Close()
		}
	}()
	var goes []pointVerdict
	for _, one := range v.Points {
		if one.Keep {
			continue
		}
		if why := a.openParts(ctx, cat, d, one, others); why != nil {
			a.warn("point %s of %s stays on %s: its other part cannot be forgotten now: %s", short(one.Point), one.Machine, d.name(), problemOf(why).What)
			continue
		}
		goes = append(goes, one)
	}
	if len(goes) == 0 {
		return 0, nil
	}
	if err := a.forgetPoints(ctx, cat, d, goes, "by the rules"); err != nil {
		return 0, err
	}
	for id, o := range others {
		if err := a.forgetWith(ctx, cat, o, id, goes); err != nil {
			a.warn("other parts of what was forgotten on %s stay on %s, and are of no use alone: %s", d.name(), o.name(), problemOf(err).What)
		}
	}
	return len(goes), nil
}

// openParts opens the drives that are attached and have other parts of a point.
// None of them may be a drive on which nothing can be forgotten now.
func (a *app) openParts(ctx context.Context, cat *catalog.Catalog, d *openedDrive, one pointVerdict, others map[string]*openedDrive) error {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return err
	}
	for _, part := range one.parts {
		for _, f := range found {
			if f.Drive.ID != part.DriveID || f.Drive.ID == d.store.Drive().ID || part.PointID == one.Point || others[f.Drive.ID] != nil {
				continue
			}
			o, err := a.openFound(ctx, f, d.keys, imagestore.Write, nil)
			if err != nil {
				return err
			}
			if err = a.onlyOfItsID(ctx, cat, o); err == nil {
				_, err = a.rememberPointsIn(ctx, cat, o)
			}
			if err != nil {
				o.Close()
				return err
			}
			others[f.Drive.ID] = o
		}
	}
	return nil
}

// forgetWith forgets on another drive the parts that belong to points which were
// forgotten.
func (a *app) forgetWith(ctx context.Context, cat *catalog.Catalog, o *openedDrive, driveID string, goes []pointVerdict) error {
	there, _, err := o.store.Points(ctx)
	if err != nil {
		return err
	}
	var with []pointVerdict
	for _, one := range goes {
		for _, part := range one.parts {
			if part.DriveID == driveID && slices.ContainsFunc(there, func(p lifeboat.RestorePoint) bool { return p.ID == part.PointID }) {
				one.Point = part.PointID
				with = append(with, one)
			}
		}
	}
	if len(with) == 0 {
		return nil
	}
	return a.forgetPoints(ctx, cat, o, with, "by the rules, with their other parts")
}

// forgetPoints takes points off the list of a drive, and has the catalogue and the
// ledger know it, the ledger with the reasons.
func (a *app) forgetPoints(ctx context.Context, cat *catalog.Catalog, d *openedDrive, goes []pointVerdict, how string) error {
	var ids, names []string
	for _, one := range goes {
		ids, names = append(ids, one.Point), append(names, short(one.Point))
	}
	if err := d.store.Forget(ctx, ids...); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if cat == nil {
		return nil
	}
	if _, err := a.rememberPointsIn(ctx, cat, d); err != nil {
		a.warn("the catalogue does not know which points are on %s now: %v", d.name(), err)
	}
	facts := reasons(goes)
	facts["points"] = fmt.Sprint(len(ids))
	a.enter(ctx, cat, custody.Entry{Act: custody.ActForgot, Item: item(d.store.Drive()), Note: custody.Clean(how + ": " + strings.Join(names, " ")), Facts: facts})
	return nil
}

// mostReasons of a forgetting are written down: an entry of the ledger is short.
const mostReasons = 10

// reasons are why points went, as facts of the ledger: each reason once, with the
// points that it concerns.
func reasons(goes []pointVerdict) map[string]string {
	var order []string
	concerns := map[string][]string{}
	for _, one := range goes {
		if one.Why == "" {
			continue // a person wanted it
		}
		if concerns[one.Why] == nil {
			order = append(order, one.Why)
		}
		concerns[one.Why] = append(concerns[one.Why], short(one.Point))
	}
	facts := map[string]string{}
	for i, why := range order[:min(len(order), mostReasons)] {
		facts[fmt.Sprintf("why%d", i+1)] = custody.Clean(oneLine(why) + ": " + strings.Join(concerns[why], " "))
	}
	return facts
}
