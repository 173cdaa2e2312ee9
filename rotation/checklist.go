package rotation

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The ways of one drive. A recall is asked for only where a place needs notice.
var (
	wayOut  = []StepKind{StepAttach, StepExport, StepVerify, StepEject, StepDepart, StepDeposit}
	wayHome = []StepKind{StepRecall, StepCollect, StepArrive}
)

// staleAfter is how long a drive that was ejected may wait for its way out before
// it is exported to again.
const staleAfter = 7 // days

// checklist orders the steps of a turn so that none of them breaks a promise, when
// they are done one after the other from how things are now.
type checklist struct {
	j     *judge
	t     turn
	steps []Step
	// blocked says what should be done and must not.
	blocked []string
}

func (j *judge) checklist(t turn) checklist {
	c := checklist{j: j, t: t}
	if t.out < 0 {
		return c
	}
	out, in := c.out(), c.in()
	c.order(out, in)
	c.replay()
	return c
}

// out are the steps of the set that leaves; where it is not here yet, it comes
// home first.
func (c *checklist) out() (steps []Step) {
	drives := c.j.sets[c.t.out].drives
	if !c.t.left {
		for _, kind := range wayHome {
			for _, d := range drives {
				if c.wantsHome(d, kind) {
					steps = append(steps, c.step(kind, d))
				}
			}
		}
	}
	for _, kind := range wayOut {
		for _, d := range drives {
			if kind != StepVerify || c.verifyDue(d) {
				steps = append(steps, c.step(kind, d))
			}
		}
	}
	return steps
}

// in are the steps of the set that comes home.
func (c *checklist) in() (steps []Step) {
	if c.t.in < 0 {
		return nil
	}
	for _, kind := range wayHome {
		for _, d := range c.j.sets[c.t.in].drives {
			if c.wantsHome(d, kind) {
				steps = append(steps, c.step(kind, d))
			}
		}
	}
	return steps
}

// wantsHome says that a step of the way home belongs on the list: the drive is
// away, or came home by this very list.
func (c *checklist) wantsHome(d *ShelfDrive, kind StepKind) bool {
	if c.doneHere(kind, d) != nil {
		return true
	}
	for _, other := range wayHome {
		if other != kind && c.doneHere(other, d) != nil && kind != StepRecall {
			return true
		}
	}
	if !offsite(*d) && !(carried(*d) && d.Homeward) || c.outgoing(d) && c.j.gone(c.t, d) {
		return false
	}
	l, known := c.j.p.location(d.Place.Location)
	return kind != StepRecall || offsite(*d) && known && l.LeadTime > 0
}

func (c *checklist) doneHere(kind StepKind, d *ShelfDrive) *DoneStep {
	if done, ok := c.j.s.Done[stepID(c.t.period.name, kind, d.Label)]; ok {
		return &done
	}
	return nil
}

// verifyDue says that the drive has to be read as a whole before it leaves.
func (c *checklist) verifyDue(d *ShelfDrive) bool {
	every := c.j.p.VerifyEvery
	return c.doneHere(StepVerify, d) != nil || !c.t.left && every > 0 && c.j.now.Sub(d.VerifiedAt) > every
}

// step is one line, with what the shelf knows of it.
func (c *checklist) step(kind StepKind, d *ShelfDrive) Step {
	s := Step{ID: stepID(c.t.period.name, kind, d.Label), Kind: kind, DriveID: d.ID, Label: d.Label, Seen: kind == StepAttach || kind == StepExport || kind == StepVerify || kind == StepEject}
	home := c.j.p.house()
	where := home
	switch kind {
	case StepDepart, StepDeposit:
		where = c.j.p.vault()
	case StepRecall, StepCollect, StepArrive:
		if l, ok := c.j.p.location(d.Place.Location); ok && offsite(*d) {
			where = l
		} else {
			where = c.j.p.vault()
		}
	}
	s.Due = c.due(kind, where)
	// Who does what is overdue is somebody who is there today.
	s.Person = c.j.p.Custodian(where.Name, laterDay(s.Due, c.j.day))
	s.Location = where.Name
	if kind == StepArrive {
		s.Location = home.Name
	}
	s.To = placeAfter(kind, d.Place, where.Name, home.Name, s.Person)
	s.Why = c.why(kind, d)
	if c.isDone(kind, d) {
		s.Done = c.doneHere(kind, d)
		if s.Done == nil {
			s.Done = &DoneStep{At: doneAt(kind, d)}
		}
	}
	return s
}

// doneAt is when the shelf shows a step that no entry names.
func doneAt(kind StepKind, d *ShelfDrive) time.Time {
	switch kind {
	case StepExport:
		return lastCommit(d)
	case StepVerify:
		return d.VerifiedAt
	case StepEject:
		return d.EjectedAt
	case StepDeposit:
		return d.DepositedAt
	}
	return d.Since
}

// lastCommit is when the drive was last written with something of that time: what
// was copied from the standing store is as new as the moment it was taken.
func lastCommit(d *ShelfDrive) (at time.Time) {
	for _, p := range d.Points {
		if p.Copied {
			at = later(at, p.TakenAt)
		} else {
			at = later(at, p.CommittedAt)
		}
	}
	return at
}

// isDone says whether the world shows that a step was done. A signature alone does
// not: a drive that came back to be written again is on its way once more.
func (c *checklist) isDone(kind StepKind, d *ShelfDrive) bool {
	if slices.Contains(wayHome, kind) {
		reached := slices.Index(wayHome, kind)
		switch {
		case atHome(*d), c.outgoing(d) && carried(*d) && !d.Homeward, c.outgoing(d) && (c.t.left || c.j.gone(c.t, d)):
			return true // it is home, or was and has left again
		case carried(*d):
			return reached <= 1
		}
		return reached == 0 && d.Place.State == "recall"
	}
	if c.t.left || c.j.gone(c.t, d) {
		return true
	}
	away := carried(*d) && !d.Homeward
	if away || !atHome(*d) {
		return away && kind != StepDeposit
	}
	// Each of these holds only while those before it do: a drive that was ejected
	// and has to be verified is attached once more.
	switch kind {
	case StepAttach:
		return d.Attached || c.isDone(StepEject, d)
	case StepExport:
		return d.Attached && c.fresh(d, c.j.day) || c.isDone(StepEject, d)
	case StepVerify:
		return c.isDone(StepExport, d) && !c.verifyDueNow(d)
	case StepEject:
		return c.ejected(d) && !c.verifyDueNow(d)
	}
	return false
}

func (c *checklist) outgoing(d *ShelfDrive) bool {
	return slices.Contains(c.j.sets[c.t.out].drives, d)
}

func (c *checklist) verifyDueNow(d *ShelfDrive) bool {
	return c.j.p.VerifyEvery > 0 && c.j.now.Sub(d.VerifiedAt) > c.j.p.VerifyEvery
}

// fresh says that the last export to a drive is of a day, or of the workday before.
func (c *checklist) fresh(d *ShelfDrive, day Date) bool {
	last := lastCommit(d)
	return !last.IsZero() && last.After(d.DepositedAt) && !c.j.p.Calendar.Day(last).Before(c.j.p.Calendar.WorkdayBefore(day))
}

// ejected says that a drive was read back after an export that was fresh then, and
// that this is not long ago.
func (c *checklist) ejected(d *ShelfDrive) bool {
	if d.Attached || d.EjectedAt.IsZero() || d.EjectedAt.Before(lastCommit(d)) {
		return false
	}
	day := c.j.p.Calendar.Day(d.EjectedAt)
	return c.fresh(d, day) && !day.AddDays(staleAfter).Before(c.j.day)
}

// leftOut names the machines whose newest point on the set of a drive is older than
// what makes that drive's export a fresh one: the step is done, and they go out as
// they were. Empty while nothing fresh is on it.
func (c *checklist) leftOut(d *ShelfDrive) string {
	if !c.isDone(StepExport, d) {
		return ""
	}
	least := c.j.p.Calendar.WorkdayBefore(c.j.p.Calendar.Day(lastCommit(d)))
	var older []string
	for _, m := range c.j.s.Machines {
		if !m.Retired && c.j.p.Calendar.Day(c.newestOf(m.ID)).Before(least) {
			older = append(older, m.Name)
		}
	}
	if len(older) == 0 {
		return ""
	}
	slices.Sort(older)
	shown := strings.Join(older[:min(3, len(older))], ", ")
	if len(older) > 3 {
		shown += fmt.Sprintf(" and %d more", len(older)-3)
	}
	return "; older than that on this set: " + shown
}

// newestOf is when the newest point of a machine on the outgoing set was made.
func (c *checklist) newestOf(machineID string) (at time.Time) {
	for _, d := range c.j.sets[c.t.out].drives {
		for _, p := range d.Points {
			switch {
			case p.MachineID != machineID:
			case p.Copied:
				at = later(at, p.TakenAt)
			default:
				at = later(at, p.CommittedAt)
			}
		}
	}
	return at
}

// why says what a step is for.
func (c *checklist) why(kind StepKind, d *ShelfDrive) string {
	switch kind {
	case StepAttach:
		return fmt.Sprintf("set %s leaves the house on %s", c.j.sets[c.t.out].Name, c.t.period.swap)
	case StepExport:
		return "so that the newest state of all machines goes out" + c.leftOut(d)
	case StepVerify:
		if d.VerifiedAt.IsZero() {
			return "nobody has read all of it yet"
		}
		return "all of it was last read on " + DateOf(d.VerifiedAt.In(c.j.p.Calendar.zone())).String()
	case StepEject:
		return "what was written is read back from the drive, then it may be unplugged"
	case StepDepart, StepDeposit:
		return "so that a fire in the house does not reach it"
	case StepRecall:
		return "its place needs notice"
	}
	if c.outgoing(d) {
		return "it is the one to be written, and it is not here"
	}
	return fmt.Sprintf("set %s is the next to be written", c.j.sets[c.t.in].Name)
}

// order puts what was done first, then the way home as early as it breaks no
// promise: with a third drive outside it may be the first, with two it is the
// last. A way home that is never safe stays on the list, and waits.
func (c *checklist) order(out, in []Step) {
	chain(out)
	chain(in)
	for _, s := range slices.Concat(out, in) {
		if s.Done != nil {
			c.steps = append(c.steps, s)
		}
	}
	open, openIn := pending(out), pending(in)
	at, behind := c.earliest(open, openIn)
	if at < 0 {
		at = len(open)
	}
	if behind != "" {
		for i := range openIn {
			if openIn[i].Kind == StepCollect {
				openIn[i].Needs = append(openIn[i].Needs, behind)
			}
		}
	}
	c.steps = slices.Concat(c.steps, open[:at], openIn, open[at:])
}

func pending(steps []Step) (open []Step) {
	for _, s := range steps {
		if s.Done == nil {
			open = append(open, s)
		}
	}
	return open
}

// chain makes each step of a drive need the one before it.
func chain(steps []Step) {
	last := map[string]string{}
	for i := range steps {
		s := &steps[i]
		if before := last[s.DriveID]; before != "" {
			s.Needs = append(s.Needs, before)
		}
		last[s.DriveID] = s.ID
	}
}

// earliest is the first place among the open steps of the way out at which the way
// home breaks no promise, and the step that it has to come behind; -1 if there is
// none.
func (c *checklist) earliest(open, in []Step) (at int, behind string) {
	s := c.j.s
	for i := 0; ; i++ {
		if i == 0 || open[i-1].Kind == StepDeposit {
			if c.tryHome(s, in) {
				if i > 0 {
					behind = open[i-1].ID
				}
				return i, behind
			}
		}
		if i == len(open) {
			return -1, ""
		}
		if next, ok := c.do(s, open[i]); ok {
			s = next
		}
	}
}

// do is the shelf after a step; ok is false if the step would break a promise.
func (c *checklist) do(s Shelf, step Step) (after Shelf, ok bool) {
	if len(Breaks(c.j.p, s, step)) > 0 {
		return s, false
	}
	return After(c.j.p, s, step, c.j.now), true
}

func (c *checklist) tryHome(s Shelf, in []Step) (ok bool) {
	for i := range in {
		if s, ok = c.do(s, in[i]); !ok {
			return false
		}
	}
	return true
}

// replay does the open steps of the whole list on paper, from the top. A step that
// would break a promise when its turn comes waits, with what needs it.
func (c *checklist) replay() {
	s := c.j.s
	missing := map[string]bool{}
	exports := false // one is still to come
	for i := range c.steps {
		step := &c.steps[i]
		switch {
		case step.Done != nil:
			continue
		case step.Kind == StepExport:
			exports = true
		case step.Kind == StepRecall || step.Kind == StepCollect:
			step.Ask = exports
		}
		switch {
		case slices.ContainsFunc(step.Needs, func(id string) bool { return missing[id] }):
			missing[step.ID] = true
			continue
		}
		if broken := Breaks(c.j.p, s, *step); len(broken) > 0 {
			step.Waits, missing[step.ID] = joined(broken), true
			if step.Kind == StepCollect {
				c.blocked = append(c.blocked, fmt.Sprintf("drive %s should come home and must not: %s", step.Label, step.Waits))
			}
			continue
		}
		s = After(c.j.p, s, *step, c.j.now)
	}
}
