package rotation_test

import (
	"fmt"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// chance is where a history gets its luck from: rapid, which makes what it finds
// small, or a seed.
type chance interface {
	// below is a number from 0 up to n, without n.
	below(n int) int
}

// world is a site over some weeks. The program sees its shelf and its clock; what
// happens goes by the decisions, and by bad luck.
type world struct {
	luck   chance
	policy rotation.Policy
	shelf  rotation.Shelf
	// now is the time as it is; the computer's clock is off by drift.
	now   time.Time
	drift time.Duration
	// mutate breaks a decision on purpose; nil: as it is.
	mutate func(rotation.Decision) rotation.Decision
	asked  bool
	runs   int
	// split are the machines whose disks lie on both drives of a set of two.
	split map[string]bool
	// taken is when each point was made in truth, recorded the times that the
	// ledger has of its commits since somebody last called the clock right, from
	// that moment on.
	taken    map[string]time.Time
	recorded []time.Time
	log      []string
}

func (w *world) clock() time.Time { return w.now.Add(w.drift) }

func (w *world) one(in int) bool { return w.luck.below(in) == 0 }

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, w.now.Format("Mon 2006-01-02 15:04 ")+fmt.Sprintf(format, args...))
}

func (w *world) decide() rotation.Decision {
	d := rotation.Decide(w.clock(), w.policy, w.shelf)
	if w.mutate != nil {
		d = w.mutate(d)
	}
	return d
}

var zones = []string{"Europe/Berlin", "America/New_York", "Pacific/Apia", "UTC"}

// newWorld makes a site with drives that were just initialised.
func newWorld(luck chance) *world {
	w := &world{luck: luck, split: map[string]bool{}, taken: map[string]time.Time{}, now: time.Date(2026, time.Month(1+luck.below(12)), 1+luck.below(28), 9, 0, 0, 0, time.UTC), shelf: rotation.Shelf{Done: map[string]rotation.DoneStep{}}}
	w.policy = rotation.Policy{
		Calendar:    rotation.Calendar{Zone: mustZone(zones[luck.below(len(zones))])},
		Scheme:      rotation.Scheme{Kind: []rotation.SchemeKind{rotation.SchemeRoundRobin, rotation.SchemeGFS, rotation.SchemeHanoi}[luck.below(3)], Weekly: !w.one(3), SwapDay: time.Weekday(luck.below(7))},
		Locations:   []rotation.Location{{Name: "office"}, {Name: "bank", Offsite: true, LeadTime: time.Duration(luck.below(3)) * 24 * time.Hour}},
		People:      []rotation.Person{{Name: "Ann", Deputies: []string{"Bob"}}, {Name: "Bob"}},
		Retention:   w.retention(),
		VerifyEvery: time.Duration(luck.below(2)) * 30 * 24 * time.Hour,
	}
	for range luck.below(4) {
		w.policy.Calendar.Holidays = append(w.policy.Calendar.Holidays, rotation.DateOf(w.now).AddDays(luck.below(60)))
	}
	n := 1 + luck.below(4)
	for i := range n {
		label := string(rune('A' + i))
		labels := []string{label}
		if w.one(4) {
			labels = append(labels, label+"2")
		}
		w.policy.Scheme.Sets = append(w.policy.Scheme.Sets, rotation.Set{Name: label, Drives: labels, Role: []string{rotation.RoleSon, rotation.RoleSon, rotation.RoleFather, rotation.RoleGrandfather}[i]})
		for _, label := range labels {
			w.shelf.Drives = append(w.shelf.Drives, rotation.ShelfDrive{Drive: lifeboat.Drive{ID: "id-" + label, Label: label, CreatedAt: w.now}, Place: custody.Place{State: custody.Onsite, Location: "office"}, Since: w.now})
		}
	}
	for i := range 1 + luck.below(3) {
		name := []string{"web", "db", "mail"}[i]
		w.shelf.Machines = append(w.shelf.Machines, rotation.ShelfMachine{ID: name, Name: name})
		w.split[name] = w.one(2)
	}
	return w
}

// retention is one that forgets soon, so that short histories forget much.
func (w *world) retention() rotation.Retention {
	r := rotation.Retention{AllDrives: w.one(3)}
	r.Last, r.Daily, r.Weekly = w.luck.below(3), w.luck.below(2), w.luck.below(2)
	if w.one(4) {
		r.Within = time.Duration(w.luck.below(5)) * 24 * time.Hour
	}
	if w.one(3) {
		r.MaxAge = time.Duration(1+w.luck.below(20)) * 24 * time.Hour
	}
	return r
}

// day is one day: bad luck, then the evening's export, then perhaps the steps of
// the checklist. It returns the first promise that was broken.
func (w *world) day() error {
	w.now = w.now.Add(time.Duration(1+w.luck.below(3)*w.luck.below(4)) * 24 * time.Hour)
	w.badLuck()
	if w.one(5) {
		w.note("nobody exports")
	} else if err := w.export(); err != nil {
		return err
	}
	if w.one(3) {
		return nil // nobody has time for the checklist
	}
	return w.walk()
}

// badLuck is what no decision can help.
func (w *world) badLuck() {
	d := &w.shelf.Drives[w.luck.below(len(w.shelf.Drives))]
	switch w.luck.below(24) {
	case 0:
		d.Place, d.Attached = custody.Place{State: custody.Lost}, false
		w.note("%s is lost", d.Label)
	case 1:
		d.Place, d.Attached = custody.Place{State: custody.Quarantined}, false
		w.note("%s is quarantined", d.Label)
	case 2:
		if rotation.Uncounted(*d) != "" {
			d.Place, d.Since, d.Suspect = custody.Place{State: custody.Onsite, Location: "office"}, w.now, ""
			w.note("%s is taken back into use", d.Label)
		}
	case 3:
		for i := range d.Points {
			if w.one(2) {
				d.Points[i].VerifiedAt = time.Time{}
			}
		}
		w.note("faults are found on %s", d.Label)
	case 4:
		d.PendingKeys++
		w.note("a leaver's key waits for %s", d.Label)
	case 5:
		w.drift = time.Duration(w.luck.below(5)-2) * 40 * 24 * time.Hour
		w.note("the clock is off by %s", w.drift)
	case 6:
		w.drift = 0
	case 7:
		w.now = w.now.Add(time.Duration(7*(1+w.luck.below(6))) * 24 * time.Hour)
		w.note("weeks are missed")
	case 8:
		if len(d.Points) > 0 {
			p := &d.Points[w.luck.below(len(d.Points))]
			p.Held = "the auditors"
			w.note("%s on %s is held", p.ID, d.Label)
		}
	case 9:
		m := &w.shelf.Machines[w.luck.below(len(w.shelf.Machines))]
		m.Retired = !m.Retired
		w.note("%s is retired: %v", m.Name, m.Retired)
	case 10:
		d.Suspect = "its head went back"
		w.note("%s is not believed", d.Label)
	case 11:
		w.shelf.ConfirmClock(w.clock(), w.newestMoment())
		w.recorded = []time.Time{w.clock()}
		w.note("somebody says that the clock is right")
	case 12:
		if d.Damage == "" {
			d.Damage = "a pack is torn"
		} else {
			d.Damage = ""
		}
		w.note("damage on %s: %q", d.Label, d.Damage)
	}
}

// export is the night: the drives to write arrive, forget what they may, get the
// machines that do not fail, and forget again.
func (w *world) export() error {
	d := w.decide()
	for _, pick := range d.Write {
		drive := w.drive(pick.DriveID)
		if !slices.Contains([]custody.State{custody.Onsite}, drive.Place.State) {
			return fmt.Errorf("a drive that is %s is written: %s", drive.Place.State, drive.Label)
		}
		if why := rotation.Uncounted(*drive); why != "" {
			return fmt.Errorf("a drive that counts for nothing is written: %s: %s", drive.Label, why)
		}
		drive.Attached, drive.EjectedAt, drive.PendingKeys = true, time.Time{}, 0
	}
	if err := w.forget(); err != nil {
		return err
	}
	for _, pick := range d.Write {
		w.exportTo(w.drive(pick.DriveID))
	}
	if w.one(2) {
		return w.forget()
	}
	return nil
}

// exportTo exports to a drive what has its place there. Of a set of two drives the
// first has the machines that are not split, and with it the second is written.
func (w *world) exportTo(d *rotation.ShelfDrive) {
	w.runs++
	first, second := w.pair(d)
	d.EjectedAt = time.Time{}
	for _, m := range w.shelf.Machines {
		switch {
		case m.Retired || w.one(6) || first != d:
		case second == nil || !w.split[m.ID]:
			w.commit(d, m.ID)
		case second.Attached && rotation.Uncounted(*second) == "":
			w.commitParts(d, second, m.ID)
		}
	}
	w.note("export to %s", d.Label)
	w.record()
}

// pair is the set of a drive; second is nil where it is alone.
func (w *world) pair(d *rotation.ShelfDrive) (first, second *rotation.ShelfDrive) {
	for _, set := range w.policy.Scheme.Sets {
		if len(set.Drives) == 2 && slices.Contains(set.Drives, d.Label) {
			return w.drive("id-" + set.Drives[0]), w.drive("id-" + set.Drives[1])
		}
	}
	return d, nil
}

// commit adds a point to a drive.
func (w *world) commit(d *rotation.ShelfDrive, machine string) *rotation.ShelfPoint {
	var sequence uint64
	for _, p := range d.Points {
		sequence = max(sequence, p.Sequence)
	}
	d.Points = append(slices.Clone(d.Points), rotation.ShelfPoint{ID: fmt.Sprintf("%s-%s-%d-%d", d.Label, machine, w.runs, sequence+1), MachineID: machine, RunID: fmt.Sprint(w.runs), Sequence: sequence + 1, TakenAt: w.clock(), CommittedAt: w.clock()})
	if w.clock().After(w.shelf.LastCommit) {
		w.shelf.LastCommit = w.clock()
	}
	return &d.Points[len(d.Points)-1]
}

// commitParts adds a part to each of two drives, or is killed between the two.
func (w *world) commitParts(first, second *rotation.ShelfDrive, machine string) {
	p := w.commit(first, machine)
	p.Together, p.Parts = []string{first.ID, second.ID}, []string{p.ID, "never"}
	if w.one(8) {
		w.note("killed between the commits of %s", p.ID)
		return
	}
	q := w.commit(second, machine)
	p.Parts[1] = q.ID
	q.Together, q.Parts, second.EjectedAt = p.Together, p.Parts, time.Time{}
}

// newestMoment is the newest one that anything bears, whatever the clock was then.
func (w *world) newestMoment() (at time.Time) {
	for _, d := range w.shelf.Drives {
		for _, p := range d.Points {
			if p.TakenAt.After(at) {
				at = p.TakenAt
			}
		}
	}
	return at
}

// record is what the ledger and the truth know after an export.
func (w *world) record() {
	w.recorded = append(w.recorded, w.clock())
	w.shelf.ClockJumpAt = rotation.ClockJump(w.recorded)
	for _, d := range w.shelf.Drives {
		for _, p := range d.Points {
			if _, known := w.taken[p.ID]; !known {
				w.taken[p.ID] = w.now
			}
		}
	}
}

// forget does what the verdicts say.
func (w *world) forget() error {
	before := w.shelf
	d := w.decide()
	gone := map[string]string{}
	for _, v := range d.Verdicts {
		if !v.Keep {
			gone[v.DriveID+"/"+v.PointID] = v.Why
		}
	}
	w.shelf.Drives = slices.Clone(w.shelf.Drives)
	for i := range w.shelf.Drives {
		drive := &w.shelf.Drives[i]
		drive.Points = slices.DeleteFunc(slices.Clone(drive.Points), func(p rotation.ShelfPoint) bool {
			why := gone[drive.ID+"/"+p.ID]
			if why != "" {
				w.note("%s forgets %s: %s", drive.Label, p.ID, why)
			}
			return why != ""
		})
	}
	return brokenByForgetting(w, d, before, w.shelf)
}

// walk does the steps of a printed checklist from the top, without deciding again
// in between; sometimes only the first of them. Exports fail for some machines. The
// program is asked at each signature, or only where the page says so, and refuses
// what would break a promise.
func (w *world) walk() error {
	d := w.decide()
	w.asked = w.one(2)
	if err := brokenList(d); err != nil {
		return err
	}
	done := map[string]bool{}
	stop := w.luck.below(len(d.Steps) + 4)
	for i, s := range d.Steps {
		ready := s.Waits == "" && !slices.ContainsFunc(s.Needs, func(id string) bool { return !done[id] })
		if s.Done != nil {
			done[s.ID] = true
			continue
		}
		if !ready || i >= stop {
			continue
		}
		did, err := w.step(s)
		if err != nil {
			return err
		}
		done[s.ID] = did
	}
	return nil
}

// step does one step. The person who signs it may say that it was days later.
func (w *world) step(s rotation.Step) (did bool, err error) {
	before := w.shelf
	w.note("step %s", s.ID)
	if s.Kind == rotation.StepExport {
		w.shelf.Drives = slices.Clone(w.shelf.Drives)
		w.exportTo(w.drive(s.DriveID))
		return true, nil
	}
	if broken := rotation.Breaks(w.policy, w.shelf, s); len(broken) > 0 && (w.asked || s.Ask) {
		w.note("refused: %s", broken[0])
		return false, nil
	}
	w.shelf = rotation.After(w.policy, w.shelf, s, w.clock())
	if !s.Seen {
		w.shelf.Done = cloneDone(w.shelf.Done)
		w.shelf.Done[s.ID] = rotation.DoneStep{At: w.clock().Add(time.Duration(w.luck.below(3)) * 24 * time.Hour), Signer: s.Person}
	}
	return true, brokenByStep(s, before, w.shelf)
}

func (w *world) drive(id string) *rotation.ShelfDrive {
	for i := range w.shelf.Drives {
		if w.shelf.Drives[i].ID == id {
			return &w.shelf.Drives[i]
		}
	}
	panic("no drive " + id)
}

func cloneDone(done map[string]rotation.DoneStep) map[string]rotation.DoneStep {
	all := map[string]rotation.DoneStep{}
	for k, v := range done {
		all[k] = v
	}
	return all
}
