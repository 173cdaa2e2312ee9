package runbook

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// addGroups chooses the points of machines that belong together, and returns the
// machines that are in no group. Groups that share a machine come back together.
func (r *resolver) addGroups() (alone []*subject) {
	member := map[string]bool{}
	for _, g := range r.together() {
		for _, m := range g.members {
			member[m.Name] = true
		}
		if g.skewAllowed {
			for _, m := range g.members {
				r.chooseAlone(m)
			}
			r.plan.Groups = append(r.plan.Groups, PlannedGroup{Name: g.name, Machines: machineNames(g.members), Skew: skewOf(g.members), Allowed: true, Why: "each machine has its own newest point: skew: allow"})
			continue
		}
		r.chooseTogether(g)
	}
	return filter(r.subjects, func(m *subject) bool { return !member[m.Name] })
}

// joined are machines that come back from one run: those of a group, or of groups
// that share machines.
type joined struct {
	name        string
	line        int
	members     []*subject
	skewAllowed bool
}

// together are the groups of the book with machines of the plan. A group that
// allows skew shares nothing with others.
func (r *resolver) together() (all []*joined) {
	for _, g := range r.book.Groups {
		next := &joined{name: g.Name, line: g.Line, skewAllowed: g.SkewAllowed}
		for _, m := range r.subjects {
			if slices.Contains(g.Machines, m.Name) {
				next.members = append(next.members, m)
			}
		}
		if len(next.members) == 0 {
			continue
		}
		var rest []*joined
		for _, other := range all {
			if other.skewAllowed || next.skewAllowed || !other.shares(next) {
				rest = append(rest, other)
				continue
			}
			next.name = other.name + ", " + next.name
			next.line = other.line
			for _, m := range other.members {
				if !slices.Contains(next.members, m) {
					next.members = append(next.members, m)
				}
			}
		}
		all = append(rest, next)
	}
	// A machine that stands in a group without skew is not chosen a second time.
	for _, g := range all {
		if g.skewAllowed {
			g.members = filter(g.members, func(m *subject) bool {
				return !slices.ContainsFunc(all, func(o *joined) bool { return !o.skewAllowed && slices.Contains(o.members, m) })
			})
		}
	}
	return filter(all, func(g *joined) bool { return len(g.members) > 0 })
}

func machineNames(members []*subject) []string {
	all := make([]string, len(members))
	for i, m := range members {
		all[i] = m.Name
	}
	return all
}

func (g *joined) shares(other *joined) bool {
	return slices.ContainsFunc(g.members, func(m *subject) bool { return slices.Contains(other.members, m) })
}

// chooseTogether takes the newest run that has a good point of every member. Older
// runs that have all of them are what the group may fall back to.
func (r *resolver) chooseTogether(g *joined) {
	members := filter(g.members, func(m *subject) bool { return len(m.good) > 0 })
	runs := runsOf(members)
	var whole []string
	for _, run := range runs {
		if len(lacking(members, run)) == 0 {
			whole = append(whole, run)
		}
	}
	planned := PlannedGroup{Name: g.name, Machines: machineNames(members)}
	if len(whole) == 0 {
		for _, m := range members {
			r.chooseAlone(m)
		}
		planned.Skew = skewOf(members)
		if len(members) > 1 {
			planned.Why = "no run has a good point of each of them"
			r.findAt(Stops, "skew", "", g.line, fmt.Sprintf("group %s: no export run has a good point of each of %s; their newest are %s apart", g.name, strings.Join(machineNames(members), ", "), lasting(planned.Skew)),
				"export them in one run, or take them as they are with skew: allow in the group")
		}
		r.plan.Groups = append(r.plan.Groups, planned)
		return
	}
	planned.RunID = whole[0]
	for _, m := range members {
		var points []KnownPoint
		for _, run := range whole {
			p, _ := pointOf(m, run)
			points = append(points, p)
		}
		r.choose(m, points[0], points[1:])
	}
	planned.Skew = skewOf(members)
	if newer := slices.Index(runs, whole[0]); newer > 0 {
		planned.Why = r.olderRun(members, runs[0])
		for _, m := range members {
			m.why = fmt.Sprintf("group %s: %s", g.name, planned.Why)
		}
		r.findAt(Warns, "older-run", "", g.line, fmt.Sprintf("group %s comes back from the run of %s: %s", g.name, r.day(members[0].chosen.TakenAt), planned.Why),
			"export all of them again in one run, or give up the one instant with skew: allow in the group")
	}
	r.plan.Groups = append(r.plan.Groups, planned)
}

// olderRun says what the newest run lacks.
func (r *resolver) olderRun(members []*subject, newest string) string {
	var why []string
	var at time.Time
	for _, m := range members {
		if p, ok := pointOf(m, newest); ok {
			at = p.TakenAt
		}
	}
	for _, m := range lacking(members, newest) {
		reason := "has no point in it"
		for _, p := range r.s.Points {
			if p.RunID == newest && slices.Contains(p.Failed, cmp.Or(r.s.Machines[m.id].Name, m.Name)) {
				reason = "failed in it"
			}
		}
		for _, p := range m.points {
			if p.RunID != newest {
				continue
			}
			reason = "has a point in it that the runbook does not choose"
			if doubt := r.doubt(p); doubt != "" {
				reason = "has a point in it that is doubted (" + doubt + ")"
			}
		}
		why = append(why, m.Name+" "+reason)
	}
	return fmt.Sprintf("the newest run, of %s, does not do: %s", r.day(at), strings.Join(why, "; "))
}

// runsOf are the runs that machines have good points of, the newest first.
func runsOf(members []*subject) []string {
	newest := map[string]time.Time{}
	for _, m := range members {
		for _, p := range m.good {
			if p.RunID != "" && p.TakenAt.After(newest[p.RunID]) {
				newest[p.RunID] = p.TakenAt
			}
		}
	}
	return slices.SortedFunc(slices.Values(sortedKeys(newest)), func(a, b string) int {
		return cmp.Or(newest[b].Compare(newest[a]), strings.Compare(a, b))
	})
}

// lacking are the machines without a good point of a run.
func lacking(members []*subject, run string) []*subject {
	return filter(members, func(m *subject) bool { _, ok := pointOf(m, run); return !ok })
}

// pointOf is the newest good point that a machine has of a run.
func pointOf(m *subject, run string) (KnownPoint, bool) {
	i := slices.IndexFunc(m.good, func(p KnownPoint) bool { return p.RunID == run })
	if i < 0 {
		return KnownPoint{}, false
	}
	return m.good[i], true
}

// skewOf is how far apart the moments of machines are.
func skewOf(members []*subject) time.Duration {
	var first, last time.Time
	for _, m := range members {
		if m.chosen == nil {
			continue
		}
		at := m.chosen.TakenAt
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if last.IsZero() || at.After(last) {
			last = at
		}
	}
	return last.Sub(first)
}
