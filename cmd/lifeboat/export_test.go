package main

import (
	"context"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

func TestNoMachineIsBegunAfterTheHourOrAStop(t *testing.T) {
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for _, c := range []struct {
		ctx   context.Context
		until time.Time
		want  string
	}{
		{t.Context(), time.Time{}, ""},
		{t.Context(), time.Now().Add(time.Hour), ""},
		{t.Context(), time.Now().Add(-time.Minute), "not tried: it was past "},
		{stopped, time.Time{}, "not tried: stopped"},
	} {
		if got := (&exportRun{a: &app{}, until: c.until}).tooLate(c.ctx); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("until %v: got %q, want %q", c.until, got, c.want)
		}
	}
}

func TestARunThatDidPartOfItsWorkNamesTheRest(t *testing.T) {
	good := exportResult{Machine: "db", Point: &lifeboat.RestorePoint{}}
	full := exportResult{Machine: "web", err: &lifeboat.Problem{What: "web: full", Safe: "s", Next: "n", Err: lifeboat.ErrDriveFull}}
	late := exportResult{Machine: "my files", Skipped: "not tried: it was past 07:00"}
	silent := exportResult{Machine: hostRow, err: errors.New("no answer")}
	for _, c := range []struct {
		results []exportResult
		code    int
		next    string
	}{
		{[]exportResult{good}, 0, ""},
		{[]exportResult{full}, 1, "n"},
		{[]exportResult{good, full, late}, 3, "read the lines above, then run: lifeboat export web 'my files'"},
		{[]exportResult{good, silent}, 3, "read the lines above, see what works: lifeboat host check, and run the export again"},
		{[]exportResult{late}, 3, "read the lines above, then run: lifeboat export 'my files'"},
	} {
		err := exportOutcome(t.Context(), c.results)
		if got := exitCode(err); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.results, got, c.code)
		}
		if err != nil && problemOf(err).Next != c.next {
			t.Errorf("got %q, want %q", problemOf(err).Next, c.next)
		}
	}
	stopped, stop := context.WithCancelCause(t.Context())
	stop(stoppedBy{os.Interrupt})
	if err := exportOutcome(stopped, []exportResult{good, late}); exitCode(err) != exitStopped || !errors.As(err, new(stoppedBy)) {
		t.Errorf("a stopped run ends with %d: %v", exitCode(err), err)
	}
}

func TestNobodyClaimsThatAMachineRunsWhichWasNotLetGo(t *testing.T) {
	good := exportResult{Machine: "db", Point: &lifeboat.RestorePoint{}}
	for _, c := range []struct {
		web  exportResult
		safe string
	}{
		{exportResult{err: lifeboat.ErrDriveFull}, "the machines are as they were"},
		{exportResult{err: lifeboat.ErrDriveFull, stuck: true}, "is not known: look at web"},
		{exportResult{err: hypervisor.ErrMachineGone}, "is not known: look at web"},
	} {
		c.web.Machine = "web"
		if got := problemOf(exportOutcome(t.Context(), []exportResult{good, c.web})).Safe; !strings.HasSuffix(got, c.safe) {
			t.Errorf("%+v: %q", c.web, got)
		}
	}
	for _, c := range []struct {
		job   exportJob
		stuck bool
		err   error
		want  string
	}{
		{exportJob{name: "web", host: "lab"}, false, lifeboat.ErrDriveFull, "web goes on running"},
		{exportJob{name: "web", host: "lab", off: true}, false, lifeboat.ErrDriveFull, "the disks of web were only read"},
		{exportJob{name: "pc"}, false, lifeboat.ErrDriveFull, "the disks of pc were only read"},
		{exportJob{name: "web", host: "lab"}, false, hypervisor.ErrMachineGone, "nothing was changed on the disks of web"},
		{exportJob{name: "web", host: "lab"}, true, lifeboat.ErrDriveFull, "whether web runs as before is not known, look at it"},
	} {
		if got := c.job.sourceAfter(c.stuck, c.err); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestWhatDrivesATerminalIsTakenOutOfNames(t *testing.T) {
	for in, want := range map[string]string{"Büro \"Ä\"": "Büro \"Ä\"", "red\x1b[31m": "red\uFFFD[31m", "a\u202eb": "a\uFFFDb", "a\tb\n": "a\tb\n", "x\x7fy\u0085z": "x\uFFFDy\uFFFDz"} {
		if got := plainText(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := table([]string{"MACHINE"}, [][]string{{"two\nlines"}}); got != "MACHINE\ntwo lines\n" {
		t.Errorf("a name takes more than its line: %q", got)
	}
}

func TestAHostsOwnLimitLeavesThePlacesToOthers(t *testing.T) {
	job := func(host, name string) exportJob { return exportJob{host: host, name: name} }
	turn := turns{limit: 3, perHost: map[string]int{"slow": 1, "lab": 0},
		waiting: []exportJob{job("slow", "a"), job("slow", "b"), job("lab", "c"), job("lab", "d"), job("lab", "e")}}
	begin := func(want string) {
		t.Helper()
		j, ok := turn.next()
		if !ok || j.name != want {
			t.Errorf("next is %q (%v), not %q", j.name, ok, want)
		}
	}
	begin("a")
	begin("c")
	begin("d")
	if j, ok := turn.next(); ok {
		t.Errorf("%s is a fourth", j.name)
	}
	turn.ended(job("lab", "c"))
	begin("e")
	turn.ended(job("slow", "a"))
	begin("b")
	turn.ended(job("lab", "d"))
	if j, ok := turn.next(); ok {
		t.Errorf("%s was begun twice", j.name)
	}
}

func TestWhatIsLeftOutIsNoFailure(t *testing.T) {
	good := exportResult{Machine: "db", Point: &lifeboat.RestorePoint{}}
	left := exportResult{Machine: "template", LeftOut: "left out in site.yaml: a template"}
	if err := exportOutcome(t.Context(), []exportResult{good, left}); err != nil {
		t.Errorf("got %v", err)
	}
	bad := exportResult{Machine: "web", err: errors.New("x")}
	if err := exportOutcome(t.Context(), []exportResult{good, left, bad}); err == nil || !strings.Contains(err.Error(), "1 of 2 machines") {
		t.Errorf("got %v", err)
	}
}

func TestOfTwoMachinesWithOneIDTheCopyIsNotExported(t *testing.T) {
	on := func(host, name, hostID string) machineOn {
		return machineOn{hypervisor.Listed{Machine: lifeboat.Machine{ID: "m1", Name: name}, HostID: hostID}, namedHost{name: host}}
	}
	web, twin := on("vc", "web", "1"), on("vc", "web2", "2")
	for _, c := range []struct {
		what      string
		booted    map[string]string
		exclude   []excludeFile
		recovery  string
		web, twin bool
	}{
		{what: "nobody knows which is the original"},
		{what: "one was booted by a run", booted: map[string]string{"vc/web2": "r"}, web: true},
		{what: "both were", booted: map[string]string{"vc/web": "r", "vc/web2": "r"}},
		{what: "one runs from a drive", recovery: "r", web: true},
		{what: "one is left out", exclude: []excludeFile{{Machine: "vc/web2"}}, web: true},
	} {
		twin := twin
		twin.Recovery = c.recovery
		s := sorting{site: &siteFile{Exclude: c.exclude}, all: []machineOn{web, twin}, booted: c.booted}
		if _, not := s.notExported(web, true); not == c.web {
			t.Errorf("%s: that web is exported is %v", c.what, !not)
		}
		if r, not := s.notExported(twin, true); not == c.twin {
			t.Errorf("%s: that its twin is exported is %v: %+v", c.what, !not, r)
		}
	}
}

func TestAMachineThatRunsInThePlaceOfItsOriginalIsNotForgotten(t *testing.T) {
	on := func(name, hostID string, power hypervisor.PowerState) machineOn {
		return machineOn{hypervisor.Listed{Machine: lifeboat.Machine{ID: "m1", Name: name}, HostID: hostID, Power: power}, namedHost{name: "vc"}}
	}
	const off, runs = hypervisor.PowerOff, hypervisor.PowerOn
	for _, c := range []struct {
		what                        string
		original, twin              hypervisor.PowerState
		excluded                    string
		problem, originalIn, twinIn bool // the copy is a problem; which of them is exported
	}{
		{what: "a drill beside production", original: runs, twin: runs, originalIn: true},
		{what: "a drill that ended", original: off, twin: off, originalIn: true},
		{what: "the original is off and its copy runs", original: off, twin: runs, problem: true},
		{what: "the copy goes on", original: off, twin: runs, excluded: "vc/web", twinIn: true},
		{what: "the original goes on", original: off, twin: runs, excluded: "vc/web2", originalIn: true},
	} {
		web, copied := on("web", "1", c.original), on("web2", "2", c.twin)
		s := sorting{site: &siteFile{}, all: []machineOn{web, copied}, booted: map[string]string{"vc/web2": "r"}}
		if c.excluded != "" {
			s.site.Exclude = []excludeFile{{Machine: c.excluded}}
		}
		r, not := s.notExported(copied, true)
		if not == c.twinIn || (r.err != nil) != c.problem {
			t.Errorf("%s: of the copy: not exported %v, %v", c.what, not, r.err)
		}
		if c.problem {
			for _, word := range []string{"exclude", "vc/web ", "machine link vc/web2 --new"} {
				if next := problemOf(r.err).Next; !strings.Contains(next, word) {
					t.Errorf("%s: %q is not in %q", c.what, word, next)
				}
			}
			if err := exportOutcome(t.Context(), []exportResult{r, {Machine: "db", Point: &lifeboat.RestorePoint{}}}); exitCode(err) != exitPartial {
				t.Errorf("%s: exit code %d", c.what, exitCode(err))
			}
		}
		if r, not := s.notExported(web, true); not == c.originalIn {
			t.Errorf("%s: of the original: not exported %v, %+v", c.what, not, r)
		}
	}
}

func TestATableSaysInAFewWordsWhatANoteSaysWhole(t *testing.T) {
	r := exportResult{Machine: "web", Point: &lifeboat.RestorePoint{ID: "0123456789", Consistency: lifeboat.ConsistentCrash}}
	r.noteThat("", "")
	note := "the guest's file systems were not frozen, it was exported as if its power had been cut: Guest agent is not responding: x"
	r.noteThat(firstClause(note), note)
	r.noteThat("not let go cleanly", "the machine could not be let go cleanly: x; the next export does it")
	row := r.row()
	if got := row[len(row)-1]; got != "the guest's file systems were not frozen; not let go cleanly" {
		t.Errorf("the table says %q", got)
	}
	if want := note + "; the machine could not be let go cleanly: x; the next export does it"; r.Note != want {
		t.Errorf("the note is %q", r.Note)
	}
	stopped := exportResult{Machine: "web", err: errors.New("the connection ended"), stopped: true}
	if row := stopped.row(); row[len(row)-1] != "stopped" {
		t.Errorf("a machine that somebody stopped is %q", row[len(row)-1])
	}
}

func TestAMachineThatCouldNotBeAskedKeepsItsAddresses(t *testing.T) {
	seen := time.Unix(1000, 0)
	before := []lifeboat.NIC{
		{MAC: "52:54:00:00:00:0A", Interface: "eth0", Addresses: []string{"10.1.0.10/24"}, Gateway: "10.1.0.1", DNS: []string{"10.1.0.2"}, SeenAt: seen},
		{MAC: "52:54:00:00:00:0b", Addresses: []string{"10.1.0.11/24"}, SeenAt: seen},
		{MAC: "52:54:00:00:00:0d", Addresses: []string{"10.1.0.13/24"}},
	}
	off := []lifeboat.NIC{{MAC: "52:54:00:00:00:0a", Network: "LAN"}, {MAC: "52:54:00:00:00:0b", Addresses: []string{"10.2.0.11/24"}}, {MAC: "52:54:00:00:00:0c"}, {MAC: "52:54:00:00:00:0d"}, {}}
	want := slices.Clone(off)
	want[0] = before[0]
	want[0].MAC, want[0].Network = off[0].MAC, "LAN"
	if got := withAddresses(off, before); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if off[0].Addresses != nil {
		t.Error("the host's own description was changed")
	}
}

// namedHost is a host that is only named.
type namedHost struct {
	hypervisor.Host
	name string
}

func (h namedHost) Name() string { return h.name }
