package catalog_test

import (
	"testing"

	"lifeboat"
	"lifeboat/catalog"
)

func TestAPartIsKnownAsOneAndMissesWhatNoDriveHas(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	must(t, c.RecordDrive(ctx, someDrive("d1", 1)))
	must(t, c.RecordDrive(ctx, someDrive("d2", 1)))
	together := []lifeboat.Part{{PointID: "p1", DriveID: "d1", Label: "A1", Disks: []string{"a"}}, {PointID: "p2", DriveID: "d2", Label: "A2", Disks: []string{"b"}}}
	part := func(id string) lifeboat.RestorePoint {
		p := somePoint(id, "m1", 1)
		p.Together = together
		return p
	}
	must(t, c.AddPoint(ctx, "d1", part("p1")))
	missing := func() []lifeboat.Part {
		points, err := c.Points(ctx, catalog.PointFilter{})
		must(t, err)
		equal(t, nil, points[0].Together, together)
		return points[0].MissingParts(points)
	}
	equal(t, nil, missing(), together[1:])
	must(t, c.AddPoint(ctx, "d2", part("p2")))
	equal(t, nil, len(missing()), 0)
	must(t, c.ReplacePoints(ctx, "d2", []lifeboat.RestorePoint{somePoint("p9", "m2", 2)}))
	equal(t, nil, missing(), together[1:])
}
