package rotation

import (
	"fmt"
	"time"
)

// Decide says what should happen now: which drive is written, which leaves the
// house and which comes home, in which order, and which points each drive that is
// here may forget, each with its reason. It reads no clock, no file and no drive;
// the same arguments give the same decision everywhere. It takes any shelf and
// any policy: what is odd in them is said in the decision.
func Decide(now time.Time, p Policy, s Shelf) Decision {
	j := newJudge(now, p, s)
	t := j.turnNow()
	d := Decision{Day: j.day, Period: t.period.name, SwapOn: t.period.swap, Missed: t.missed, Doubt: j.doubt(), Exposure: j.exposures()}
	d.Verdicts = j.verdicts(d.Doubt)
	if len(j.sets) == 0 {
		d.Reminders = j.reminders(nil)
		return d
	}
	d.Set, d.Write = j.write(t)
	list := j.checklist(t)
	d.Take, d.Bring = list.carried(j.take(t), StepDeposit), list.carried(j.bring(t), StepCollect)
	d.Steps, d.Blocked, d.Reminders = list.steps, list.blocked, j.reminders(list.steps)
	for _, set := range j.sets {
		d.Blocked = append(d.Blocked, set.lacks...)
	}
	return d
}

// write is the set that exports go to, and why: the one that will leave next, or
// the one that came home after it left.
func (j *judge) write(t turn) (set string, picks []Pick) {
	now, why := t.out, fmt.Sprintf("it leaves the house on %s", t.period.swap)
	if t.left {
		now, why = t.in, "it is the next to leave the house"
	}
	if now < 0 {
		return "", nil
	}
	for _, d := range j.sets[now].drives {
		if atHome(*d) {
			picks = append(picks, j.pick(d, why))
		}
	}
	return j.sets[now].Name, picks
}

// take are the drives that leave the house in this turn and have not arrived
// outside yet.
func (j *judge) take(t turn) (picks []Pick) {
	if t.out < 0 || t.left {
		return nil
	}
	for _, d := range j.sets[t.out].drives {
		if !offsite(*d) {
			picks = append(picks, j.pick(d, fmt.Sprintf("set %s was written in %s", j.sets[t.out].Name, t.period.name)))
		}
	}
	return picks
}

// bring are the drives that come home in this turn and are not here yet: those of
// the set that is written after it.
func (j *judge) bring(t turn) (picks []Pick) {
	for _, set := range []int{t.in, t.out} {
		if set < 0 || set == t.out && t.left {
			continue
		}
		for _, d := range j.sets[set].drives {
			if set == t.in && !atHome(*d) || set == t.out && !j.gone(t, d) && (offsite(*d) || carried(*d) && d.Homeward) {
				picks = append(picks, j.pick(d, fmt.Sprintf("set %s is the next to be written", j.sets[set].Name)))
			}
		}
	}
	return picks
}

// carried fills in who carries drives, and from or to which place.
func (c checklist) carried(picks []Pick, kind StepKind) []Pick {
	for i := range picks {
		for _, s := range c.steps {
			if s.DriveID == picks[i].DriveID && s.Kind == kind {
				picks[i].Person, picks[i].Location = s.Person, s.Location
			}
		}
	}
	return picks
}

func (j *judge) pick(d *ShelfDrive, why string) Pick {
	return Pick{DriveID: d.ID, Label: d.Label, Why: why, Location: d.Place.Location}
}
