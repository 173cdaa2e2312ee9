package rotation

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"lifeboat/custody"
)

// judge holds what one decision is made from, looked up once.
type judge struct {
	now  time.Time
	p    Policy
	s    Shelf
	day  Date
	sets []setOnShelf
	// machines are those of the shelf, and those that only points know of.
	machines []ShelfMachine
	copies   map[string][]*restorable    // of a machine, by its id
	parts    map[*ShelfPoint]*restorable // the copy that a point belongs to
}

// setOnShelf is a set of the scheme with the drives that are there for it.
type setOnShelf struct {
	Set
	drives []*ShelfDrive // those that can be used
	// lacks says of each drive that cannot be used why.
	lacks []string
	// createdAt is when the last of its drives was made, depositedAt when the set
	// was last away as a whole; zero: never.
	createdAt, depositedAt time.Time
}

func (s setOnShelf) usable() bool { return len(s.drives) > 0 }

func newJudge(now time.Time, p Policy, s Shelf) *judge {
	s = eachOnce(s)
	j := &judge{now: now, p: p, s: s, day: p.Calendar.Day(now)}
	for _, set := range p.Scheme.Sets {
		j.sets = append(j.sets, j.onShelf(set))
	}
	j.machines = allMachines(s)
	j.copies = copiesOf(s)
	j.parts = wholes(s, j.copies)
	return j
}

// eachOnce is the shelf with each drive id once. A drive that is listed twice is
// two media with one id: neither is believed.
func eachOnce(s Shelf) Shelf {
	s.Drives = slices.Clone(s.Drives)
	seen := map[string]int{}
	for _, d := range s.Drives {
		seen[d.ID]++
	}
	for i := range s.Drives {
		if d := &s.Drives[i]; seen[d.ID] > 1 && d.Suspect == "" {
			d.Suspect = "another medium has the same id: one is a copy of the other"
		}
	}
	return s
}

// allMachines adds to the machines of the shelf those of which it has points
// alone, by their ids.
func allMachines(s Shelf) []ShelfMachine {
	all := slices.Clone(s.Machines)
	known := map[string]bool{}
	for _, m := range all {
		known[m.ID] = true
	}
	for _, d := range s.Drives {
		for _, p := range d.Points {
			if !known[p.MachineID] {
				known[p.MachineID] = true
				all = append(all, ShelfMachine{ID: p.MachineID, Name: p.MachineID, Retired: true})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b ShelfMachine) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return all
}

func (j *judge) onShelf(set Set) setOnShelf {
	v := setOnShelf{Set: set}
	for _, label := range set.Drives {
		var usable []*ShelfDrive
		why := "no drive has that label yet"
		for i := range j.s.Drives {
			d := &j.s.Drives[i]
			if d.Label != label {
				continue
			}
			if no := Uncounted(*d); no != "" {
				why = no
				continue
			}
			usable = append(usable, d)
		}
		switch len(usable) {
		case 0:
			v.lacks = append(v.lacks, fmt.Sprintf("drive %s of set %s cannot be used: %s", label, set.Name, why))
		case 1:
			v.drives = append(v.drives, usable[0])
		default:
			v.lacks = append(v.lacks, fmt.Sprintf("%d drives have the label %s: nobody knows which one is meant until the others get another label or are retired", len(usable), label))
		}
	}
	for i, d := range v.drives {
		at := j.depositedAt(*d)
		if i == 0 || at.Before(v.depositedAt) {
			v.depositedAt = at
		}
		if d.CreatedAt.After(v.createdAt) {
			v.createdAt = d.CreatedAt
		}
	}
	return v
}

// depositedAt never lies in the future: a clock that was ahead must not end turns
// that have not come.
func (j *judge) depositedAt(d ShelfDrive) time.Time {
	at := d.DepositedAt
	// Since is also when it was called home: then it came there earlier.
	if at.IsZero() && offsite(d) {
		at = d.Since
	}
	if at.After(j.now) {
		at = j.now
	}
	return at
}

// Uncounted says why a drive counts for nothing: what is on it is no copy that
// anybody may rely on. It is empty for a drive that counts.
func Uncounted(d ShelfDrive) string {
	switch d.Place.State {
	case custody.Lost:
		return "it is lost"
	case custody.Quarantined:
		return "it is quarantined"
	case custody.Retired:
		return "it is retired"
	}
	if d.Suspect != "" {
		return "it is not believed: " + d.Suspect
	}
	return ""
}

// atHome says that a drive is in the house. One that nobody ever moved is.
func atHome(d ShelfDrive) bool { return d.Place.State == custody.Onsite || d.Place.State == "" }

// carried says that a drive is in a courier's hands: neither here nor away.
func carried(d ShelfDrive) bool { return d.Place.State == custody.Courier }

// offsite says that a drive lies at a place outside: one that was called back
// still does, one that is carried does not.
func offsite(d ShelfDrive) bool {
	return d.Place.State == custody.Offsite || d.Place.State == custody.Recall
}

func (j *judge) anyUsable() bool {
	return slices.ContainsFunc(j.sets, setOnShelf.usable)
}

func (j *judge) inScheme(d ShelfDrive) bool {
	return slices.ContainsFunc(j.p.Scheme.Sets, func(s Set) bool { return slices.Contains(s.Drives, d.Label) })
}

// deposits lists when each set was last away, the latest last.
func (j *judge) deposits() (all []deposit) {
	for i := range j.sets {
		if s := &j.sets[i]; s.usable() && !s.depositedAt.IsZero() {
			all = append(all, deposit{i, s.depositedAt})
		}
	}
	slices.SortStableFunc(all, func(a, b deposit) int { return a.at.Compare(b.at) })
	return all
}

func (j *judge) machine(id string) ShelfMachine {
	if i := slices.IndexFunc(j.machines, func(m ShelfMachine) bool { return m.ID == id }); i >= 0 {
		return j.machines[i]
	}
	return ShelfMachine{ID: id, Name: id}
}
