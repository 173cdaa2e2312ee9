package runbook

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/yamlfile"
)

// olderPoints is how many points a machine may fall back to, one after the other.
const olderPoints = 5

// addPoints chooses the points that machines come back from: those of a group of
// one run, and of each other machine its own.
func (r *resolver) addPoints() {
	byMachine := map[string][]KnownPoint{}
	for _, p := range r.s.Points {
		byMachine[p.Machine.ID] = append(byMachine[p.Machine.ID], p)
	}
	names := r.knownNames()
	for _, m := range r.subjects {
		r.identify(m, names, byMachine)
		m.points = r.ordered(byMachine[m.id])
		r.narrow(m)
	}
	for _, m := range r.addGroups() {
		r.chooseAlone(m)
	}
}

// knownNames are the ids behind each name: of machines that are protected now,
// else of those that points are of.
func (r *resolver) knownNames() map[string][]string {
	names := map[string][]string{}
	for _, id := range sortedKeys(r.s.Machines) {
		name := r.s.Machines[id].Name
		names[name] = append(names[name], id)
	}
	older := map[string][]string{}
	for _, p := range r.s.Points {
		if name := p.Machine.Name; len(names[name]) == 0 && !slices.Contains(older[name], p.Machine.ID) {
			older[name] = append(older[name], p.Machine.ID)
		}
	}
	for name, ids := range older {
		slices.Sort(ids)
		names[name] = ids
	}
	return names
}

// identify finds out which machine a name of the runbook means.
func (r *resolver) identify(m *subject, names map[string][]string, points map[string][]KnownPoint) {
	if m.ID != "" {
		_, protected := r.s.Machines[m.ID]
		if !protected && len(points[m.ID]) == 0 {
			r.find(Stops, "unknown-machine", m, fmt.Sprintf("%s: no machine with the id %s is known", m.Name, m.ID),
				"see the ids: lifeboat machine list; then correct id: in the runbook")
			return
		}
		m.id = m.ID
		return
	}
	switch ids := names[m.Name]; len(ids) {
	case 1:
		m.id = ids[0]
	case 0:
		r.find(Stops, "unknown-machine", m, fmt.Sprintf("%s: no machine of that name is known%s", m.Name, yamlfile.Meant(m.Name, sortedKeys(names))), "see the machines: lifeboat machine list; then correct the name, or take it out of the runbook")
	default:
		r.find(Stops, "unknown-machine", m, fmt.Sprintf("%d machines are called %s: %s", len(ids), m.Name, strings.Join(ids, ", ")), "say which one is meant with id: in the runbook")
	}
}

// ordered sorts the points of one machine, the newest first. Of a point that is on
// several drives it keeps the copy that is best read.
func (r *resolver) ordered(points []KnownPoint) []KnownPoint {
	sorted := slices.Clone(points)
	slices.SortStableFunc(sorted, func(a, b KnownPoint) int {
		return cmp.Or(b.TakenAt.Compare(a.TakenAt), cmp.Compare(a.ID, b.ID),
			boolOrder(r.doubt(a) == "", r.doubt(b) == ""), boolOrder(r.attached(a), r.attached(b)),
			boolOrder(!a.VerifiedAt.IsZero(), !b.VerifiedAt.IsZero()), cmp.Compare(len(a.DriveIDs), len(b.DriveIDs)),
			strings.Compare(r.labels(a), r.labels(b)), slices.Compare(a.DriveIDs, b.DriveIDs))
	})
	return slices.CompactFunc(sorted, func(a, b KnownPoint) bool { return a.ID == b.ID })
}

// doubt says why a point is not believed; empty: it is.
func (r *resolver) doubt(p KnownPoint) string {
	if p.Damage != "" {
		return p.Damage
	}
	for _, id := range p.DriveIDs {
		if d := r.drives[id]; d.Suspect != "" {
			return d.Suspect
		}
	}
	return ""
}

func (r *resolver) attached(p KnownPoint) bool {
	return !slices.ContainsFunc(p.DriveIDs, func(id string) bool { return !r.drives[id].Attached })
}

// labels names the drives of a point.
func (r *resolver) labels(p KnownPoint) string {
	var all []string
	for _, id := range p.DriveIDs {
		all = append(all, cmp.Or(r.drives[id].Label, short(id)))
	}
	return strings.Join(all, " and ")
}

// narrow keeps the points that the runbook's choice allows and that are believed.
// Where no such point is left, it says so and lets the next best be taken: never
// one that is doubted while there is another.
func (r *resolver) narrow(m *subject) {
	if m.id == "" {
		return
	}
	fit := filter(m.points, func(p KnownPoint) bool { return r.inTime(m.Point, p) })
	if len(fit) == 0 {
		what := m.Name + ": no drive that is known has a restore point of it"
		next := "export it: lifeboat export " + m.Name
		if len(m.points) > 0 {
			what = fmt.Sprintf("%s: it has no restore point up to %s; the oldest is of %s", m.Name, m.Point, r.day(m.points[len(m.points)-1].TakenAt))
			next = "choose another moment with point: in the runbook"
		}
		r.find(Stops, "no-point", m, what, next)
		return
	}
	m.good = filter(fit, func(p KnownPoint) bool { return r.doubt(p) == "" })
	if len(m.good) == 0 {
		m.good = fit
	}
	if m.Point != PointVerified {
		return
	}
	verified := filter(m.good, func(p KnownPoint) bool { return !p.VerifiedAt.IsZero() })
	if len(verified) == 0 {
		r.find(Warns, "not-verified", m, fmt.Sprintf("%s: none of its restore points is verified; its newest, of %s, is taken", m.Name, r.day(m.good[0].TakenAt)),
			"verify a drive that has it: lifeboat verify")
		return
	}
	m.good = verified
}

// inTime says that a point is not after the moment that the runbook asks for.
func (r *resolver) inTime(choice PointChoice, p KnownPoint) bool {
	limit, err := choice.moment(r.s.Now.Location())
	return err != nil || !p.TakenAt.After(limit)
}

// moment is the last moment that a choice by date allows: the end of the day in
// that zone, or the moment itself.
func (c PointChoice) moment(zone *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, string(c)); err == nil {
		return t, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, string(c), zone)
	if err != nil {
		return time.Time{}, err
	}
	return t.AddDate(0, 0, 1).Add(-time.Nanosecond), nil
}

// chooseAlone takes the newest good point of a machine that is in no group.
func (r *resolver) chooseAlone(m *subject) {
	if len(m.good) == 0 {
		return
	}
	r.choose(m, m.good[0], m.good[1:])
	if m.why == "" {
		m.why = r.passedOver(m)
	}
}

// choose takes a point for a machine, and those that it may fall back to.
func (r *resolver) choose(m *subject, p KnownPoint, older []KnownPoint) {
	m.chosen, m.older = &p, older[:min(len(older), olderPoints)]
	switch doubt := r.doubt(p); {
	case doubt == "":
	case p.Damage != "":
		r.find(Warns, "damaged-point", m, fmt.Sprintf("%s: the point of %s on drive %s is damaged, and there is no other: %s", m.Name, r.day(p.TakenAt), r.labels(p), doubt),
			"repair the drive from another one: lifeboat repair")
	default:
		r.find(Warns, "drive-suspect", m, fmt.Sprintf("%s: its points are only on drive %s, which is not believed: %s", m.Name, r.labels(p), doubt),
			"look at the drive: lifeboat drive show "+r.labels(p))
	}
}

// passedOver says why the newest point of a machine was not taken, if it was not
// for being doubted.
func (r *resolver) passedOver(m *subject) string {
	newest := m.points[0]
	if doubt := r.doubt(newest); doubt != "" && m.chosen.ID != newest.ID {
		code := "drive-suspect"
		if newest.Damage != "" {
			code = "damaged-point"
		}
		why := fmt.Sprintf("its point of %s on drive %s is passed over: %s", r.day(newest.TakenAt), r.labels(newest), doubt)
		r.find(Warns, code, m, m.Name+": "+why, "")
		return why
	}
	return ""
}

// day writes a moment as findings do.
func (r *resolver) day(t time.Time) string {
	return t.In(r.s.Now.Location()).Format("2006-01-02 15:04")
}

func filter[T any](all []T, keep func(T) bool) (kept []T) {
	for _, v := range all {
		if keep(v) {
			kept = append(kept, v)
		}
	}
	return kept
}
