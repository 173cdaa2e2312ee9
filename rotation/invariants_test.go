package rotation_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/custody"
	"lifeboat/rotation"
)

// What these functions know of copies is written anew, and plainly, so that they
// do not share a mistake with the code that they watch.

// held is a copy of a machine that counts.
type held struct {
	drive rotation.ShelfDrive
	point rotation.ShelfPoint
	// others are the other parts of it.
	others []held
}

func (h held) verified() bool {
	return !h.point.VerifiedAt.IsZero() && !slices.ContainsFunc(h.others, func(o held) bool { return !o.verified() })
}

func (h held) offsite() bool {
	here := h.drive.Place.State != custody.Offsite && h.drive.Place.State != custody.Recall
	return !here && !slices.ContainsFunc(h.others, func(o held) bool { return !o.offsite() })
}

func (h held) counts() bool {
	switch h.drive.Place.State {
	case custody.Lost, custody.Quarantined, custody.Retired:
		return false
	}
	return h.drive.Suspect == "" && !slices.ContainsFunc(h.others, func(o held) bool { return !o.counts() })
}

// otherParts are those of a part that are there.
func otherParts(s rotation.Shelf, p rotation.ShelfPoint) (others []held) {
	for i, id := range p.Together {
		for _, d := range s.Drives {
			for _, q := range d.Points {
				if d.ID == id && q.ID == p.Parts[i] && q.ID != p.ID {
					others = append(others, held{drive: d, point: q})
				}
			}
		}
	}
	return others
}

func copies(s rotation.Shelf, machine string, suits ...func(held) bool) (all []held) {
	for _, d := range s.Drives {
		for _, p := range d.Points {
			h := held{d, p, otherParts(s, p)}
			whole := len(p.Together) == 0 || len(h.others) == len(p.Together)-1
			if p.MachineID == machine && whole && h.counts() && !slices.ContainsFunc(suits, func(f func(held) bool) bool { return !f(h) }) {
				all = append(all, h)
			}
		}
	}
	return all
}

// newestTaken is when the newest of them was made in truth.
func (w *world) newestTaken(all []held) (at time.Time) {
	for _, h := range all {
		if made := w.taken[h.point.ID]; made.After(at) {
			at = made
		}
	}
	return at
}

// newestDate is the date of the one that has the latest.
func newestDate(all []held) (at time.Time) {
	for _, h := range all {
		if h.point.TakenAt.After(at) {
			at = h.point.TakenAt
		}
	}
	return at
}

// broken names the promise that was broken.
type broken struct{ name, what string }

func (b broken) Error() string { return b.name + ": " + b.what }

func breaks(name, format string, args ...any) error {
	return broken{name, fmt.Sprintf(format, args...)}
}

// brokenByForgetting compares the shelf before and after what the verdicts let go.
func brokenByForgetting(w *world, d rotation.Decision, before, after rotation.Shelf) error {
	for i := range before.Drives {
		b, a := before.Drives[i], after.Drives[i]
		if !b.Attached && len(a.Points) != len(b.Points) {
			return breaks("an absent drive keeps all", "%s lost points behind its back", b.Label)
		}
		for _, p := range b.Points {
			if gone := !slices.ContainsFunc(a.Points, func(q rotation.ShelfPoint) bool { return q.ID == p.ID }); gone {
				for _, o := range append(otherParts(before, p), held{point: p}) {
					if o.point.Held != "" {
						return breaks("what is held stays", "%s went from %s", p.ID, b.Label)
					}
				}
				for _, o := range otherParts(after, p) {
					if o.drive.Place.State != custody.Lost {
						return breaks("parts go together", "%s went from %s, and %s stays on %s", p.ID, b.Label, o.point.ID, o.drive.Label)
					}
				}
				if d.Doubt != "" || w.clockIsWrong() {
					return breaks("a wrong clock forgets nothing", "%s went from %s, the clock being off by %s (doubt: %q)", p.ID, b.Label, w.drift, d.Doubt)
				}
			}
		}
		for _, m := range machinesOf(b) {
			was, is := newestOn(b, m), newestOn(a, m)
			if was != is {
				return breaks("the newest point on a drive stays", "of %s on %s: %s, then %q", m, b.Label, was, is)
			}
		}
	}
	for _, m := range w.shelf.Machines {
		was, is := copies(before, m.ID, held.verified), copies(after, m.ID, held.verified)
		if len(was) > 0 && len(is) == 0 {
			return breaks("the last verified copy stays", "no verified copy of %s is left", m.Name)
		}
		if len(copies(before, m.ID)) > 0 && len(copies(after, m.ID)) == 0 {
			return breaks("the last copy stays", "no copy of %s is left", m.Name)
		}
		if was, is := w.newestTaken(was), w.newestTaken(is); was.After(is) {
			return breaks("the newest verified copy stays", "of %s: %s, then %s", m.Name, was, is)
		}
	}
	return brokenOutside("by forgetting", before, after)
}

// clockIsWrong says that the clock jumped between two commits, or does now, and
// that nobody called it right after that: what was said before settles nothing.
func (w *world) clockIsWrong() bool {
	for i, at := range append(slices.Clone(w.recorded), w.clock())[min(1, len(w.recorded)):] {
		if i >= len(w.recorded) {
			break
		}
		if by := at.Sub(w.recorded[i]); by < -time.Hour || by > 45*24*time.Hour {
			return true
		}
	}
	return false
}

func machinesOf(d rotation.ShelfDrive) (ids []string) {
	for _, p := range d.Points {
		if !slices.Contains(ids, p.MachineID) {
			ids = append(ids, p.MachineID)
		}
	}
	return ids
}

// newestOn is the point of a machine with the highest sequence on a drive.
func newestOn(d rotation.ShelfDrive, machine string) (id string) {
	var highest uint64
	for _, p := range d.Points {
		if p.MachineID == machine && p.Sequence >= highest {
			highest, id = p.Sequence, p.ID
		}
	}
	return id
}

// brokenByStep compares the shelf before and after one step of a checklist.
func brokenByStep(step rotation.Step, before, after rotation.Shelf) error {
	for i := range before.Drives {
		b, a := before.Drives[i], after.Drives[i]
		if step.Kind == rotation.StepDeposit && b.ID == step.DriveID {
			switch {
			case b.EjectedAt.IsZero() || b.Attached:
				return breaks("what goes out was read back", "%s", b.Label)
			case b.Damage != "":
				return breaks("what goes out is not damaged", "%s: %s", b.Label, b.Damage)
			case b.PendingKeys > 0:
				return breaks("what goes out has its keys changed", "%s: %d", b.Label, b.PendingKeys)
			}
		}
		if len(a.Points) < len(b.Points) {
			return breaks("a step forgets nothing", "%s", b.Label)
		}
	}
	return brokenOutside("by "+step.ID, before, after)
}

// brokenOutside is about what a fire in the house leaves. Copies on several drives
// can be compared by their dates alone; while the clock was right, these are true.
func brokenOutside(by string, before, after rotation.Shelf) error {
	for _, m := range before.Machines {
		if m.Retired {
			continue
		}
		was, is := copies(before, m.ID, held.verified, held.offsite), copies(after, m.ID, held.verified, held.offsite)
		if was, is := newestDate(was), newestDate(is); is.Before(was) {
			return breaks("the newest offsite copy never gets older", "of %s %s: %s, then %s", m.Name, by, was, is)
		}
	}
	if verifiedOutside(before) > 0 && verifiedOutside(after) == 0 {
		return breaks("never without a verified drive offsite", "%s", by)
	}
	return nil
}

func verifiedOutside(s rotation.Shelf) (drives int) {
	for _, d := range s.Drives {
		for _, p := range d.Points {
			if h := (held{drive: d, point: p}); h.offsite() && h.verified() && d.Suspect == "" {
				drives++
				break
			}
		}
	}
	return drives
}

// brokenList looks at a checklist as such.
func brokenList(d rotation.Decision) error {
	seen := map[string]bool{}
	for _, s := range d.Steps {
		if !strings.HasPrefix(s.ID, d.Period+"/") || seen[s.ID] {
			return breaks("a step has an id of its own", "%s in %s", s.ID, d.Period)
		}
		for _, id := range s.Needs {
			if !seen[id] {
				return breaks("what a step needs stands before it", "%s needs %s", s.ID, id)
			}
		}
		if s.Why == "" || s.Due.IsZero() {
			return breaks("a step says why and when", "%s", s.ID)
		}
		seen[s.ID] = true
	}
	for _, v := range d.Verdicts {
		if v.Why == "" {
			return breaks("a verdict says why", "%s", v.PointID)
		}
	}
	return nil
}
