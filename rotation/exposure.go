package rotation

import (
	"slices"
	"time"
)

// exposures says for each machine that is still protected what would be lost if
// the building burned down now.
func (j *judge) exposures() (all []Exposure) {
	for _, m := range j.machines {
		if !m.Retired {
			all = append(all, j.exposure(m))
		}
	}
	return all
}

func (j *judge) exposure(m ShelfMachine) Exposure {
	e := Exposure{MachineID: m.ID, Machine: m.Name, Objective: j.objective(m.Name)}
	best := newest(j.copies[m.ID], verifiedOffsite)
	if best == nil {
		e.Missed = e.Objective > 0
		return e
	}
	e.PointID, e.TakenAt, e.VerifiedAt, e.ProvenAt = best.pointID, best.takenAt, best.verifiedAt, best.provenAt
	e.Age = max(0, j.now.Sub(best.takenAt))
	e.Missed = e.Objective > 0 && e.Age > e.Objective
	e.InHandAt = j.now
	for i, d := range best.drives {
		at := j.inHandAt(*d)
		// The last drive to come is the one that is waited for.
		if i == 0 || at.IsZero() || !e.InHandAt.IsZero() && at.After(e.InHandAt) {
			e.DriveID, e.Label, e.InHandAt = d.ID, d.Label, at
		}
	}
	return e
}

func (j *judge) objective(machine string) time.Duration {
	if o, ok := j.p.Objectives.Of[machine]; ok {
		return o
	}
	return j.p.Objectives.Offsite
}

// inHandAt is when a drive could be here: after the lead time of its place, and
// on a day on which that place is open. It is zero for a place of which nothing
// is known.
func (j *judge) inHandAt(d ShelfDrive) time.Time {
	l, ok := j.p.location(d.Place.Location)
	if !ok || l.LeadTime <= 0 {
		return time.Time{}
	}
	at := j.now.Add(l.LeadTime)
	zone := j.p.Calendar.zone()
	day := DateOf(at.In(zone))
	open := j.p.openFrom(l, day)
	if open == day {
		return at
	}
	return time.Date(open.Year, open.Month, open.Day, 0, 0, 0, 0, zone)
}

func (p Policy) location(name string) (Location, bool) {
	if i := slices.IndexFunc(p.Locations, func(l Location) bool { return l.Name == name }); i >= 0 {
		return p.Locations[i], true
	}
	return Location{}, false
}

// openFrom is day, or the first day after it on which a place is open. Places are
// closed on the site's holidays.
func (p Policy) openFrom(l Location, day Date) Date {
	for i := range longestBreak {
		if d := day.AddDays(i); p.open(l, d) {
			return d
		}
	}
	return day
}

func (p Policy) open(l Location, day Date) bool {
	return (len(l.OpenDays) == 0 || slices.Contains(l.OpenDays, day.Weekday())) && !slices.Contains(p.Calendar.Holidays, day)
}
