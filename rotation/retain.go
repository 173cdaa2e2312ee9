package rotation

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// verdicts says of every point what becomes of it. Points of a drive that is not
// here stay: they are decided when it returns.
func (j *judge) verdicts(doubt string) (all []Verdict) {
	for i := range j.s.Drives {
		d := &j.s.Drives[i]
		no := ""
		switch {
		case !d.Attached:
			no = "its drive is not here: decided when it returns"
		case Uncounted(*d) != "":
			no = "nothing is changed on drive " + d.Label + ": " + Uncounted(*d)
		case doubt != "":
			no = doubt
		}
		for _, id := range machinesOn(d) {
			all = append(all, j.verdictsOf(d, id, no)...)
		}
	}
	j.together(all)
	return all
}

// machinesOn lists the machines of a drive in the order of their first points.
func machinesOn(d *ShelfDrive) (ids []string) {
	seen := map[string]bool{}
	for _, p := range d.Points {
		if !seen[p.MachineID] {
			seen[p.MachineID] = true
			ids = append(ids, p.MachineID)
		}
	}
	return ids
}

// verdictsOf decides about the points of one machine on one drive, the newest
// first. no is why none of them may go, or "".
func (j *judge) verdictsOf(d *ShelfDrive, machineID, no string) (all []Verdict) {
	points := newestFirst(d, machineID)
	verdict := func(p *ShelfPoint, keep bool, why string) {
		all = append(all, Verdict{DriveID: d.ID, PointID: p.ID, MachineID: machineID, Keep: keep, Why: why})
	}
	if no != "" {
		for _, p := range points {
			verdict(p, true, no)
		}
		return all
	}
	rules := j.retention(d, j.machine(machineID).Name)
	kept := j.keptByRules(d, points, rules)
	for i, p := range points {
		promise, apart := j.promise(d, points, i), j.apart(d, p)
		switch {
		case promise != "":
			verdict(p, true, promise)
		case apart != "":
			verdict(p, true, apart)
		case kept[p.ID].why != "":
			verdict(p, kept[p.ID].keep, kept[p.ID].why)
		default:
			verdict(p, false, "no rule keeps it: "+rules.String())
		}
	}
	return all
}

// retention is the one for a machine on a drive: the drive's own, else the
// machine's, else the site's.
func (j *judge) retention(d *ShelfDrive, machine string) Retention {
	if r, ok := j.p.RetentionOn[d.Label]; ok {
		return r
	}
	if r, ok := j.p.RetentionOf[machine]; ok {
		return r
	}
	return j.p.Retention
}

// promise says which promise keeps the point, whatever the rules say, or "".
func (j *judge) promise(d *ShelfDrive, points []*ShelfPoint, i int) string {
	p := points[i]
	if hold := j.held(p); hold != "" {
		return hold
	}
	machine := j.machine(p.MachineID).Name
	if at := slices.IndexFunc(points, func(q *ShelfPoint) bool { return j.parts[q].verified() }); at == i {
		return j.whyVerifiedStays(d, p, machine)
	}
	whole := slices.IndexFunc(points, func(q *ShelfPoint) bool { return j.parts[q].whole })
	switch {
	case i == 0 && p.partial():
		return fmt.Sprintf("the newest point of %s on this drive", machine)
	case i == 0:
		return fmt.Sprintf("the newest point of %s on this drive: the next export reads only what changed since", machine)
	case i == whole:
		return fmt.Sprintf("the newest whole point of %s on this drive", machine)
	case !j.parts[p].whole && !slices.ContainsFunc(points[:i], func(q *ShelfPoint) bool { return j.parts[q].verified() }):
		return fmt.Sprintf("a part of %s whose other parts are not all in reach, and no newer point of it is verified", machine)
	}
	return ""
}

// held says who wants the point kept, or "": of a part, all parts are held.
func (j *judge) held(p *ShelfPoint) string {
	if hold := j.hold(p); hold != "" {
		return hold
	}
	for _, other := range j.parts[p].points {
		if hold := j.hold(other); hold != "" {
			return "another part of it is " + hold
		}
	}
	return ""
}

// hold is a point's own hold, or "". It ends with its day.
func (j *judge) hold(p *ShelfPoint) string {
	switch {
	case p.Held == "":
		return ""
	case p.HeldUntil.IsZero():
		return "held: " + p.Held
	case j.now.After(p.HeldUntil):
		return ""
	}
	return fmt.Sprintf("held until %s: %s", DateOf(p.HeldUntil.In(j.p.Calendar.zone())), p.Held)
}

// whyVerifiedStays says what the newest verified point of a machine on a drive is
// to the site. It stays on each drive for itself, also where another drive has it:
// two drives that are here at once never rely on each other.
func (j *judge) whyVerifiedStays(d *ShelfDrive, p *ShelfPoint, machine string) string {
	all := j.copies[p.MachineID]
	others := slices.ContainsFunc(all, func(r *restorable) bool { return r.verified() && !r.on(d.ID) })
	best := newest(all, (*restorable).verified)
	switch {
	case !others:
		return fmt.Sprintf("the last verified copy of %s is on this drive", machine)
	case best != nil && best.on(d.ID):
		return fmt.Sprintf("the newest verified copy of %s", machine)
	}
	return fmt.Sprintf("the newest verified point of %s on this drive", machine)
}

// ruling is what the rules say of a point; without a why they say nothing.
type ruling struct {
	keep bool
	why  string
}

// keptByRules applies the rules of retention to the points of a machine on a
// drive, or on all drives that count, from the newest on.
func (j *judge) keptByRules(d *ShelfDrive, points []*ShelfPoint, r Retention) map[string]ruling {
	if r.AllDrives {
		points = j.onAllDrives(points[0].MachineID)
	}
	rulings := map[string]ruling{}
	points = slices.DeleteFunc(slices.Clone(points), func(p *ShelfPoint) bool {
		// Parts that do not come together fill no place of a rule.
		return p.partial() && !j.parts[p].whole
	})
	if len(points) == 0 {
		return rulings
	}
	rules := r.rules(j.p.Calendar)
	first := points[0].TakenAt
	for i, p := range points {
		age := first.Sub(p.TakenAt)
		var why string
		for _, rule := range rules {
			// Each rule sees each point: a place that is taken stays taken.
			if kept := rule.take(p, i, age); kept != "" && why == "" {
				why = kept
			}
		}
		switch {
		case r.MaxAge > 0 && age > r.MaxAge:
			rulings[p.ID] = ruling{false, fmt.Sprintf("older than %s before the newest point", span(r.MaxAge))}
		case why != "":
			rulings[p.ID] = ruling{true, why}
		case len(rules) == 0:
			rulings[p.ID] = ruling{true, "no rule lets it go"}
		}
	}
	return rulings
}

// onAllDrives lists the points of a machine on all drives that count, each once,
// the newest first. Between drives only the time of the commit can tell; on each
// drive its own order holds.
func (j *judge) onAllDrives(machineID string) (all []*ShelfPoint) {
	var lists [][]*ShelfPoint
	for i := range j.s.Drives {
		if d := &j.s.Drives[i]; Uncounted(*d) == "" {
			lists = append(lists, newestFirst(d, machineID))
		}
	}
	seen := map[string]bool{}
	for {
		next := -1
		for i, list := range lists {
			if len(list) > 0 && (next < 0 || list[0].TakenAt.After(lists[next][0].TakenAt)) {
				next = i
			}
		}
		if next < 0 {
			return all
		}
		if p := lists[next][0]; !seen[p.ID] {
			seen[p.ID] = true
			all = append(all, p)
		}
		lists[next] = lists[next][1:]
	}
}

// rule is one rule of a retention while it is applied.
type rule struct {
	name  string
	most  int
	key   func(Date) string // the bucket of a day; nil: every point is one
	cal   Calendar
	full  map[string]bool
	spans time.Duration
}

// rules are those that a retention has, in the order in which they are named as
// reasons.
func (r Retention) rules(cal Calendar) (all []*rule) {
	add := func(most int, name string, key func(Date) string) {
		if most > 0 {
			all = append(all, &rule{name: name, most: most, key: key, cal: cal, full: map[string]bool{}})
		}
	}
	add(r.Last, "last", nil)
	if r.Within > 0 {
		all = append(all, &rule{name: "within", spans: r.Within})
	}
	add(r.Daily, "daily", Date.String)
	add(r.Weekly, "weekly", Date.Week)
	add(r.Monthly, "monthly", func(d Date) string { return d.String()[:7] })
	add(r.Yearly, "yearly", func(d Date) string { return d.String()[:4] })
	return all
}

// take says why the rule keeps the point, or "". Points come from the newest to
// the oldest, i is their number and age how much older than the newest they are.
func (r *rule) take(p *ShelfPoint, i int, age time.Duration) string {
	switch {
	case r.spans > 0 && age <= r.spans:
		return fmt.Sprintf("within %s of the newest point", span(r.spans))
	case r.spans > 0:
		return ""
	case r.key == nil && i < r.most:
		return fmt.Sprintf("last %d of %d", i+1, r.most)
	case r.key == nil:
		return ""
	}
	bucket := r.key(r.cal.Day(p.TakenAt))
	if r.full[bucket] || len(r.full) >= r.most {
		return ""
	}
	r.full[bucket] = true
	return fmt.Sprintf("%s %d of %d: the newest of %s", r.name, len(r.full), r.most, bucket)
}

// String says what a retention keeps, for a reason: "last 7, daily 14".
func (r Retention) String() string {
	var parts []string
	add := func(name string, n int) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, n))
		}
	}
	add("last", r.Last)
	add("daily", r.Daily)
	add("weekly", r.Weekly)
	add("monthly", r.Monthly)
	add("yearly", r.Yearly)
	if r.Within > 0 {
		parts = append(parts, "within "+span(r.Within))
	}
	if r.MaxAge > 0 {
		parts = append(parts, "at most "+span(r.MaxAge)+" old")
	}
	switch {
	case len(parts) == 0:
		return "everything is kept"
	case r.AllDrives:
		parts = append(parts, "on all drives together")
	}
	return strings.Join(parts, ", ")
}

// span says a duration in the largest unit that fits it.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	count := func(n time.Duration, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return fmt.Sprintf("%d %ss", n, unit)
	}
	switch {
	case d >= 14*day && d%(7*day) == 0:
		return count(d/(7*day), "week")
	case d >= 2*day:
		return count(d/day, "day")
	case d >= 2*time.Hour:
		return count(d/time.Hour, "hour")
	}
	return count(d/time.Minute, "minute")
}
