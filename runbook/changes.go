package runbook

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Change is one thing that is not as it was at the run before.
type Change struct {
	// About is what it concerns: runbook, machines, disks, points, drives, hosts,
	// times or result.
	About string `json:"about"`
	What  string `json:"what"`
}

// noticed is by how much a time has to differ before it is a change: what varies
// from run to run is none.
const (
	noticedShare = 5 // a fifth
	noticedTime  = 5 * time.Second
	// shownLines is how many lines of a runbook that changed are shown of each kind.
	shownLines = 20
)

// Changes says what is not as it was at the run before.
func Changes(before, now *Record) []Change {
	all := []Change{}
	say := func(about, format string, args ...any) {
		all = append(all, Change{about, tidy(fmt.Sprintf(format, args...), 400)})
	}
	bookChanges(before, now, say)
	machineChanges(before, now, say)
	if was, is := driveNames(before), driveNames(now); was != is {
		say("drives", "read from %s, before from %s", orNone(is), orNone(was))
	}
	if was, is := hostNames(before), hostNames(now); was != is {
		say("hosts", "ran on %s, before on %s", orNone(is), orNone(was))
	}
	if before.OpenedWith != now.OpenedWith {
		say("drives", "the drive was opened with: %s, before: %s", orNone(now.OpenedWith), orNone(before.OpenedWith))
	}
	if before.Program != now.Program {
		say("hosts", "Lifeboat %s, before %s", now.Program, before.Program)
	}
	if before.Plan.Objectives != now.Plan.Objectives {
		say("runbook", "the objectives are RTO %s and RPO %s, before RTO %s and RPO %s", goal(now.Plan.Objectives.RTO), goal(now.Plan.Objectives.RPO),
			goal(before.Plan.Objectives.RTO), goal(before.Plan.Objectives.RPO))
	}
	if differs(before.RTA, now.RTA) {
		say("times", "RTA %s, before %s", spell(now.RTA), spell(before.RTA))
	}
	if was, is := before.Verdict(), now.Verdict(); was != is {
		say("result", "%s, before %s", is, was)
	}
	return all
}

// bookChanges shows the lines of the runbook that are new or gone.
func bookChanges(before, now *Record, say func(about, format string, args ...any)) {
	switch {
	case before.BookText == now.BookText:
		return
	case before.BookMeaning != now.BookMeaning:
		say("runbook", "it means something else: a drill of before does not make it ready")
	default:
		say("runbook", "its words changed, and not what it means")
	}
	was, is := strings.Split(before.BookText, "\n"), strings.Split(now.BookText, "\n")
	show := func(word string, lines, others []string) {
		left := linesOnlyIn(lines, others)
		for _, l := range left[:min(len(left), shownLines)] {
			say("runbook", "%s line: %s", word, strings.TrimSpace(l))
		}
		if len(left) > shownLines {
			say("runbook", "and %s more", plural(len(left)-shownLines, word+" line"))
		}
	}
	show("new", is, was)
	show("gone", was, is)
}

// linesOnlyIn are the lines that the others do not have as often.
func linesOnlyIn(lines, others []string) (left []string) {
	have := map[string]int{}
	for _, l := range others {
		have[strings.TrimSpace(l)]++
	}
	for _, l := range lines {
		l = strings.TrimSpace(l)
		have[l]--
		if have[l] < 0 && l != "" {
			left = append(left, l)
		}
	}
	return left
}

// machineChanges compares machine by machine, by their ids.
func machineChanges(before, now *Record, say func(about, format string, args ...any)) {
	was := map[string]MachineRecord{}
	for _, m := range before.Machines {
		was[m.ID] = m
	}
	for _, m := range now.Machines {
		old, known := was[m.ID]
		delete(was, m.ID)
		if !known {
			say("machines", "%s is new", m.Name)
			continue
		}
		machineChange(old, m, say)
	}
	for _, id := range slices.Sorted(maps.Keys(was)) {
		say("machines", "%s is not among them any more", was[id].Name)
	}
}

func machineChange(old, m MachineRecord, say func(about, format string, args ...any)) {
	if old.Name != m.Name {
		say("machines", "%s was called %s", m.Name, old.Name)
	}
	for _, d := range m.Disks {
		if !slices.Contains(old.Disks, d) {
			say("disks", "%s has a new disk %s", m.Name, d)
		}
	}
	for _, d := range old.Disks {
		if !slices.Contains(m.Disks, d) {
			say("disks", "%s has no disk %s any more", m.Name, d)
		}
	}
	if old.PointID != m.PointID {
		say("points", "%s came back from the point of %s, before from that of %s", m.Name, takenOn(m.TakenAt), takenOn(old.TakenAt))
	}
	if old.Host != m.Host {
		say("hosts", "%s ran on %s, before on %s", m.Name, m.Host, old.Host)
	}
	if old.Passed != m.Passed {
		say("result", "%s %s, before it %s", m.Name, passedWord(m.Passed), passedWord(old.Passed))
	}
	if m.Passed && old.Passed && differs(old.RTA, m.RTA) {
		say("times", "%s: RTA %s, before %s", m.Name, spell(m.RTA), spell(old.RTA))
	}
}

func differs(was, is time.Duration) bool {
	by := max(was-is, is-was)
	return by > noticedTime && by > was/noticedShare
}

func passedWord(passed bool) string {
	if passed {
		return "passed"
	}
	return "did not pass"
}

// takenOn is when a point was taken.
func takenOn(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// goal is an objective in words.
func goal(d time.Duration) string {
	if d <= 0 {
		return "none"
	}
	return spell(d)
}

func orNone(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

func driveNames(r *Record) string {
	var names []string
	for _, d := range r.Drives {
		names = append(names, d.Label)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func hostNames(r *Record) string {
	var names []string
	for _, h := range r.Hosts {
		names = append(names, h.Name+" ("+hostWords(h)+")")
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// hostWords says what a host is and how it runs machines.
func hostWords(h HostRecord) string {
	if h.KVM {
		return h.Kind + ", KVM"
	}
	return h.Kind + ", emulated (TCG)"
}
