package main

import (
	"context"
	"errors"
	"slices"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/rotation"
)

// untouched returns the ids of the points on a drive whose packs a prune leaves as
// they are: [rotation.Untouched] says which. Where nothing is known of other
// drives, those are the newest point of every machine and the newest verified one.
func (a *app) untouched(ctx context.Context, d *openedDrive) ([]string, error) {
	if a.hasMemory() {
		shelf, err := a.shelfWith(ctx, d)
		if err == nil {
			return rotation.Untouched(shelf, d.store.Drive().ID), nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		a.warn("what other drives hold is not known, so the packs of all newest points stay as they are: %v", problemOf(err).What)
	}
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return nil, err
	}
	checked, err := d.store.Checked(ctx)
	if err != nil {
		return nil, err
	}
	verified := slices.DeleteFunc(slices.Clone(points), func(p lifeboat.RestorePoint) bool {
		return checked.Points[p.ID].ReadSince.IsZero() && checked.Points[p.ID].VerifiedAt.IsZero()
	})
	var ids []string
	for _, newest := range []map[string]lifeboat.RestorePoint{lifeboat.Newest(points), lifeboat.Newest(verified)} {
		for _, p := range newest {
			ids = append(ids, p.ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// shelfWith is the shelf after the catalogue has learnt what is on a drive.
func (a *app) shelfWith(ctx context.Context, d *openedDrive) (rotation.Shelf, error) {
	cat := a.remembered(ctx)
	if cat == nil {
		return rotation.Shelf{}, errors.New("the catalogue cannot be read")
	}
	if _, err := a.rememberPointsIn(ctx, cat, d); err != nil {
		return rotation.Shelf{}, err
	}
	return a.shelf(ctx, cat)
}

// learnReadings makes what the catalogue knows of a drive's readings equal to the
// drive's own record.
func learnReadings(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	checked, err := d.store.Checked(ctx)
	if err != nil {
		return err
	}
	r := catalog.Reading{VerifiedAt: checked.VerifiedAt}
	for id, p := range checked.Points {
		r.Points = append(r.Points, catalog.PointReading{PointID: id, VerifiedAt: p.VerifiedAt, ReadSince: p.ReadSince})
	}
	return cat.LearnReadings(ctx, d.store.Drive().ID, r)
}
