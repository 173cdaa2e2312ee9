package rotation

import (
	"slices"
	"strings"
)

// house is the place where drives are written, vault the one where they are
// brought: the first of their kind in the policy.
func (p Policy) house() Location {
	for _, l := range p.Locations {
		if !l.Offsite {
			return l
		}
	}
	return Location{}
}

func (p Policy) vault() Location {
	for _, l := range p.Locations {
		if l.Offsite {
			return l
		}
	}
	return Location{}
}

// Custodian is the person whose duty it is to do something at a place on a day:
// the first of the policy's people who is there then and whom the place lets in;
// where somebody is not, the deputies come before the next one. It is empty where
// there is nobody.
func (p Policy) Custodian(location string, day Date) string {
	for _, person := range p.People {
		for _, name := range append([]string{person.Name}, person.Deputies...) {
			if p.MayAct(name, location, day) == "" {
				return name
			}
		}
	}
	return ""
}

// MayAct says why a person may not do something at a place on a day, or "". Only
// people of the policy may; a place that is not in it lets in everybody.
func (p Policy) MayAct(name, location string, day Date) string {
	i := slices.IndexFunc(p.People, func(q Person) bool { return q.Name == name })
	if i < 0 {
		return name + " is not among the people of this site"
	}
	if left := p.People[i].Left; !left.IsZero() && !day.Before(left) {
		return name + " left on " + left.String() + deputies(p.People[i])
	}
	if l, ok := p.location(location); ok && len(l.Authorised) > 0 && !slices.Contains(l.Authorised, name) {
		return name + " is not authorised at " + location + ": " + strings.Join(l.Authorised, ", ") + " may go there"
	}
	return ""
}

func deputies(p Person) string {
	if len(p.Deputies) == 0 {
		return ""
	}
	return "; " + strings.Join(p.Deputies, ", ") + " may stand in"
}

// due is the day by which a step should be done: that of the swap or, for what
// somebody does outside, the first workday from then on on which the place is
// open. A recall is due as long before as the place needs.
func (c *checklist) due(kind StepKind, where Location) Date {
	swap := c.t.period.swap
	if kind == StepAttach || kind == StepExport || kind == StepVerify || kind == StepEject {
		return swap
	}
	trip := c.j.p.tripFrom(where, swap)
	if kind != StepRecall {
		return trip
	}
	const day = 24 * 60 * 60
	days := int((int64(where.LeadTime.Seconds()) + day - 1) / day)
	call := trip.AddDays(-days)
	if !c.j.p.Calendar.Workday(call) {
		call = c.j.p.Calendar.WorkdayBefore(call)
	}
	return call
}

// tripFrom is the first day from a day on which people work and a place is open.
func (p Policy) tripFrom(l Location, day Date) Date {
	for i := range longestBreak {
		if d := day.AddDays(i); p.Calendar.Workday(d) && p.open(l, d) {
			return d
		}
	}
	return day
}

// joined puts reasons into one sentence.
func joined(reasons []string) string { return strings.Join(reasons, "; ") }
