package runbook

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Ready says whether a runbook was proven: the newest drill of what it means now
// passed as a whole, within its own period, on hosts of the kind that it would run
// on now, with the machines and the disks that there are now, all of which something
// checks, and nothing of the points and hosts would stop it today. A drill that
// failed since then takes it back. One that began later than now counts for nothing:
// a clock was wrong.
func Ready(b *Book, s Situation) Readiness {
	var ready Readiness
	meaning := Meaning(b)
	drill, passed := lastPassed(meaning, b, s)
	if !passed {
		ready.Why = append(ready.Why, neverPassed(meaning, b, s))
	} else {
		ready.LastPassed, ready.At, ready.Until = drill.RunID, drill.Began, drill.Began.Add(cmp.Or(b.Period, DefaultPeriod))
		if ready.Until.Before(s.Now) {
			ready.Why = append(ready.Why, fmt.Sprintf("the last drill that passed is %s old, and it has to be repeated every %s", lasting(s.Now.Sub(drill.Began)), lasting(cmp.Or(b.Period, DefaultPeriod))))
		}
		if later, ok := lastRun(b, s, func(p PastRun) bool { return p.Mode == Drill && p.Meaning == meaning }); ok && !later.Passed {
			ready.Why = append(ready.Why, fmt.Sprintf("a drill since then did not pass: %s", dayOf(later.Began, s)))
		}
	}
	ready.Why = append(ready.Why, changedSince(b, s, drill, passed)...)
	ready.Ready = len(ready.Why) == 0
	return ready
}

// neverPassed says why no drill counts.
func neverPassed(meaning string, b *Book, s Situation) string {
	drill := func(p PastRun) bool { return p.Mode == Drill }
	last, any := lastRun(b, s, drill)
	same, sameAny := lastRun(b, s, func(p PastRun) bool { return drill(p) && p.Meaning == meaning })
	switch {
	case !any && len(ofTheFuture(b, s)) > 0:
		return fmt.Sprintf("no drill counts: the last one, of %s, is later than now, so a clock was wrong", dayOf(ofTheFuture(b, s)[0].Began, s))
	case !any:
		return "it was never rehearsed"
	case !sameAny:
		return fmt.Sprintf("it was changed since its last drill, of %s", dayOf(last.Began, s))
	case same.Passed:
		return fmt.Sprintf("its last drill, of %s, was a partial one: %s", dayOf(same.Began, s), same.Partial)
	}
	return fmt.Sprintf("its last drill, of %s, did not pass", dayOf(same.Began, s))
}

// changedSince says what became different from what the drill proved.
func changedSince(b *Book, s Situation, drill PastRun, passed bool) (why []string) {
	s.Mode, s.Only, s.AllowEmulation = Recover, nil, true
	r := newResolver(b, s)
	if len(r.subjects) == 0 {
		return []string{"it names no machine"}
	}
	r.addPoints()
	r.addMachines()
	r.addDrives()
	r.addHosts()
	if kind := r.plan.HostKind(); passed && kind != "" && kind != drill.HostKind {
		why = append(why, fmt.Sprintf("it was rehearsed on %s, and would run on %s", cmp.Or(drill.HostKind, "hosts of an unknown kind"), kind))
	}
	for _, m := range r.subjects {
		if _, had := drill.Disks[m.id]; passed && m.id != "" && !had {
			why = append(why, fmt.Sprintf("%s is another machine than the one that the last drill brought back", m.Name))
		}
		if keys := r.disksAdded(m); len(keys) > 0 {
			why = append(why, fmt.Sprintf("%s got the disk %s since the last drill that passed", m.Name, strings.Join(keys, ", ")))
		}
		if len(r.checksOf(m)) == 0 {
			why = append(why, fmt.Sprintf("nothing checks that %s serves", m.Name))
		}
	}
	for _, f := range r.plan.Findings {
		// Room on a host comes and goes with what else runs there, and where no host
		// was looked at nothing is known of them.
		unknown := f.Code == "memory" || f.Code == "cpus" || f.Code == "host-unreached" && len(s.Hosts) == 0
		if f.Severity == Stops && !unknown {
			why = append(why, f.What)
		}
	}
	return why
}

// HostKind says on what kinds of hosts a plan runs, as [Record.HostKind] does of a
// run that is over.
func (p *Plan) HostKind() string {
	var kinds []string
	for _, h := range p.Hosts {
		if len(h.Machines) > 0 {
			kinds = append(kinds, h.Kind)
		}
	}
	slices.Sort(kinds)
	return strings.Join(slices.Compact(kinds), ", ")
}

// lastPassed is the newest whole drill of a runbook of that meaning that passed.
func lastPassed(meaning string, b *Book, s Situation) (PastRun, bool) {
	return lastRun(b, s, func(p PastRun) bool {
		return p.Mode == Drill && p.Meaning == meaning && p.Passed && p.Partial == ""
	})
}

// lastRun is the newest run of a runbook that is of that kind. What is later than
// now is passed over.
func lastRun(b *Book, s Situation, is func(PastRun) bool) (last PastRun, ok bool) {
	for _, p := range s.Past {
		if p.Book == b.Name && is(p) && !p.after(s.Now) && (!ok || !p.Began.Before(last.Began)) {
			last, ok = p, true
		}
	}
	return last, ok
}

// after says that a run began later than now, by more than clocks differ: the clock
// of the computer that it ran on was wrong, or this one's is.
func (p PastRun) after(now time.Time) bool { return p.Began.After(now.Add(clockSlack)) }

// ofTheFuture are the drills of a runbook that are later than now.
func ofTheFuture(b *Book, s Situation) []PastRun {
	return filter(s.Past, func(p PastRun) bool { return p.Book == b.Name && p.Mode == Drill && p.after(s.Now) })
}

func dayOf(t time.Time, s Situation) string { return t.In(s.Now.Location()).Format(time.DateOnly) }
