package main

import (
	"fmt"

	"lifeboat"
	"lifeboat/hypervisor"
)

// sorting decides which of the hosts' machines are not exported.
type sorting struct {
	site *siteFile
	// all are the machines of all hosts, booted those that a run booted, by
	// HOST/NAME, with the run's id.
	all    []machineOn
	booted map[string]string
}

// place is a machine's host and name.
func (m machineOn) place() string { return m.host.Name() + "/" + m.Machine.Name }

// bootedHere lists the machines that were booted from drives and not removed
// again, as far as this state folder knows.
func (a *app) bootedHere() map[string]string {
	runs, err := a.bootedRuns()
	if err != nil {
		a.warn("which machines were booted from a drive is not known: %v", err)
	}
	booted := map[string]string{}
	for _, b := range runs {
		for _, m := range b.Machines {
			booted[b.hostOf(m).Name+"/"+m.Name] = b.Run
		}
	}
	return booted
}

// notExported says why a machine is not exported. What site.yaml leaves out can
// still be exported by its name.
func (s sorting) notExported(m machineOn, everything bool) (exportResult, bool) {
	r := exportResult{Machine: m.Machine.Name, Host: m.host.Name()}
	twin, hasTwin := s.twinOf(m)
	run, booted := s.booted[m.place()]
	beside := hasTwin && booted && s.booted[twin.place()] == ""
	switch left := s.site.leftOut(r.Host, r.Machine); {
	case left != "" && everything:
		r.LeftOut = left
	case m.Recovery != "":
		r.Skipped = "it still runs from a drive; move it to local disk first: lifeboat boot --resume " + short(m.Recovery) + " --settle"
	case m.Refused != "":
		r.err = &lifeboat.Problem{
			What: fmt.Sprintf("%s cannot be exported: %s", m.Machine.Name, m.Refused),
			Safe: "nothing was done to it; points that it has are whole",
			Next: "change that on its host, or leave it out: name it under exclude in site.yaml",
			Err:  hypervisor.ErrUnsupported,
		}
	case beside && twin.Power == hypervisor.PowerOff && m.Power != hypervisor.PowerOff:
		r.err = standInProblem(m, twin, run)
	case beside && everything:
		r.LeftOut = fmt.Sprintf("run %s booted it from a drive beside %s, which is exported", short(run), twin.place())
	case hasTwin:
		r.err = twinProblem(m, twin.place())
	case s.standIn(m) != "" && everything:
		r.LeftOut = fmt.Sprintf("it is off, and %s, booted from its point, runs in its place", s.standIn(m))
	default:
		return r, false
	}
	if r.err != nil {
		p := newProblemJSON("export", r.err)
		r.Problem = &p
	}
	return r, true
}

// twinOf finds another machine that has the same id and is exported. A
// machine that was copied together with its definition would share one history
// with the original, and each export would pass for the other's. One that runs
// from a drive, or is left out, is exported by nobody; and of two, of which one
// was booted by a run, the other is the original.
func (s sorting) twinOf(m machineOn) (twin machineOn, ok bool) {
	_, copied := s.booted[m.place()]
	for _, other := range s.all {
		if other.Machine.ID != m.Machine.ID || other.host.Name() == m.host.Name() && other.HostID == m.HostID {
			continue
		}
		_, otherCopied := s.booted[other.place()]
		if other.Recovery == "" && s.site.leftOut(other.host.Name(), other.Machine.Name) == "" && (copied || !otherCopied) {
			return other, true
		}
	}
	return machineOn{}, false
}

// standIn names the copy that a run booted and that runs in the place of m, which
// is off, or is "". A point of m would be older than what the copy did since, and
// pass for the newest.
func (s sorting) standIn(m machineOn) string {
	if m.Power != hypervisor.PowerOff || s.booted[m.place()] != "" {
		return ""
	}
	for _, other := range s.all {
		if other.Machine.ID == m.Machine.ID && other.Recovery == "" && other.Power != hypervisor.PowerOff && s.booted[other.place()] != "" &&
			s.site.leftOut(other.host.Name(), other.Machine.Name) == "" {
			return other.place()
		}
	}
	return ""
}

// standInProblem: a machine was recovered, its original is off, and nobody said
// yet which of the two goes on.
func standInProblem(m, original machineOn, run string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s, which run %s booted from a drive, runs in the place of %s, which is off: which of them goes on with the history is not said", m.place(), short(run), original.place()),
		Safe: "neither was exported; the points that there are of them are whole",
		Next: fmt.Sprintf("if %s goes on: name %s under exclude in site.yaml, or remove it from its host; if it was a trial: lifeboat machine link %s --new",
			m.place(), original.place(), shellWord(m.place())),
	}
}

// silentOriginal: the history that a machine would go on with is of another host,
// which does not say whether it still has that machine.
func silentOriginal(j exportJob, newest lifeboat.RestorePoint, drive string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s has the id of a machine whose newest point, of %s, came from host %s, and that host does not say whether it still has it: this one may be a copy",
			j.place(), stamp(newest.TakenAt), newest.Host),
		Safe: fmt.Sprintf("nothing was read of it; that point is whole on %s", drive),
		Next: fmt.Sprintf("let that host answer: lifeboat host check %s; if it is gone for good: lifeboat host remove %s; if this is a copy: lifeboat machine link %s --new",
			shellWord(newest.Host), shellWord(newest.Host), shellWord(j.place())),
	}
}

// place is a job's host and machine.
func (j exportJob) place() string { return j.host + "/" + j.name }

func twinProblem(m machineOn, twin string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s has the same id as %s: one is a copy of the other", m.Machine.Name, twin),
		Safe: fmt.Sprintf("%s was not exported; the points of the original are whole", m.place()),
		Next: "let the copy begin a history of its own: lifeboat machine link HOST/COPY --new; or leave it out: exclude in site.yaml",
	}
}
