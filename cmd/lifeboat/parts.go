package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// diskSource is where a disk is read from: a point on a drive that is open.
type diskSource struct {
	drive *openedDrive
	point string
}

// pickedPoint is a point that was chosen, with the sources of its disks. Of a
// machine whose disks lie on several drives it has the disks of all parts.
type pickedPoint struct {
	lifeboat.RestorePoint
	sources map[string]diskSource
}

// source is where a disk of the point is read from.
func (p pickedPoint) source(key string) diskSource { return p.sources[key] }

// pointsOf are the points alone.
func pointsOf(picked []pickedPoint) (points []lifeboat.RestorePoint) {
	for _, p := range picked {
		points = append(points, p.RestorePoint)
	}
	return points
}

// pointReader reads points of one drive, and what belongs to them on others. It
// keeps the other drives open until it is closed.
type pointReader struct {
	a      *app
	drive  *openedDrive
	others map[string]*openedDrive
}

func (a *app) newPointReader(d *openedDrive) *pointReader {
	return &pointReader{a: a, drive: d, others: map[string]*openedDrive{}}
}

// Close closes the other drives.
func (r *pointReader) Close() {
	for _, d := range r.others {
		d.Close()
	}
}

// errPartMissing: a part of a machine was never committed, or was forgotten.
var errPartMissing = errors.New("a part of it is on no drive that is attached, though its drive is")

// pick chooses points by names, or the newest of all machines. A machine's newest
// point that is a part whose others were never committed is passed over.
func (r *pointReader) pick(ctx context.Context, points []lifeboat.RestorePoint, names []string, all bool) ([]pickedPoint, error) {
	label := r.drive.found.Drive.Label
	chosen, err := pickPoints(points, names, all, label)
	if err != nil {
		return nil, err
	}
	var picked []pickedPoint
	for _, p := range chosen {
		byName := all || slices.Contains(names, p.Machine.Name) || slices.Contains(names, p.Machine.ID)
		whole, err := r.whole(ctx, points, p, byName)
		if err != nil {
			return nil, err
		}
		picked = append(picked, whole)
	}
	return picked, nil
}

// pickForRestore chooses one point, with the sources of all its disks, or of one
// disk: then the drives of the others need not be there.
func (r *pointReader) pickForRestore(ctx context.Context, points []lifeboat.RestorePoint, name, disk string) (pickedPoint, error) {
	if disk == "" {
		picked, err := r.pick(ctx, points, []string{name}, false)
		if err != nil {
			return pickedPoint{}, err
		}
		return picked[0], nil
	}
	p, err := pickPoint(points, newestPoints(points), name, r.drive.found.Drive.Label)
	if err != nil {
		return pickedPoint{}, err
	}
	return r.read(ctx, p, disk)
}

// whole finds the sources of all disks of a point. Where it was chosen as its
// machine's newest, an older one takes the place of one that is not complete.
func (r *pointReader) whole(ctx context.Context, points []lifeboat.RestorePoint, p lifeboat.RestorePoint, byName bool) (pickedPoint, error) {
	for {
		picked, err := r.read(ctx, p, "")
		if !byName || !errors.Is(err, errPartMissing) {
			return picked, err
		}
		points = slices.DeleteFunc(slices.Clone(points), func(o lifeboat.RestorePoint) bool { return o.ID == p.ID })
		older, ok := lifeboat.Newest(points)[p.Machine.ID]
		if !ok {
			return picked, err
		}
		r.a.warn("%s: its newest point, of %s, is not complete, and its point of %s is taken: %s", p.Machine.Name, stamp(p.TakenAt), stamp(older.TakenAt), problemOf(err).What)
		p = older
	}
}

// read finds the sources of the disks of a point, or of one disk.
func (r *pointReader) read(ctx context.Context, p lifeboat.RestorePoint, only string) (pickedPoint, error) {
	picked := pickedPoint{RestorePoint: p, sources: map[string]diskSource{}}
	picked.Disks = slices.Clone(p.Disks)
	for _, d := range p.Disks {
		picked.sources[d.Key] = diskSource{r.drive, p.ID}
	}
	for _, part := range p.Together {
		if part.PointID == p.ID || only != "" && !part.Has(only) {
			continue
		}
		d, other, err := r.part(ctx, p, part)
		if err != nil {
			return picked, err
		}
		for _, disk := range other.Disks {
			picked.Disks = append(picked.Disks, disk)
			picked.sources[disk.Key] = diskSource{d, other.ID}
		}
	}
	place := map[string]int{}
	for i, d := range p.Machine.Disks {
		place[d.Key] = i
	}
	slices.SortStableFunc(picked.Disks, func(x, y lifeboat.PointDisk) int { return place[x.Key] - place[y.Key] })
	return picked, nil
}

// part opens the drive that has another part of a point: the one that it was
// exported to, or one with a copy.
func (r *pointReader) part(ctx context.Context, p lifeboat.RestorePoint, part lifeboat.Part) (*openedDrive, lifeboat.RestorePoint, error) {
	found, err := r.a.attachedDrives(ctx)
	if err != nil {
		return nil, lifeboat.RestorePoint{}, err
	}
	// Its own drive first.
	slices.SortStableFunc(found, func(x, y rotation.Found) int {
		return boolOrder(y.Drive.ID == part.DriveID) - boolOrder(x.Drive.ID == part.DriveID)
	})
	itsDriveIsHere := part.DriveID == r.drive.store.Drive().ID
	if point, err := r.drive.store.Point(ctx, part.PointID); err == nil {
		return r.drive, point, checkParts(p, point)
	}
	for _, f := range found {
		if !f.Usable() || f.Drive.SiteID != "" && f.Drive.SiteID != r.drive.store.Site().ID || f.Drive.ID == r.drive.found.Drive.ID {
			continue
		}
		d, err := r.other(ctx, f)
		if err != nil && f.Drive.ID != part.DriveID {
			continue // it may be locked, or another's; its own drive is what counts
		}
		if err != nil {
			return nil, lifeboat.RestorePoint{}, err
		}
		point, err := d.store.Point(ctx, part.PointID)
		if err == nil {
			return d, point, checkParts(p, point)
		}
		itsDriveIsHere = itsDriveIsHere || d.store.Drive().ID == part.DriveID
	}
	if itsDriveIsHere {
		return nil, lifeboat.RestorePoint{}, r.missing(p, part)
	}
	return nil, lifeboat.RestorePoint{}, r.absent(ctx, p, part)
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}

// other opens another drive with the secret that opened the first.
func (r *pointReader) other(ctx context.Context, f rotation.Found) (*openedDrive, error) {
	if d := r.others[f.Path]; d != nil {
		return d, nil
	}
	d, err := r.a.openFound(ctx, f, r.drive.keys, imagestore.Read, nil)
	if err != nil {
		return nil, err
	}
	if d.store.Site().ID != r.drive.store.Site().ID {
		d.Close()
		return nil, lifeboat.ErrWrongDrive
	}
	r.others[f.Path] = d
	return d, nil
}

// checkParts refuses parts that do not name each other, or are of two moments.
func checkParts(p, other lifeboat.RestorePoint) error {
	same := p.Machine.ID == other.Machine.ID && p.TakenAt.Equal(other.TakenAt) &&
		slices.EqualFunc(p.Together, other.Together, func(a, b lifeboat.Part) bool {
			return a.PointID == b.PointID && slices.Equal(a.Disks, b.Disks)
		})
	if same {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: the points %s and %s do not belong together, though one names the other as its part", p.Machine.Name, short(p.ID), short(other.ID)),
		Safe: "nothing was done; both drives were only read",
		Next: "take another point: lifeboat point list",
		Err:  lifeboat.ErrDamaged,
	}
}

// missing: the drive of the part is attached, and has no such point.
func (r *pointReader) missing(p lifeboat.RestorePoint, part lifeboat.Part) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: the point of %s on %s is not complete: drive %s, which is attached, has no part with disk %s; it was never committed, or was forgotten",
			p.Machine.Name, stamp(p.TakenAt), r.drive.name(), part.Label, strings.Join(part.Disks, ", ")),
		Safe: "nothing was done; the drives were only read",
		Next: "take another point of it: lifeboat point list --drive " + shellWord(r.drive.found.Drive.Label),
		Err:  errPartMissing,
	}
}

// absent: the drive of the part is not attached.
func (r *pointReader) absent(ctx context.Context, p lifeboat.RestorePoint, part lifeboat.Part) error {
	where := ""
	if r.a.hasMemory() {
		if cat := r.a.remembered(ctx); cat != nil {
			where = r.a.whereDriveIs(ctx, cat, part.DriveID)
		}
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s lies on %d drives, and drive %s, with its disk %s, is not attached", p.Machine.Name, len(p.Together), part.Label, strings.Join(part.Disks, ", ")) + where,
		Safe: "nothing was done; the drives were only read",
		Next: fmt.Sprintf("attach drive %s beside drive %s, mount it, and run the command again", part.Label, r.drive.found.Drive.Label),
		Err:  lifeboat.ErrNoDrive,
	}
}

// whereDriveIs says in a half-sentence where a drive is, as far as is known.
func (a *app) whereDriveIs(ctx context.Context, cat *catalog.Catalog, id string) string {
	j, err := a.decide(ctx, cat)
	if err != nil {
		return ""
	}
	return ": " + j.whereIs(id)
}
