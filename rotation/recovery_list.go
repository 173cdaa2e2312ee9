package rotation

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"time"

	"lifeboat/custody"
)

// RecoveryList is the smallest list of drives from which machines can be
// recovered.
type RecoveryList struct {
	// RunID and TakenAt name the one instant that all machines are of. RunID is
	// empty where no run has all of them: then each machine has its newest point,
	// and Mixed says so.
	RunID   string    `json:"runId,omitempty"`
	TakenAt time.Time `json:"takenAt,omitzero"`
	Mixed   string    `json:"mixed,omitempty"`
	// Drives are what has to be at hand, the one that is nearest first.
	Drives   []NeededDrive    `json:"drives"`
	Machines []RecoverMachine `json:"machines"`
	// Missing are machines of which no complete point is on any drive that counts,
	// by name, with why.
	Missing map[string]string `json:"missing,omitempty"`
}

// NeededDrive is a drive of the list.
type NeededDrive struct {
	DriveID string        `json:"driveId"`
	Label   string        `json:"label"`
	Place   custody.Place `json:"place"`
	// Attached: it can be read now. LeadTime is how long its place takes to give it
	// out, once called; Contact is whom to call there.
	Attached bool          `json:"attached,omitempty"`
	LeadTime time.Duration `json:"leadTimeNanoseconds,omitempty"`
	Contact  string        `json:"contact,omitempty"`
	// Why names the machines that need it.
	Why string `json:"why"`
}

// RecoverMachine is a machine of the list and where its disks are.
type RecoverMachine struct {
	MachineID  string    `json:"machineId"`
	Machine    string    `json:"machine"`
	TakenAt    time.Time `json:"takenAt"`
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	// Points are the drives to read it from, by the ids of its points: more than one
	// where its disks lie on several drives.
	Points map[string]string `json:"points"`
}

// exactUpTo is up to how many drives the list is the smallest for certain: all
// of their 65,536 combinations are looked at.
const exactUpTo = 16

// Recover computes the smallest list of drives for the machines of these ids, or
// for all that are protected if there are none. It takes the newest run of which
// every machine has a complete point; of lists of one length the one whose drives
// are at hand first. Drives that are lost, retired, put aside or not believed do
// not count.
func Recover(p Policy, s Shelf, machineIDs []string) RecoveryList {
	r := recovery{policy: p, list: RecoveryList{Missing: map[string]string{}}}
	r.addDrives(s)
	chosen := slices.SortedFunc(slices.Values(s.Machines), func(a, b ShelfMachine) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	chosen = slices.DeleteFunc(chosen, func(m ShelfMachine) bool {
		return len(machineIDs) == 0 && m.Retired || len(machineIDs) > 0 && !slices.Contains(machineIDs, m.ID)
	})
	r.addMachines(chosen, s)
	r.chooseInstant()
	r.fill(r.smallest())
	return r.list
}

// recovery is a list that is being made. Drives are bits: the nearest is the lowest.
type recovery struct {
	policy   Policy
	drives   []ShelfDrive
	machines []*needed
	list     RecoveryList
}

// needed is a machine and every way to have it whole.
type needed struct {
	machine ShelfMachine
	ways    []way
}

// way is one point of a machine, whole, on one drive or on several.
type way struct {
	drives     []int
	points     map[string]string
	run        string
	takenAt    time.Time
	verifiedAt time.Time
}

// addDrives keeps the drives that count, the one that is at hand first in front.
func (r *recovery) addDrives(s Shelf) {
	for _, d := range s.Drives {
		switch d.Place.State {
		case custody.Lost, custody.Retired, custody.Quarantined:
			continue
		}
		if d.Suspect == "" {
			r.drives = append(r.drives, d)
		}
	}
	slices.SortFunc(r.drives, func(a, b ShelfDrive) int {
		return cmp.Or(cmp.Compare(r.distance(a), r.distance(b)), strings.Compare(a.Label, b.Label), strings.Compare(a.ID, b.ID))
	})
}

// onTheRoad stands behind every place of which somebody said how long it takes.
const onTheRoad = 365 * 24 * time.Hour

// distance is how long it takes until a drive is at hand; what is attached is
// nearest, and what is on the road with somebody is farthest, because nobody knows.
func (r *recovery) distance(d ShelfDrive) time.Duration {
	switch {
	case d.Attached:
		return -1
	case d.Place.State == custody.Courier:
		return onTheRoad
	case d.Place.State == custody.Onsite:
		return 0
	}
	return 1 + r.location(d.Place.Location).LeadTime
}

func (r *recovery) location(name string) Location {
	for _, l := range r.policy.Locations {
		if l.Name == name {
			return l
		}
	}
	return Location{}
}

func (r *recovery) addMachines(machines []ShelfMachine, s Shelf) {
	seen := map[string]bool{}
	for _, d := range s.Drives {
		for _, p := range d.Points {
			seen[p.MachineID] = true
		}
	}
	for _, m := range machines {
		n := &needed{machine: m}
		for i, d := range r.drives {
			for _, p := range d.Points {
				if p.MachineID != m.ID {
					continue
				}
				n.ways = append(n.ways, r.wholes(i, p)...)
			}
		}
		switch {
		case len(n.ways) > 0:
			r.machines = append(r.machines, n)
		case seen[m.ID]:
			r.list.Missing[m.Name] = "its points are on drives that are lost, retired, put aside or not believed, or are not complete"
		default:
			r.list.Missing[m.Name] = "it has no restore point on any drive"
		}
	}
}

// wholes are the ways to have a point's machine whole: none where a part of it is
// on no drive that counts, several where parts were copied. They are told once, by
// the first of the parts.
func (r *recovery) wholes(at int, p ShelfPoint) []way {
	d := r.drives[at]
	first := way{drives: []int{at}, points: map[string]string{p.ID: d.ID}, run: p.RunID, takenAt: p.TakenAt, verifiedAt: p.VerifiedAt}
	if len(p.Parts) == 0 {
		return []way{first}
	}
	if p.Parts[0] != p.ID {
		return nil
	}
	ways := []way{first}
	for _, id := range p.Parts[1:] {
		var longer []way
		for _, w := range ways {
			longer = append(longer, r.with(w, id)...)
		}
		ways = longer[:min(len(longer), waysAtMost)]
	}
	return ways
}

// waysAtMost bounds the ways to have one machine whole: the nearest are kept.
const waysAtMost = 256

// with are the ways that come of w with the part of that id: one for each drive
// that has it.
func (r *recovery) with(w way, id string) (ways []way) {
	for i, d := range r.drives {
		at := slices.IndexFunc(d.Points, func(p ShelfPoint) bool { return p.ID == id })
		if at < 0 {
			continue
		}
		longer := w
		longer.drives = append(slices.Clone(w.drives), i)
		longer.points = maps.Clone(w.points)
		longer.points[id] = d.ID
		if v := d.Points[at].VerifiedAt; v.Before(w.verifiedAt) {
			longer.verifiedAt = v
		}
		ways = append(ways, longer)
	}
	return ways
}

// chooseInstant keeps the ways of the newest run that all machines have one of,
// or, where there is none, of each machine its newest point.
func (r *recovery) chooseInstant() {
	runs := map[string]time.Time{}
	for _, n := range r.machines {
		for _, w := range n.ways {
			if w.takenAt.After(runs[w.run]) {
				runs[w.run] = w.takenAt
			}
		}
	}
	newest := slices.SortedFunc(maps.Keys(runs), func(a, b string) int {
		return cmp.Or(runs[b].Compare(runs[a]), strings.Compare(a, b))
	})
	for _, run := range newest {
		if run == "" || !r.allHave(run) {
			continue
		}
		if older := r.setBack(runs[run]); older != "" {
			r.list.Mixed = fmt.Sprintf("the newest run that has all of these machines is of %s, more than a week before what there is of %s: the newest point of each is taken, and they are not of one instant",
				r.policy.Calendar.Day(runs[run]), older)
			break
		}
		r.list.RunID, r.list.TakenAt = run, runs[run]
		for _, n := range r.machines {
			n.ways = slices.DeleteFunc(n.ways, func(w way) bool { return w.run != run })
		}
		break
	}
	if len(r.machines) > 0 && r.list.RunID == "" && r.list.Mixed == "" {
		r.list.Mixed = "no run has a complete point of each of these machines: the newest point of each is taken, and they are not of one instant"
	}
	for _, n := range r.machines {
		last := slices.MaxFunc(n.ways, func(a, b way) int { return a.takenAt.Compare(b.takenAt) }).takenAt
		n.ways = slices.DeleteFunc(n.ways, func(w way) bool { return !w.takenAt.Equal(last) })
		n.ways = r.soundest(n.ways)
	}
}

// tooFarBack is how much newer data nobody gives up for one instant of all machines.
const tooFarBack = 7 * 24 * time.Hour

// setBack names a machine that would lose too much if all were taken from a moment,
// or is empty.
func (r *recovery) setBack(to time.Time) string {
	for _, n := range r.machines {
		for _, w := range n.ways {
			if w.takenAt.Sub(to) > tooFarBack {
				return n.machine.Name
			}
		}
	}
	return ""
}

// soundest are the ways, all of one moment, that avoid drives with damage; all of
// them where none does.
func (r *recovery) soundest(ways []way) []way {
	damaged := func(w way) bool {
		return slices.ContainsFunc(w.drives, func(i int) bool { return r.drives[i].Damage != "" })
	}
	if !slices.ContainsFunc(ways, func(w way) bool { return !damaged(w) }) {
		return ways
	}
	return slices.DeleteFunc(ways, damaged)
}

func (r *recovery) allHave(run string) bool {
	return !slices.ContainsFunc(r.machines, func(n *needed) bool {
		return !slices.ContainsFunc(n.ways, func(w way) bool { return w.run == run })
	})
}

// chosen is a set of drives.
type chosen map[int]bool

func (c chosen) has(w way) bool {
	return !slices.ContainsFunc(w.drives, func(i int) bool { return !c[i] })
}

func (c chosen) enough(machines []*needed) bool {
	return !slices.ContainsFunc(machines, func(n *needed) bool { return !slices.ContainsFunc(n.ways, c.has) })
}

// smallest is the smallest set of drives that has every machine.
func (r *recovery) smallest() chosen {
	used := chosen{}
	for _, n := range r.machines {
		for _, w := range n.ways {
			for _, i := range w.drives {
				used[i] = true
			}
		}
	}
	candidates := slices.Sorted(maps.Keys(used))
	if len(candidates) <= exactUpTo {
		return r.exact(candidates)
	}
	return r.greedy(used)
}

// exact looks at every set of the candidates, which ascend by distance.
func (r *recovery) exact(candidates []int) chosen {
	var best chosen
	var bestFar []time.Duration
	for mask := range uint(1) << len(candidates) {
		if best != nil && bits.OnesCount(mask) > len(best) {
			continue
		}
		c := chosen{}
		var far []time.Duration
		for i, d := range candidates {
			if mask&(1<<i) != 0 {
				c[d] = true
				far = append(far, r.distance(r.drives[d]))
			}
		}
		// The farthest decides when everything is at hand.
		slices.Reverse(far)
		if best != nil && len(c) == len(best) && slices.Compare(far, bestFar) >= 0 {
			continue
		}
		if c.enough(r.machines) {
			best, bestFar = c, far
		}
	}
	return best
}

// greedy takes away the farthest drive that the rest can do without, until none is
// left to take away.
func (r *recovery) greedy(used chosen) chosen {
	for {
		// First by what is lost least: the drive whose machines have most other ways.
		gone := -1
		for _, i := range slices.Backward(slices.Sorted(maps.Keys(used))) {
			delete(used, i)
			enough := used.enough(r.machines)
			used[i] = true
			if enough && (gone < 0 || r.serves(i) < r.serves(gone)) {
				gone = i
			}
		}
		if gone < 0 {
			return used
		}
		delete(used, gone)
	}
}

// serves counts the machines that a drive has a part in.
func (r *recovery) serves(drive int) (count int) {
	for _, n := range r.machines {
		if slices.ContainsFunc(n.ways, func(w way) bool { return slices.Contains(w.drives, drive) }) {
			count++
		}
	}
	return count
}

// fill writes down the drives of the list and which machine needs which.
func (r *recovery) fill(c chosen) {
	names := map[int][]string{}
	for _, n := range r.machines {
		i := slices.IndexFunc(n.ways, c.has)
		w := n.ways[i]
		r.list.Machines = append(r.list.Machines, RecoverMachine{MachineID: n.machine.ID, Machine: n.machine.Name,
			TakenAt: w.takenAt, VerifiedAt: w.verifiedAt, Points: w.points})
		for _, d := range slices.Compact(slices.Sorted(slices.Values(w.drives))) {
			name := n.machine.Name
			if len(w.points) > 1 {
				name += " (some of its disks)"
			}
			names[d] = append(names[d], name)
		}
	}
	for _, i := range slices.Sorted(maps.Keys(c)) {
		d := r.drives[i]
		at := r.location(d.Place.Location)
		r.list.Drives = append(r.list.Drives, NeededDrive{DriveID: d.ID, Label: d.Label, Place: d.Place, Attached: d.Attached,
			LeadTime: at.LeadTime, Contact: at.Contact, Why: strings.Join(names[i], ", ")})
	}
}
