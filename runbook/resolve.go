package runbook

import (
	"cmp"
	"slices"
	"time"

	"lifeboat"
)

// Resolve says what a runbook comes to in a situation: which points are read from
// which drives, what runs where, and every step in its order. What would go wrong
// is among the plan's findings; a plan with one that stops must not be executed.
// It looks nothing up and changes nothing, and the same situation makes the same
// plan. An error means that there is no plan at all.
func Resolve(b *Book, s Situation) (*Plan, error) {
	r := newResolver(b, s)
	if len(r.subjects) == 0 {
		return nil, &lifeboat.Problem{
			What: "runbook " + b.Name + " names no machine to bring back",
			Safe: "nothing was done",
			Next: "add machines to it: lifeboat runbook new writes a draft with those that are known",
		}
	}
	r.addPoints()
	r.addMachines()
	r.addDrives()
	r.addNetworks()
	r.addHosts()
	r.addSteps()
	r.addEstimate()
	r.addTransfer()
	r.check()
	r.plan.Findings = sortFindings(r.plan.Findings)
	return r.plan, nil
}

// resolver is one Resolve on its way.
type resolver struct {
	book *Book
	s    Situation
	plan *Plan
	// subjects are the machines of the plan, in the order of the book and of
	// plan.Machines.
	subjects []*subject
	drives   map[string]KnownDrive
	// proven is the newest whole drill of this meaning that passed; zero: none did.
	proven PastRun
}

// subject is a machine on its way to a plan.
type subject struct {
	Machine
	// id is Lifeboat's; empty where nobody knows the machine.
	id string
	// points are all that are known of it, newest first; good are those of them that
	// may be chosen.
	points, good []KnownPoint
	// chosen is what it comes back from; nil: nothing.
	chosen *KnownPoint
	older  []KnownPoint
	why    string
}

func newResolver(b *Book, s Situation) *resolver {
	r := &resolver{book: b, s: s, drives: map[string]KnownDrive{}, plan: &Plan{
		Book: b.Name, Meaning: Meaning(b), Mode: s.Mode, Site: s.Site, SiteID: s.SiteID, MadeAt: s.Now, Objectives: b.Objectives,
		Isolated: s.Isolated && s.Mode == Recover,
	}}
	r.proven, _ = lastPassed(r.plan.Meaning, b, s)
	for _, d := range s.Drives {
		r.drives[d.ID] = d
	}
	for _, m := range b.Machines {
		if len(s.Only) == 0 || slices.Contains(s.Only, m.Name) {
			m.OnFailure = cmp.Or(m.OnFailure, FailStop)
			m.Objectives = b.objectivesOf(m)
			r.subjects = append(r.subjects, &subject{Machine: m})
		}
	}
	for _, l := range b.LeadTimes {
		r.plan.Lead += l.Time
	}
	return r
}

// objectivesOf are the objectives of a machine: its own, else its tier's, else
// those of all.
func (b *Book) objectivesOf(m Machine) Objectives {
	tier := b.Tiers[m.Tier]
	return Objectives{
		RTO: cmp.Or(m.Objectives.RTO, tier.RTO, b.Objectives.RTO),
		RPO: cmp.Or(m.Objectives.RPO, tier.RPO, b.Objectives.RPO),
	}
}

// addMachines puts the machines into the plan as their points describe them.
func (r *resolver) addMachines() {
	for _, m := range r.subjects {
		pm := PlannedMachine{Name: m.Name, ID: m.id, Tier: m.Tier, Why: m.why, Checks: m.Checks, OnFailure: m.OnFailure,
			Objectives: m.Objectives, Settle: m.Settle && r.s.Mode == Recover, Memory: m.MemoryBytes, CPUs: m.CPUs}
		if m.chosen != nil {
			pm.Point, pm.DriveIDs = m.chosen.RestorePoint, m.chosen.DriveIDs
			pm.Memory = cmp.Or(m.MemoryBytes, m.chosen.Machine.MemoryBytes)
			pm.CPUs = cmp.Or(m.CPUs, m.chosen.Machine.CPUs)
		}
		for _, p := range m.older {
			pm.Older = append(pm.Older, OlderPoint{p.ID, p.TakenAt, p.DriveIDs})
		}
		r.plan.Machines = append(r.plan.Machines, pm)
	}
}

// addDrives lists the drives that the chosen points are on, those at hand first.
func (r *resolver) addDrives() {
	seen := map[string]bool{}
	for _, m := range r.plan.Machines {
		for _, id := range m.DriveIDs {
			if seen[id] {
				continue
			}
			seen[id] = true
			d, known := r.drives[id]
			if !known {
				d.Drive = lifeboat.Drive{ID: id, Label: short(id)}
			}
			r.plan.Drives = append(r.plan.Drives, PlannedDrive{d.Drive, d.Attached, d.Path, d.Where})
		}
	}
	slices.SortFunc(r.plan.Drives, func(a, b PlannedDrive) int {
		return cmp.Or(boolOrder(a.Attached, b.Attached), cmp.Compare(a.Label, b.Label), cmp.Compare(a.ID, b.ID))
	})
}

// addTransfer says how long the chosen points take over the line that was given.
func (r *resolver) addTransfer() {
	if r.s.UplinkBitsPerSecond <= 0 {
		return
	}
	bytes := map[int]int64{}
	for _, m := range r.subjects {
		if m.chosen != nil {
			bytes[m.Tier] += cmp.Or(m.chosen.StoredBytes, m.chosen.DataBytes)
		}
	}
	for _, tier := range sortedKeys(bytes) {
		seconds := float64(bytes[tier]) * 8 / float64(r.s.UplinkBitsPerSecond)
		r.plan.Transfer = append(r.plan.Transfer, TierTransfer{tier, bytes[tier], time.Duration(seconds * float64(time.Second))})
	}
}

// boolOrder puts what is true first.
func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// short is the beginning of an id, as people read it.
func short(id string) string { return id[:min(8, len(id))] }
