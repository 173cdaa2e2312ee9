package rotation

import (
	"slices"

	"lifeboat"
)

// Untouched returns the ids of the points on a drive of which nothing may be
// removed, moved or written anew: of each machine the newest verified one on it,
// unless another drive that counts holds that point or a newer one, verified. Of
// a machine that has no verified copy anywhere, it is the newest point. What is
// only appended touches nothing.
func Untouched(s Shelf, driveID string) (ids []string) {
	here := map[string][]ShelfPoint{}
	elsewhere := map[string][]ShelfPoint{}
	for _, d := range s.Drives {
		for _, p := range d.Points {
			switch {
			case d.ID == driveID:
				here[p.MachineID] = append(here[p.MachineID], p)
			case Uncounted(d) == "" && !p.VerifiedAt.IsZero() && s.wholeWithout(p, driveID):
				elsewhere[p.MachineID] = append(elsewhere[p.MachineID], p)
			}
		}
	}
	for machine, points := range here {
		verified := slices.DeleteFunc(slices.Clone(points), func(p ShelfPoint) bool { return p.VerifiedAt.IsZero() })
		if len(verified) == 0 {
			if len(elsewhere[machine]) == 0 {
				ids = append(ids, newestOf(points).ID)
			}
			continue
		}
		newest := newestOf(verified)
		covered := slices.ContainsFunc(elsewhere[machine], func(p ShelfPoint) bool { return p.ID == newest.ID || p.TakenAt.After(newest.TakenAt) })
		if !covered {
			ids = append(ids, newest.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// wholeWithout says whether a point can be recovered without a drive: all drives
// that make it whole count, and that drive is none of them.
func (s Shelf) wholeWithout(p ShelfPoint, driveID string) bool {
	for _, id := range p.Together {
		i := slices.IndexFunc(s.Drives, func(d ShelfDrive) bool { return d.ID == id })
		if id == driveID || i < 0 || Uncounted(s.Drives[i]) != "" {
			return false
		}
	}
	return true
}

// newestOf is the newest of one machine's points on one drive, by the drive's own
// count: see [lifeboat.Newest].
func newestOf(points []ShelfPoint) ShelfPoint {
	known := map[string]ShelfPoint{}
	var described []lifeboat.RestorePoint
	for _, p := range points {
		known[p.ID] = p
		r := lifeboat.RestorePoint{ID: p.ID, Sequence: p.Sequence, TakenAt: p.TakenAt}
		if p.Copied {
			r.CopiedFrom = "another drive"
		}
		described = append(described, r)
	}
	return known[lifeboat.Newest(described)[""].ID]
}
