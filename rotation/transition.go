package rotation

import (
	"fmt"
	"slices"
	"time"

	"lifeboat/custody"
)

// After is the shelf after a step was done as it should be at a moment: an export
// stored a point of every machine that has its place on that drive, an ejection
// read back what was written. The given shelf is left as it is.
func After(p Policy, s Shelf, step Step, at time.Time) Shelf {
	s.Drives = slices.Clone(s.Drives)
	i := slices.IndexFunc(s.Drives, func(d ShelfDrive) bool { return d.ID == step.DriveID })
	if i < 0 {
		return s
	}
	d := &s.Drives[i]
	d.Points = slices.Clone(d.Points)
	switch step.Kind {
	case StepAttach:
		// Changes of keys that waited for the drive are applied when it is here.
		d.Attached, d.EjectedAt, d.PendingKeys = true, time.Time{}, 0
	case StepExport:
		exportTo(p, s, d, at)
		d.EjectedAt, s.LastCommit = time.Time{}, later(s.LastCommit, at)
	case StepVerify, StepEject:
		for k := range d.Points {
			if step.Kind == StepVerify || d.Points[k].VerifiedAt.IsZero() {
				d.Points[k].VerifiedAt = at
			}
		}
		if step.Kind == StepVerify {
			d.VerifiedAt = at
		} else {
			d.Attached, d.EjectedAt = false, at
		}
	default:
		d.Place, d.Since, d.Homeward = step.To, at, step.Kind == StepCollect
		if step.Kind == StepDeposit {
			d.DepositedAt = at
		}
	}
	return s
}

// exportTo adds to a drive what an export stores there: a point, or a part of one,
// of each machine that is not retired and has no other place in the set.
func exportTo(p Policy, s Shelf, d *ShelfDrive, at time.Time) {
	var sequence uint64
	for _, q := range d.Points {
		sequence = max(sequence, q.Sequence)
	}
	for _, m := range s.Machines {
		if m.Retired {
			continue
		}
		var together []string
		if known := newestFirst(d, m.ID); len(known) > 0 {
			together = known[0].Together
		} else if hasPlace(p, s, d, m.ID) {
			continue
		}
		sequence++
		d.Points = append(d.Points, ShelfPoint{ID: fmt.Sprintf("%s-%d", d.ID, sequence), MachineID: m.ID, RunID: "next", Sequence: sequence, TakenAt: at, CommittedAt: at, Together: together})
	}
}

// hasPlace says that a machine which is not on a drive lies on another drive of
// its set, or belongs on the first of them.
func hasPlace(p Policy, s Shelf, d *ShelfDrive, machineID string) bool {
	i := slices.IndexFunc(p.Scheme.Sets, func(set Set) bool { return slices.Contains(set.Drives, d.Label) })
	if i < 0 {
		return false
	}
	labels := p.Scheme.Sets[i].Drives
	for k := range s.Drives {
		other := &s.Drives[k]
		if other.ID != d.ID && Uncounted(*other) == "" && slices.Contains(labels, other.Label) && len(newestFirst(other, machineID)) > 0 {
			return true
		}
	}
	return labels[0] != d.Label && slices.ContainsFunc(s.Drives, func(o ShelfDrive) bool { return o.Label == labels[0] && Uncounted(o) == "" })
}

// Breaks says which promises a step would break if it were done now, in words that
// also say what to do; nothing if it is safe. It does not ask whose turn it is.
func Breaks(p Policy, s Shelf, step Step) (broken []string) {
	s = eachOnce(s)
	i := slices.IndexFunc(s.Drives, func(d ShelfDrive) bool { return d.ID == step.DriveID })
	if i < 0 {
		return []string{"nobody knows this drive"}
	}
	d := s.Drives[i]
	switch step.Kind {
	case StepDepart, StepDeposit:
		broken = unfit(d)
	case StepCollect, StepArrive:
	case StepRecall:
		return nil
	default:
		if why := Uncounted(d); why != "" {
			return []string{fmt.Sprintf("drive %s is not to be used: %s", d.Label, why)}
		}
		return nil
	}
	if !offsite(d) {
		return broken // what is not outside takes nothing away from there
	}
	return append(broken, newWatch(s).whyNotHome(newWatch(After(p, s, step, s.LastCommit)), d.Label)...)
}

// unfit says why a drive must not leave the house as the copy to rely on.
func unfit(d ShelfDrive) (why []string) {
	add := func(is bool, format string, args ...any) {
		if is {
			why = append(why, fmt.Sprintf(format, args...))
		}
	}
	no := Uncounted(d)
	add(no != "", "drive %s is no copy that anybody may rely on: %s", d.Label, no)
	add(d.Damage != "", "drive %s is damaged (%s): repair it before it leaves the house", d.Label, d.Damage)
	add(d.PendingKeys > 0, "%s on drive %s: attach it once more, so that what was decided of its keys is done", changesWait(d.PendingKeys), d.Label)
	add(d.Attached, "drive %s is still attached: eject it first", d.Label)
	add(!d.Attached && d.EjectedAt.IsZero(), "drive %s was not read back since it was written: attach it and eject it", d.Label)
	return why
}

func changesWait(n int) string {
	if n == 1 {
		return "a change of keys waits"
	}
	return fmt.Sprintf("%d changes of keys wait", n)
}

// watch is what the promises look at: what lies outside the house.
type watch struct {
	// newest is the newest verified copy outside, by machine; retired machines are
	// not in it: nothing newer of them will ever come.
	newest map[string]*restorable
	names  map[string]string
	// drives counts those outside that hold anything verified.
	drives int
}

func newWatch(s Shelf) watch {
	w := watch{newest: map[string]*restorable{}, names: map[string]string{}}
	copies := copiesOf(s)
	for _, m := range s.Machines {
		if best := newest(copies[m.ID], verifiedOffsite); best != nil && !m.Retired {
			w.newest[m.ID], w.names[m.ID] = best, m.Name
		}
	}
	for _, d := range s.Drives {
		if offsite(d) && Uncounted(d) == "" && slices.ContainsFunc(d.Points, func(p ShelfPoint) bool { return !p.VerifiedAt.IsZero() }) {
			w.drives++
		}
	}
	return w
}

// whyNotHome says why a drive must not come home, which leads from one state of
// things outside to another.
func (w watch) whyNotHome(after watch, label string) (why []string) {
	if w.drives > 0 && after.drives == 0 {
		why = append(why, fmt.Sprintf("drive %s is the only verified one outside the house: it comes home after another was brought there", label))
	}
	for _, id := range sortedKeys(w.newest) {
		was, is := w.newest[id], after.newest[id]
		switch name := w.names[id]; {
		case is == nil:
			why = append(why, fmt.Sprintf("the only verified copy of %s outside the house is on drive %s: export %s to another drive and bring that one away first", name, label, name))
		case is.takenAt.Before(was.takenAt):
			why = append(why, fmt.Sprintf("the newest verified copy of %s outside the house is on drive %s: export %s to the drive that leaves, and bring that one away first", name, label, name))
		}
	}
	return why
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// placeAfter is where a drive is after a step.
func placeAfter(kind StepKind, was custody.Place, location, home, person string) custody.Place {
	switch kind {
	case StepDepart, StepCollect:
		return custody.Place{State: custody.Courier, Holder: person}
	case StepDeposit:
		return custody.Place{State: custody.Offsite, Location: location}
	case StepRecall:
		return custody.Place{State: custody.Recall, Location: was.Location, Holder: was.Holder, Box: was.Box}
	}
	return custody.Place{State: custody.Onsite, Location: home}
}
