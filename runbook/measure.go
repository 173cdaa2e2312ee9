package runbook

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MakeRecord says what came of a run, as far as it got: also of one that was killed
// or that goes on.
//
// A machine's RTA is from the command to the end of its last check, in a recovery
// also of being plugged in: before that nobody reaches it. Its parts add up to it. What a person took to confirm is in it, and shown apart.
func MakeRecord(r *Run) *Record {
	if r.passed != nil {
		again := *r.passed
		again.Later = slices.Clone(r.later)
		return &again
	}
	hash := sha256.Sum256([]byte(r.Start.BookText))
	rec := &Record{
		Version: Version, RunID: r.Start.RunID, Mode: r.Plan.Mode, Began: r.Start.Began,
		Program: r.Start.Program, Computer: r.Start.Computer, User: r.Start.User,
		Declared: r.Start.Declared, Reason: r.Start.Reason, OpenedWith: r.Start.OpenedWith,
		BookText: r.Start.BookText, BookHash: hex.EncodeToString(hash[:]), BookMeaning: r.Plan.Meaning,
		Plan: *r.Plan, Hosts: r.Start.Hosts, Drives: r.Start.Drives, Lead: r.Plan.Lead,
		Steps: r.stepRecords(), Machines: []MachineRecord{},
	}
	if r.Ended != "" {
		rec.Ended = r.at(r.Since)
	}
	people := r.waitedForPeople()
	last := time.Duration(0)
	for i := range r.Machines {
		if m, wanted := r.machineRecord(&r.Machines[i], people); wanted {
			rec.Machines = append(rec.Machines, m)
			last = max(last, m.RTA)
		}
	}
	for i := range r.Steps {
		if s := &r.Steps[i]; r.isBack(s.Step.Kind) && s.Status == StatusDone {
			last = max(last, s.Ended)
		}
	}
	rec.RTA = last
	rec.PersonWait = people.within(spans{{0, last}}).length()
	rec.Missed = missed(rec)
	rec.Partial = r.partial()
	rec.NotRepresentative = r.notRepresentative()
	rec.Passed = r.hasPassed(rec)
	return rec
}

// isBack says that a machine is back when a step of that kind is done: its checks
// passed, and in a recovery it is plugged in.
func (r *Run) isBack(k StepKind) bool {
	return k == StepCheck || k == StepConnect && r.Plan.Mode == Recover
}

// at is a moment of the run on the clock of its beginning.
func (r *Run) at(since time.Duration) time.Time { return r.Start.Began.Add(since) }

// stepRecords are the steps as they went.
func (r *Run) stepRecords() []StepRecord {
	all := []StepRecord{}
	for i := range r.Steps {
		s := &r.Steps[i]
		rec := StepRecord{ID: s.Step.ID, Kind: s.Step.Kind, Machine: s.Step.Machine, Outcome: s.outcome(), Attempts: s.Attempts,
			Problem: s.Problem, Reason: s.Reason, Result: s.Result, Evidence: s.Evidence}
		if s.Status == StatusSkipped {
			rec.Result.Who = s.Who
		}
		if s.Attempts > 0 {
			rec.Began = r.at(s.Began)
		}
		if s.Ended > 0 {
			rec.Ended = r.at(s.Ended)
		}
		all = append(all, rec)
	}
	return all
}

// outcome is how a step stands. One that was cut off has not come to pass; its
// problem says what was seen last.
func (s *StepState) outcome() Outcome {
	switch s.Status {
	case StatusDone:
		return OutcomeDone
	case StatusFailed:
		return OutcomeFailed
	case StatusSkipped:
		return OutcomeSkipped
	case StatusWaiting:
		return OutcomeWaiting
	}
	return OutcomeNotRun
}

// waitedForPeople is when confirm steps waited, also while no process ran.
func (r *Run) waitedForPeople() spans {
	var all spans
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.Step.Kind != StepConfirm || s.Attempts == 0 {
			continue
		}
		end := s.Ended
		if s.Status != StatusDone && s.Status != StatusFailed && s.Status != StatusSkipped {
			end = r.Since
		}
		all = append(all, span{s.First, end})
	}
	return all.joined()
}

// machineRecord measures one machine; wanted is false for one that was left out.
func (r *Run) machineRecord(m *MachineState, people spans) (rec MachineRecord, wanted bool) {
	rec = MachineRecord{Name: m.Name, ID: m.ID, Tier: m.Tier, PointID: m.Point.ID, TakenAt: m.Point.TakenAt, Host: m.Host,
		Objectives: m.Objectives, Disks: []string{}, Passed: true}
	for _, d := range m.Point.Machine.Disks {
		// Of an older point its disks are not known: none of them counts as rehearsed.
		if d.Excluded == "" && m.Back == 0 {
			rec.Disks = append(rec.Disks, d.Key)
		}
	}
	if m.Back > 0 {
		rec.WentBack = m.why
	}
	rec.RPA = max(0, r.Start.Began.Sub(m.Point.TakenAt))
	for _, i := range r.about(m.Name) {
		s := &r.Steps[i]
		wanted = wanted || s.Status != StatusSkipped
		if s.Step.Kind != StepBoot && !r.isBack(s.Step.Kind) {
			continue
		}
		rec.ReadBytes += s.Result.ReadBytes
		told := s.Status == StatusFailed && s.fate == fateTold
		rec.Passed = rec.Passed && (told || s.Status == StatusDone)
		if s.Step.Kind == StepBoot {
			rec.Form = s.Result.Form
		}
		if s.Step.Kind == StepCheck {
			rec.Checked += r.checksOf(s)
			if s.Evidence != (Evidence{}) {
				rec.Evidence = s.Evidence
			}
		} else if s.Step.Kind == StepBoot && rec.Evidence == (Evidence{}) {
			rec.Evidence = s.Evidence
		}
	}
	if rec.Passed && wanted {
		rec.RTA, rec.Spent = r.spent(m, people)
	}
	return rec, wanted
}

// checksOf is how many checks a step asked.
func (r *Run) checksOf(s *StepState) int {
	if n := len(s.Step.Step.Checks); n > 0 {
		return n
	}
	return len(r.machine(s.Step.Machine).Checks)
}

// spent says how long a machine took until its last check, and where that went.
func (r *Run) spent(m *MachineState, people spans) (time.Duration, map[Spending]time.Duration) {
	var boot, others, tries spans
	var told []map[Spending]time.Duration
	var rta time.Duration
	for _, i := range r.about(m.Name) {
		s := &r.Steps[i]
		tries = append(tries, s.earlier...)
		if s.Status != StatusDone {
			continue
		}
		switch s.Step.Kind {
		case StepBoot:
			boot = append(boot, span{s.Began, s.Ended})
			told = append(told, s.Result.Spent)
			rta = max(rta, s.Ended)
		case StepCheck:
			others = append(others, span{s.Began, s.Ended})
			rta = max(rta, s.Ended)
		case StepConnect:
			others = append(others, span{s.Began, s.Ended})
			if r.isBack(StepConnect) {
				rta = max(rta, s.Ended)
			}
		case StepGuest, StepRun:
			others = append(others, span{s.Began, s.Ended})
		}
	}
	all := spans{{0, rta}}
	boot = boot.within(all)
	others = others.within(all).without(boot)
	tries = tries.within(all).without(boot).without(others)
	people = people.within(all).without(boot).without(others).without(tries)
	sum := map[Spending]time.Duration{}
	add := func(to Spending, d time.Duration) {
		if d > 0 {
			sum[to] += d
		}
	}
	rest := boot.length()
	for _, t := range told {
		for _, part := range []Spending{SpentFind, SpentOpen, SpentDefine, SpentWaiting} {
			d := min(t[part], rest)
			add(part, d)
			rest -= d
		}
	}
	add(SpentBoot, rest)
	add(SpentService, others.length())
	add(SpentTries, tries.length())
	add(SpentPerson, people.length())
	add(SpentWaiting, rta-boot.length()-others.length()-tries.length()-people.length())
	return rta, sum
}

// missed says in words which objectives were not met. What was declared as lead
// time counts: the company waits for that too.
func missed(rec *Record) []string {
	var all []string
	late := func(who string, rto, rta time.Duration) {
		switch {
		case rto <= 0 || rta+rec.Lead <= rto:
		case rec.Lead > 0:
			all = append(all, fmt.Sprintf("%s: RTO %s, and it took %s with the declared %s", who, days(rto), days(rta+rec.Lead), days(rec.Lead)))
		default:
			all = append(all, fmt.Sprintf("%s: RTO %s, and it took %s", who, days(rto), days(rta)))
		}
	}
	back := len(rec.Machines) > 0
	for _, m := range rec.Machines {
		back = back && m.Passed
		if m.Passed {
			late(m.Name, m.Objectives.RTO, m.RTA)
		} else if m.Objectives.RTO > 0 {
			all = append(all, fmt.Sprintf("%s: RTO %s, and it did not come back", m.Name, days(m.Objectives.RTO)))
		}
		if rpo := m.Objectives.RPO; rpo > 0 && rec.Began.Before(m.TakenAt) {
			all = append(all, fmt.Sprintf("%s: RPO %s, and how old its data was is not known: by the clock of this computer the run began before its point was taken", m.Name, days(rpo)))
		} else if rpo > 0 && m.RPA > rpo {
			all = append(all, fmt.Sprintf("%s: RPO %s, and its data was %s old", m.Name, days(rpo), days(m.RPA)))
		}
	}
	if back {
		late("in all", rec.Plan.Objectives.RTO, rec.RTA)
	} else if rto := rec.Plan.Objectives.RTO; rto > 0 {
		all = append(all, fmt.Sprintf("in all: RTO %s, and not every machine came back", days(rto)))
	}
	return all
}

// days says a time as people do.
func days(d time.Duration) string {
	if d < 48*time.Hour {
		words := d.Round(time.Second).String()
		for _, end := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(words, end) {
				words = words[:len(words)-2]
			}
		}
		return words
	}
	return fmt.Sprintf("%.1f days", d.Hours()/24)
}

// partial says why a run does not make its runbook ready even if it passed.
func (r *Run) partial() string {
	var why []string
	if w := r.Start.OpenedWith; w != "typed" && w != "sheet" {
		why = append(why, "the drive was not opened with the secret of people, typed or from the sheet")
	}
	var skipped []string
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Status == StatusSkipped {
			skipped = append(skipped, s.Step.ID)
		}
	}
	if n := len(skipped); n > 3 {
		skipped = append(skipped[:3], fmt.Sprintf("%d more", n-3))
	}
	if len(skipped) > 0 {
		why = append(why, "left out: "+strings.Join(skipped, ", "))
	}
	for i := range r.Machines {
		if m := &r.Machines[i]; m.Back > 0 {
			why = append(why, m.Name+" did not come back from its newest point: "+m.why)
		}
	}
	return strings.Join(why, "; ")
}

// notRepresentative says why the times are not those of a recovery.
func (r *Run) notRepresentative() string {
	var why []string
	if w := r.Start.NotRepresentative; w != "" {
		why = append(why, w)
	}
	var slow []string
	for i := range r.Machines {
		if m := &r.Machines[i]; r.Start.Began.Before(m.Point.TakenAt) && m.touched {
			why = append(why, fmt.Sprintf("the clock of this computer is behind: the run began before the point of %s was taken", m.Name))
			break
		}
	}
	for i := range r.Machines {
		m := &r.Machines[i]
		for _, h := range r.Plan.Hosts {
			if h.Name == m.Host && !h.KVM && m.touched && !slices.Contains(slow, h.Name) {
				slow = append(slow, h.Name)
			}
		}
	}
	if len(slow) > 0 {
		why = append(why, "without hardware virtualisation on "+strings.Join(slow, ", "))
	}
	return strings.Join(why, "; ")
}

// hasPassed says that every check passed and each objective was met.
func (r *Run) hasPassed(rec *Record) bool {
	if len(rec.Missed) > 0 || len(rec.Machines) == 0 {
		return false
	}
	for _, m := range rec.Machines {
		if !m.Passed {
			return false
		}
	}
	waiting, failed, _, open := r.bad()
	if len(waiting)+len(failed)+open > 0 {
		return false
	}
	return !slices.ContainsFunc(r.Steps, func(s StepState) bool { return s.Status == StatusFailed && s.fate == fateContinue })
}
