package rotation

import (
	"cmp"
	"slices"
	"time"
)

// restorable is a machine at one moment on the drives that hold it: one drive, or
// all those over which its disks lie. The same point on two drives is two of them.
type restorable struct {
	pointID, machineID string
	takenAt            time.Time
	// drives hold it together; points are its parts, one on each.
	drives []*ShelfDrive
	points []*ShelfPoint
	// whole: all parts are known, and all drives count.
	whole bool
	// verifiedAt is the oldest of the parts' dates; zero unless it is whole and
	// every part is verified. provenAt is the latest proof of any part.
	verifiedAt, provenAt time.Time
}

func (r *restorable) verified() bool { return r.whole && !r.verifiedAt.IsZero() }

// isOffsite says that all of it lies outside the house.
func (r *restorable) isOffsite() bool {
	return !slices.ContainsFunc(r.drives, func(d *ShelfDrive) bool { return !offsite(*d) })
}

func (r *restorable) on(driveID string) bool {
	return slices.ContainsFunc(r.drives, func(d *ShelfDrive) bool { return d.ID == driveID })
}

// copiesOf lists all copies of each machine, by the machine's id.
func copiesOf(s Shelf) map[string][]*restorable {
	byID := map[string]*ShelfDrive{}
	for i := range s.Drives {
		byID[s.Drives[i].ID] = &s.Drives[i]
	}
	all := map[string][]*restorable{}
	for i := range s.Drives {
		d := &s.Drives[i]
		for k := range d.Points {
			p := &d.Points[k]
			if r := newRestorable(byID, d, p); r != nil {
				all[p.MachineID] = append(all[p.MachineID], r)
			}
		}
	}
	return all
}

// newRestorable puts a point together with its other parts; nil if another part
// stands for all of them.
func newRestorable(byID map[string]*ShelfDrive, d *ShelfDrive, p *ShelfPoint) *restorable {
	r := &restorable{pointID: p.ID, machineID: p.MachineID, takenAt: p.TakenAt, whole: true}
	r.add(d, p)
	if !p.partial() {
		return r
	}
	first := d.ID
	for i, id := range p.Together {
		// A copy of a part stands for the part that it is a copy of.
		if id == d.ID || i < len(p.Parts) && p.Parts[i] == p.ID {
			continue
		}
		other, part := byID[id], (*ShelfPoint)(nil)
		if other != nil {
			part = partOn(other, p, i)
		}
		if part == nil {
			r.whole = false
			continue
		}
		first = min(first, id)
		r.add(other, part)
	}
	if first != d.ID && slices.Contains(p.Together, d.ID) {
		return nil
	}
	if !r.whole {
		r.verifiedAt = time.Time{}
	}
	return r
}

func (r *restorable) add(d *ShelfDrive, p *ShelfPoint) {
	if len(r.points) == 0 || p.VerifiedAt.Before(r.verifiedAt) {
		r.verifiedAt = p.VerifiedAt
	}
	if p.ProvenAt.After(r.provenAt) {
		r.provenAt = p.ProvenAt
	}
	r.drives, r.points = append(r.drives, d), append(r.points, p)
	if Uncounted(*d) != "" {
		r.whole = false
	}
}

// partOn finds on a drive part i of the machine at the moment of a point: the one
// that the point names or, where it names none, the one of the same run.
func partOn(d *ShelfDrive, p *ShelfPoint, i int) *ShelfPoint {
	named := ""
	if i < len(p.Parts) {
		named = p.Parts[i]
	}
	for k := range d.Points {
		q := &d.Points[k]
		if q.MachineID == p.MachineID && q.partial() && (q.ID == named || named == "" && q.RunID != "" && q.RunID == p.RunID && q.TakenAt.Equal(p.TakenAt)) {
			return q
		}
	}
	return nil
}

// newest is the newest of the copies that suit, or nil. Across drives only the
// moment that a point holds can be compared.
func newest(all []*restorable, suits func(*restorable) bool) *restorable {
	var found *restorable
	for _, r := range all {
		if suits(r) && (found == nil || newerCopy(r, found)) {
			found = r
		}
	}
	return found
}

// newerCopy compares two copies: by their moments and, of one moment, which was
// verified later.
func newerCopy(a, b *restorable) bool {
	return cmp.Or(a.takenAt.Compare(b.takenAt), a.verifiedAt.Compare(b.verifiedAt), -cmp.Compare(a.drives[0].ID, b.drives[0].ID)) > 0
}

func verifiedOffsite(r *restorable) bool { return r.verified() && r.isOffsite() }

// newestFirst lists the points of one machine on one drive, the newest first, by
// the rule of [lifeboat.RestorePoint.NewerThan]: what was committed later is newer,
// whatever the clocks said; only a copied point goes by the moment it holds.
func newestFirst(d *ShelfDrive, machineID string) []*ShelfPoint {
	var bySequence []*ShelfPoint
	for i := range d.Points {
		if d.Points[i].MachineID == machineID {
			bySequence = append(bySequence, &d.Points[i])
		}
	}
	slices.SortFunc(bySequence, func(a, b *ShelfPoint) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), a.TakenAt.Compare(b.TakenAt), cmp.Compare(a.ID, b.ID))
	})
	var oldestFirst []*ShelfPoint
	for _, p := range bySequence {
		at := len(oldestFirst)
		for p.Copied && at > 0 && p.TakenAt.Before(oldestFirst[at-1].TakenAt) {
			at--
		}
		oldestFirst = slices.Insert(oldestFirst, at, p)
	}
	slices.Reverse(oldestFirst)
	return oldestFirst
}
