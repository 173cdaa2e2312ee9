package runbook

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/internal/durable"
)

// Files of a run's folder that this package writes.
const (
	planFile    = "plan.json"
	bookFile    = "book.yaml"
	recordFile  = "record.json"
	journalName = "journal"
	lockFile    = "run.lock"

	maxPlanFile   = 256 << 20
	maxBookFile   = 16 << 20
	maxRecordFile = 512 << 20
)

// Start is what is known of a run when it begins, beside its plan. It holds no
// secret.
type Start struct {
	RunID string `json:"run"`
	// Began is when the command was given: everything is measured from it.
	Began time.Time `json:"began"`
	// Program, Computer, User, Declared, Reason and OpenedWith are as in [Record].
	Program    string `json:"program"`
	Computer   string `json:"computer"`
	User       string `json:"user"`
	Declared   string `json:"declared,omitempty"`
	Reason     string `json:"reason,omitempty"`
	OpenedWith string `json:"openedWith"`
	// Hosts and Drives are what it runs on.
	Hosts  []HostRecord  `json:"hosts,omitempty"`
	Drives []DriveRecord `json:"drives,omitempty"`
	// NotRepresentative says why its times are not those of a recovery, beyond what
	// the hosts tell: it reads something else than the real drive.
	NotRepresentative string `json:"notRepresentative,omitempty"`
	// BookText is the runbook word for word; it has a file of its own.
	BookText string `json:"-"`
}

// Status is what a step is doing.
type Status string

// The states of a step. A pending one may have been tried before.
const (
	StatusPending Status = "pending"
	StatusRunning Status = "running"
	StatusDone    Status = "done"
	StatusFailed  Status = "failed"
	StatusSkipped Status = "skipped"
	StatusWaiting Status = "waiting"
)

// StepState is one step of a run as the journal tells it. Times are since the
// command.
type StepState struct {
	Step   PlannedStep
	Status Status
	// Attempts is how often it was begun in all.
	Attempts int
	// Began is when the last try began and Ended when it ended; First is when it was
	// first begun.
	First, Began, Ended time.Duration
	// Problem is why it failed or whom it waits for, Reason why it was skipped and
	// Who decided that. Said is what it told last.
	Problem, Reason, Who, Said string
	Result                     Result
	Evidence                   Evidence

	// open: it was begun, and nobody knows how far it got. repeat: a person said
	// that it may be done again all the same.
	open, repeat bool
	// once: it is skipped by this process alone; the next goes on with it.
	once bool
	// tries counts since the machine came back or a person resumed the run.
	tries int
	said  int
	fate  fate
	// earlier are the tries that came to nothing.
	earlier []span
}

// MachineState is one machine of a run, as it stands now: its Point, DriveIDs and
// Host are those of the last try.
type MachineState struct {
	PlannedMachine
	// Back is how many points it went back, Form counts the disk controllers tried.
	Back, Form int

	// away: it is to be taken away and comes back as next says. touched: there may
	// be something to take away.
	away, touched bool
	next          struct{ back, form int }
	// kept: it has data that only a person may give up. moves: a person said that it
	// may begin anew elsewhere, if its host is still away.
	kept, moves bool
	// why it went back to an older point.
	why string
}

// Run is a run as its folder tells it, whether it goes on at the moment or not.
type Run struct {
	Start Start
	Plan  *Plan
	// Steps are in the order of the plan.
	Steps    []StepState
	Machines []MachineState
	// Since is how long after the command the last line was written; Ended is what
	// the last process said of its end, or empty: it goes on, or it was killed.
	Since time.Duration
	Ended string
	// Resumed is how often it was taken up again.
	Resumed int

	graph     *order
	byMachine map[string]int
	started   bool
	gone      map[string]bool
	// tiers are the places of the steps, low tiers first.
	tiers []int
	// passed is the record of the moment when it passed: what happens to its machines
	// a week later changes no figure.
	passed *Record
	// later are the times that it was taken up again after that.
	later []LaterRun
}

// ReadRun reads a run's folder, also while the run goes on.
func ReadRun(folder string) (*Run, error) {
	dir, err := durable.OpenOS(folder, true)
	if err != nil {
		return nil, fmt.Errorf("read run: %w", err)
	}
	defer closeDir(dir)
	r, err := readHead(dir)
	if err != nil {
		return nil, fmt.Errorf("read run %s: %w", filepath.Base(folder), err)
	}
	lines, err := durable.ReadJournal(dir, journalName)
	if err == nil {
		err = r.replay(lines)
	}
	if err != nil {
		return nil, fmt.Errorf("read run %s: %w", filepath.Base(folder), err)
	}
	return r, nil
}

// readHead reads what a run's folder holds beside the journal.
func readHead(dir durable.Dir) (*Run, error) {
	data, err := durable.ReadWhole(dir, planFile, maxPlanFile)
	if err != nil {
		return nil, err
	}
	var p Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("%s: %w: %v", planFile, lifeboat.ErrDamaged, err)
	}
	text, err := durable.ReadWhole(dir, bookFile, maxBookFile)
	if err != nil {
		return nil, err
	}
	r, err := newRun(&p)
	if err == nil {
		r.Start.BookText = string(text)
	}
	return r, err
}

// newRun is a run of a plan of which nothing has happened yet.
func newRun(p *Plan) (*Run, error) {
	g, err := newOrder(p)
	if err != nil {
		return nil, err
	}
	r := &Run{Plan: p, graph: g, byMachine: map[string]int{}, gone: map[string]bool{}}
	for _, s := range p.Steps {
		r.Steps = append(r.Steps, StepState{Step: s, Status: StatusPending})
	}
	for i, m := range p.Machines {
		r.Machines = append(r.Machines, MachineState{PlannedMachine: m})
		r.byMachine[m.Name] = i
	}
	return r, nil
}

// replay applies the lines of a journal.
func (r *Run) replay(lines []json.RawMessage) error {
	for n, line := range lines {
		e, err := decodeEntry(line)
		if err == nil {
			err = r.apply(e)
		}
		if err != nil {
			return fmt.Errorf("journal, line %d: %w", n+1, err)
		}
	}
	return nil
}

// machine returns a machine by its name, or nil.
func (r *Run) machine(name string) *MachineState {
	if i, ok := r.byMachine[name]; ok {
		return &r.Machines[i]
	}
	return nil
}

// planNow is the plan with the machines as they are now.
func (r *Run) planNow() *Plan {
	p := *r.Plan
	p.Machines = make([]PlannedMachine, len(r.Machines))
	for i, m := range r.Machines {
		p.Machines[i] = m.PlannedMachine
	}
	return &p
}

// about returns the places of the steps about a machine.
func (r *Run) about(machine string) []int {
	var places []int
	for i := range r.Steps {
		if r.Steps[i].Step.Machine == machine {
			places = append(places, i)
		}
	}
	return places
}

// apply takes up what a line says. It is the only way in which a run changes, for
// the process that writes the line and for one that reads it later.
func (r *Run) apply(e entry) error {
	if e.Kind == entryRun {
		if r.started || e.Start == nil {
			return fmt.Errorf("%w: it begins twice", lifeboat.ErrDamaged)
		}
		text := r.Start.BookText
		r.Start, r.started = *e.Start, true
		r.Start.BookText = text
		r.Since = e.Since
		return nil
	}
	if !r.started {
		return fmt.Errorf("%w: its first line is not there", lifeboat.ErrDamaged)
	}
	r.Since = max(r.Since, e.Since)
	switch e.Kind {
	case entryResume:
		r.resume()
		if r.passed != nil {
			r.later = append(r.later, LaterRun{Began: r.at(r.Since)})
		}
		return nil
	case entryEnd:
		r.Ended = e.Text
		if r.passed != nil && len(r.later) > 0 {
			r.endLater(e.Text)
		} else if e.Text == endPassed && !r.isPart() {
			r.passed = MakeRecord(r)
		}
		return nil
	case entryAway, entryTaken, entryPlaced:
		return r.applyMachine(e)
	case entrySkipped, entryRepeat, entryLost:
		return r.applyDecision(e)
	}
	return r.applyStep(e)
}

// resume is what a new process finds: nothing runs any more, and what failed or
// waits gets another chance.
func (r *Run) resume() {
	r.Resumed++
	r.Ended = ""
	clear(r.gone)
	for i := range r.Steps {
		s := &r.Steps[i]
		s.tries = 0
		switch {
		case s.Status == StatusRunning:
			s.cutOff(r.Since)
		case s.Status == StatusWaiting:
			s.Status = StatusPending
		case s.Status == StatusSkipped && s.once:
			s.Status, s.Reason, s.Who, s.once, s.Ended = StatusPending, "", "", false, 0
		case s.Status == StatusFailed && s.fate != fateTold:
			s.Status = StatusPending
		}
		if m := r.machine(s.Step.Machine); m != nil && s.Step.Kind == StepBoot && s.Status == StatusDone && !m.away && r.Plan.Mode == Recover {
			m.kept = true // nobody knows what it wrote while no process looked, or through a power cut
		}
	}
}

// applyStep takes up what happened to one step.
func (r *Run) applyStep(e entry) error {
	i, ok := r.graph.byID[e.Step]
	if !ok {
		return fmt.Errorf("%w: %q is no step of the plan", lifeboat.ErrDamaged, e.Step)
	}
	s := &r.Steps[i]
	switch e.Kind {
	case entryBegun:
		s.begin(r.Since)
		if m := r.machine(s.Step.Machine); m != nil && s.Step.Kind == StepBoot {
			m.touched = true
		}
		r.keep(s)
	case entrySaid:
		s.Said = e.Text
		s.said++
	case entryDone:
		s.end(StatusDone, e, r.Since)
		s.Problem = ""
		r.keep(s)
	case entryFailed:
		s.end(StatusFailed, e, r.Since)
		s.open = e.Open
		s.Problem, s.fate = e.Text, e.Then
		if e.Then == fateRetry || e.Then == fateAgain {
			s.Status = StatusPending
			s.earlier = append(s.earlier, span{s.Began, s.Ended})
		}
	case entryCut:
		s.Problem = e.Text
		s.cutOff(r.Since)
	case entryWaiting:
		if s.Status == StatusRunning {
			s.open = false // it said itself that it got no further
		}
		s.Status, s.Problem, s.Ended, s.fate = StatusWaiting, e.Text, r.Since, e.Then
		if e.Evidence != nil {
			s.Evidence = *e.Evidence
		}
	default:
		return fmt.Errorf("%w: %q is nothing that happens", lifeboat.ErrDamaged, e.Kind)
	}
	return nil
}

func (s *StepState) begin(at time.Duration) {
	if s.Attempts == 0 {
		s.First = at
	}
	s.Status, s.Began, s.Ended, s.open, s.repeat = StatusRunning, at, 0, true, false
	s.Attempts++
	s.tries++
	s.Said, s.said = "", 0
}

func (s *StepState) end(status Status, e entry, at time.Duration) {
	s.Status, s.Ended, s.open = status, at, false
	s.Result, s.Evidence = Result{}, Evidence{}
	if e.Result != nil {
		s.Result = *e.Result
	}
	if e.Evidence != nil {
		s.Evidence = *e.Evidence
	}
}

// cutOff says that a step ended before anybody knew how.
func (s *StepState) cutOff(at time.Duration) {
	s.Status, s.Ended = StatusPending, at
	if !forPeople(s.Step.Kind) {
		s.earlier = append(s.earlier, span{s.Began, at})
	}
}

// applyDecision takes up what was decided of several steps.
func (r *Run) applyDecision(e entry) error {
	for _, id := range e.Steps {
		i, ok := r.graph.byID[id]
		if !ok {
			return fmt.Errorf("%w: %q is no step of the plan", lifeboat.ErrDamaged, id)
		}
		s := &r.Steps[i]
		switch e.Kind {
		case entrySkipped:
			s.Status, s.Reason, s.Who, s.open, s.once = StatusSkipped, e.Text, e.Who, false, e.Once
			s.Ended = r.Since
		case entryRepeat:
			if s.Status == StatusSkipped || s.Status == StatusFailed {
				s.again()
				s.Reason = ""
			}
			s.repeat, s.Who = true, e.Who
			if m := r.machine(s.Step.Machine); m != nil && s.Step.Kind == StepBoot {
				m.moves = true
			}
		case entryLost:
			s.again()
			if m := r.machine(s.Step.Machine); m != nil && s.Step.Kind == StepBoot && r.Plan.Mode == Recover {
				m.kept = true // it starts again on what it wrote
			}
		}
	}
	return nil
}

// again makes a step one that nobody has begun yet.
func (s *StepState) again() {
	if s.Status == StatusDone || s.Status == StatusFailed {
		s.earlier = append(s.earlier, span{s.Began, s.Ended})
	}
	s.Status, s.open, s.repeat, s.tries = StatusPending, false, false, 0
}

// applyMachine takes up that machines go and come back in another way.
func (r *Run) applyMachine(e entry) error {
	unknown := func(name string) error {
		return fmt.Errorf("%w: %q is no machine of the plan", lifeboat.ErrDamaged, name)
	}
	if e.Kind == entryAway {
		for _, name := range e.Machines {
			m := r.machine(name)
			if m == nil || e.Point > len(m.Older) {
				return unknown(name)
			}
			m.away = true
			if e.Point > m.Back {
				m.why = e.Text
			}
			m.next.back, m.next.form = e.Point, m.Form
			if name == e.Machine {
				m.next.form = e.Form
			}
		}
		return nil
	}
	m := r.machine(e.Machine)
	if m == nil {
		return unknown(e.Machine)
	}
	if m.away {
		r.goesBack(m)
	}
	if e.Kind == entryPlaced {
		r.gone[m.Host] = true
		m.Host, m.Form = e.Host, 0
	}
	m.touched, m.kept, m.moves = false, false, false
	for _, i := range r.about(e.Machine) {
		if s := &r.Steps[i]; followsMachine(s) {
			s.again()
		}
	}
	return nil
}

// goesBack makes a machine that which it is to come back as.
func (r *Run) goesBack(m *MachineState) {
	m.away, m.Form = false, m.next.form
	if m.Back = m.next.back; m.Back == 0 {
		return
	}
	planned := r.Plan.Machines[r.byMachine[m.Name]]
	older := planned.Older[m.Back-1]
	m.DriveIDs = slices.Clone(older.DriveIDs)
	m.Point = lifeboat.RestorePoint{ID: older.PointID, TakenAt: older.TakenAt, Machine: planned.Point.Machine}
}

// followsMachine says that a step has to be done again when its machine came back
// anew. What a person said stays said; a command on the control side is done again
// if it says that it may be, or was not done.
func followsMachine(s *StepState) bool {
	switch {
	case s.Status == StatusSkipped, forPeople(s.Step.Kind) && s.Status == StatusDone:
		return false
	case s.Step.Kind == StepRun:
		return s.Status != StatusDone || len(s.Step.Step.Done) > 0 || s.Step.Step.RepeatSafe
	}
	return true
}

// forPeople says that a step is about people and time, and never about a machine.
func forPeople(k StepKind) bool {
	return k == StepConfirm || k == StepMessage || k == StepPause
}

// unsafe says that a step was begun, nobody knows how far it got, and nothing says
// that doing it again does no harm.
func (s *StepState) unsafe() bool {
	return s.open && !s.repeat && isOnce(s.Step)
}

// isOnce says that a step is a command which does harm when it is done twice, for
// all that is known.
func isOnce(s PlannedStep) bool {
	return (s.Kind == StepRun || s.Kind == StepGuest) && len(s.Step.Done) == 0 && !s.Step.RepeatSafe
}

func closeDir(dir durable.Dir) {
	if c, ok := dir.(interface{ Close() error }); ok {
		c.Close()
	}
}
