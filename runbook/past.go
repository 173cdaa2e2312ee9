package runbook

import (
	"slices"
	"strings"
)

// Verdict is how a run ended, in a word.
type Verdict string

// The verdicts: everything passed; everything passed, but it does not make a
// runbook ready; something did not pass; a person has to go on with it.
const (
	VerdictPassed  Verdict = "passed"
	VerdictPartial Verdict = "partial"
	VerdictFailed  Verdict = "failed"
	VerdictWaiting Verdict = "waiting"
)

// Verdict says how the run ended.
func (r *Record) Verdict() Verdict {
	waits := func(s StepRecord) bool { return s.Outcome == OutcomeWaiting }
	switch {
	case slices.ContainsFunc(r.Steps, waits):
		return VerdictWaiting
	case !r.Passed:
		return VerdictFailed
	case r.Partial != "":
		return VerdictPartial
	}
	return VerdictPassed
}

// Past is what later plans, readiness and trends go by of a run.
func (r *Record) Past() PastRun {
	p := PastRun{RunID: r.RunID, Book: r.Plan.Book, Meaning: r.BookMeaning, Mode: r.Mode, Began: r.Began, Passed: r.Passed && r.Verdict() != VerdictWaiting,
		Partial: r.Partial, RTA: r.RTA, Machines: map[string]Measured{}, Disks: map[string][]string{}, HostKind: r.HostKind(), Missed: r.Missed}
	for _, m := range r.Machines {
		p.Machines[m.Name], p.Disks[m.ID] = m.Measured, m.Disks
	}
	if len(r.Drives) > 0 {
		p.Drive = r.Drives[0].ID
	}
	return p
}

// HostKind is the kinds of the hosts that the run ran on, in the order of the
// alphabet: "libvirt" or "libvirt, qemu".
func (r *Record) HostKind() string {
	var kinds []string
	for _, h := range r.Hosts {
		kinds = append(kinds, h.Kind)
	}
	slices.Sort(kinds)
	return strings.Join(slices.Compact(kinds), ", ")
}
