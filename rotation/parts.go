package rotation

import (
	"fmt"
	"slices"

	"lifeboat/custody"
)

// The parts of a machine at one moment, on several drives, are kept or forgotten
// together: one of them alone is not the machine.

// apart says why a part cannot be decided now: another part of it may be on a drive
// that is not here, or on which nothing is changed. What is lost or retired does
// not come back, and binds nobody. It is empty for a point that is no part.
func (j *judge) apart(d *ShelfDrive, p *ShelfPoint) string {
	if !p.partial() {
		return ""
	}
	others := slices.Clone(j.parts[p].drives)
	for i, id := range p.Together {
		if i < len(p.Parts) && p.Parts[i] == p.ID {
			continue // this one, which may be a copy of it
		}
		known := slices.IndexFunc(j.s.Drives, func(o ShelfDrive) bool { return o.ID == id })
		if known < 0 {
			return "another part of it is on a drive that is not known here"
		}
		others = append(others, &j.s.Drives[known])
	}
	for _, o := range others {
		switch {
		case o.ID == d.ID || awayForGood(o):
		case !o.Attached:
			return fmt.Sprintf("another part of it is on drive %s, which is not here: they are decided together", o.Label)
		case Uncounted(*o) != "":
			return fmt.Sprintf("another part of it is on drive %s, where nothing is changed: %s", o.Label, Uncounted(*o))
		}
	}
	return ""
}

// awayForGood says that what is on a drive is not waited for.
func awayForGood(d *ShelfDrive) bool {
	return d.Place.State == custody.Lost || d.Place.State == custody.Retired
}

// together keeps each part of which another part is kept.
func (j *judge) together(all []Verdict) {
	type place struct{ drive, point string }
	at := map[place]*Verdict{}
	for i := range all {
		at[place{all[i].DriveID, all[i].PointID}] = &all[i]
	}
	for changed := true; changed; {
		changed = false
		for _, copies := range j.copies {
			for _, r := range copies {
				kept := -1
				for i, p := range r.points {
					if at[place{r.drives[i].ID, p.ID}].Keep && !awayForGood(r.drives[i]) {
						kept = i
					}
				}
				for i, p := range r.points {
					if v := at[place{r.drives[i].ID, p.ID}]; kept >= 0 && !v.Keep {
						changed, v.Keep = true, true
						v.Why = fmt.Sprintf("its other part, on drive %s, stays", r.drives[kept].Label)
					}
				}
			}
		}
	}
}

// wholes lists each point with the copy of its machine that it belongs to, best
// with one that is whole. A point whose parts do not name each other is alone.
func wholes(s Shelf, copies map[string][]*restorable) map[*ShelfPoint]*restorable {
	parts := map[*ShelfPoint]*restorable{}
	for _, all := range copies {
		for _, r := range all {
			for _, p := range r.points {
				if was := parts[p]; was == nil || !was.verified() && (r.verified() || r.whole && !was.whole) {
					parts[p] = r
				}
			}
		}
	}
	for i := range s.Drives {
		d := &s.Drives[i]
		for k := range d.Points {
			if p := &d.Points[k]; parts[p] == nil {
				parts[p] = &restorable{pointID: p.ID, machineID: p.MachineID, takenAt: p.TakenAt, drives: []*ShelfDrive{d}, points: []*ShelfPoint{p}}
			}
		}
	}
	return parts
}
