package rotation

import (
	"fmt"
	"slices"
	"time"

	"lifeboat/custody"
)

// fullSoon is how far ahead a drive that fills up is told of.
const fullSoon = 8 * 7 * 24 * time.Hour

// reminders are the things that are due beside the checklist.
func (j *judge) reminders(steps []Step) (all []string) {
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for i := range j.s.Drives {
		d := &j.s.Drives[i]
		if d.Place.State == custody.Retired {
			continue
		}
		j.remindOfDrive(d, say)
	}
	for _, item := range j.s.Items {
		if left := j.p.left(item.Place.Holder, j.day); left != "" {
			say("%s has %s %s, and %s", item.Place.Holder, item.Kind, item.Label, left)
		}
	}
	for _, e := range j.exposures() {
		if d := j.drive(e.DriveID); d != nil && d.PendingKeys > 0 {
			say("%s on drive %s, which has the newest copy of %s outside the house", changesWait(d.PendingKeys), d.Label, e.Machine)
		}
		if d := j.drive(e.DriveID); d != nil && e.InHandAt.IsZero() {
			say("nobody knows how long it takes until drive %s is here: say a leadTime for %s", e.Label, orPlace(d.Place.Location))
		}
	}
	j.remindOfMachines(say)
	for _, s := range steps {
		if s.Done == nil && s.Person == "" && len(j.p.People) > 0 {
			say("nobody of this site may do %s: %s", s.ID, "see who is authorised at "+orPlace(s.Location))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func orPlace(name string) string {
	if name == "" {
		return "its place"
	}
	return name
}

func (j *judge) drive(id string) *ShelfDrive {
	for i := range j.s.Drives {
		if j.s.Drives[i].ID == id {
			return &j.s.Drives[i]
		}
	}
	return nil
}

func (j *judge) remindOfDrive(d *ShelfDrive, say func(string, ...any)) {
	if left := j.p.left(d.Place.Holder, j.day); left != "" && d.Place.State != custody.Lost {
		say("%s has drive %s, and %s", d.Place.Holder, d.Label, left)
	}
	if d.Suspect != "" && Uncounted(*d) != "" && d.Place.State != custody.Lost {
		say("drive %s counts for nothing: %s; find out why, and attach the right one", d.Label, d.Suspect)
	}
	if Uncounted(*d) != "" {
		return
	}
	if every := j.p.VerifyEvery; every > 0 && len(d.Points) > 0 && j.now.Sub(later(d.VerifiedAt, d.CreatedAt)) > every {
		say("drive %s is due to be verified: %s", d.Label, j.since("all of it was last read", d.VerifiedAt))
	}
	if every := j.p.ProveEvery; every > 0 && len(d.Points) > 0 && j.now.Sub(later(d.ProvenAt, d.CreatedAt)) > every {
		say("drive %s is due to be proven by a boot: %s", d.Label, j.since("a machine was last booted from it", d.ProvenAt))
	}
	if at := d.FullAt(); !at.IsZero() && at.Sub(j.now) < fullSoon {
		say("drive %s will be full in the week of %s, at the pace of its last weeks", d.Label, DateOf(at.In(j.p.Calendar.zone())))
	}
	if !d.Due.IsZero() && j.now.After(d.Due) && !atHome(*d) {
		say("drive %s was promised back by %s and has not been seen", d.Label, DateOf(d.Due.In(j.p.Calendar.zone())))
	}
	if carried(*d) && j.now.Sub(d.Since) > longestWay {
		say("drive %s has been on its way since %s: say where it is, or that it is lost", d.Label, DateOf(d.Since.In(j.p.Calendar.zone())))
	}
	if d.Damage != "" {
		say("drive %s is damaged: %s", d.Label, d.Damage)
	}
}

// longestWay is how long a courier may have a drive before somebody asks.
const longestWay = 3 * 24 * time.Hour

func (j *judge) since(what string, at time.Time) string {
	if at.IsZero() {
		return "that never happened"
	}
	return what + " on " + DateOf(at.In(j.p.Calendar.zone())).String()
}

// left says when the holder of something left the site, or "".
func (p Policy) left(holder string, day Date) string {
	for _, person := range p.People {
		if person.Name == holder && !person.Left.IsZero() && !day.Before(person.Left) {
			return "left on " + person.Left.String() + deputies(person)
		}
	}
	return ""
}

// remindOfMachines tells of machines without a verified copy, and of retired ones
// that one drive alone has.
func (j *judge) remindOfMachines(say func(string, ...any)) {
	for _, m := range j.machines {
		verified := map[string]bool{}
		var last string
		for _, r := range j.copies[m.ID] {
			if r.verified() {
				for _, d := range r.drives {
					verified[d.ID], last = true, d.Label
				}
			}
		}
		switch {
		case m.Retired && len(verified) == 1 && len(j.s.Drives) > 1:
			say("the only drive with a verified copy of %s, which is retired, is %s: copy it to another while both are here", m.Name, last)
		case !m.Retired && len(j.copies[m.ID]) > 0 && len(verified) == 0:
			say("no copy of %s is verified anywhere", m.Name)
		}
	}
}

// FullAt is when a drive will be full at its pace, from its first to its last
// known fill; zero where it does not fill up or too little is known.
func (d ShelfDrive) FullAt() time.Time {
	if len(d.Fills) < 2 {
		return time.Time{}
	}
	first, last := d.Fills[0], d.Fills[len(d.Fills)-1]
	took, used := last.At.Sub(first.At), first.FreeBytes-last.FreeBytes
	if took < 24*time.Hour || used <= 0 || last.FreeBytes < 0 {
		return time.Time{}
	}
	hours := float64(last.FreeBytes) / (float64(used) / took.Hours())
	const longest = 20 * 365 * 24 // hours: nobody plans further
	if hours > longest {
		return time.Time{}
	}
	return last.At.Add(time.Duration(hours * float64(time.Hour)))
}
