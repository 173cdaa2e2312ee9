package runbook_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat"
	"lifeboat/fixtures/fakeworld"
	. "lifeboat/runbook"
)

// runFolder is a folder in memory where there is one: thousands of synced lines are
// no test of the disk.
func runFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "lifeboat-run-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var runBegan = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// plannedMachine has a point of the night before and two older ones.
func plannedMachine(name string) PlannedMachine {
	return PlannedMachine{Name: name, ID: "id-" + name, Tier: 1, Host: "alpha", MayRunOn: []string{"alpha", "beta"}, Memory: 1 << 20, CPUs: 1,
		Point:    lifeboat.RestorePoint{ID: name + "-new", TakenAt: runBegan.Add(-10 * time.Hour), Machine: lifeboat.Machine{Name: name, Disks: []lifeboat.Disk{{Key: "root"}}}},
		DriveIDs: []string{"A"}, OnFailure: FailStop, Checks: []Check{{Kind: CheckTCP, Port: 22}},
		Older: []OlderPoint{
			{PointID: name + "-old1", TakenAt: runBegan.Add(-34 * time.Hour), DriveIDs: []string{"B"}},
			{PointID: name + "-old2", TakenAt: runBegan.Add(-58 * time.Hour), DriveIDs: []string{"B"}},
		}}
}

// planOf is a plan on two hosts of machines that boot and are checked, and of more
// steps.
func planOf(machines []PlannedMachine, more ...PlannedStep) *Plan {
	p := &Plan{Book: "shop", Meaning: "m", Mode: Recover, Site: "Shop", Machines: machines,
		Hosts: []PlannedHost{
			{Name: "alpha", Kind: "qemu", KVM: true, MemoryBytes: 1 << 40, CPUs: 1000, Boots: 3},
			{Name: "beta", Kind: "qemu", KVM: true, MemoryBytes: 1 << 40, CPUs: 1000, Boots: 3},
		}}
	for _, m := range machines {
		p.Steps = append(p.Steps, step("boot-"+m.Name, StepBoot, m.Name), step("check-"+m.Name, StepCheck, m.Name, "boot-"+m.Name))
	}
	p.Steps = append(p.Steps, more...)
	return p
}

func step(id string, kind StepKind, machine string, after ...string) PlannedStep {
	return PlannedStep{ID: id, Kind: kind, Machine: machine, After: after, Tier: 1, Step: Step{ID: id, Line: 1, Kind: kind, Essential: true}}
}

// change is a step with something said about it.
func change(s PlannedStep, how func(*Step)) PlannedStep {
	how(&s.Step)
	return s
}

// options are what a run in a folder is executed with.
func options(folder string, p *Plan, w World) Options {
	return Options{Plan: p, World: w, Folder: folder, User: "ada",
		Start:  Start{RunID: "r1", Program: "test", Computer: "c", User: "ada", OpenedWith: "typed", BookText: "book"},
		Limits: Limits{Pause: time.Millisecond, HostWait: time.Millisecond}}
}

// mustWell says that nothing happened in a world that must not.
func mustWell(t interface {
	Helper()
	Fatalf(string, ...any)
}, w *fakeworld.World) {
	t.Helper()
	if wrong := w.Wrong(); len(wrong) > 0 {
		t.Fatalf("what must not happen: %s", strings.Join(wrong, "; "))
	}
}

func outcomes(r *Record) map[string]Outcome {
	all := map[string]Outcome{}
	for _, s := range r.Steps {
		all[s.ID] = s.Outcome
	}
	return all
}

// wholeBook is ten machines and every kind of step.
func wholeBook() *Plan {
	var machines []PlannedMachine
	for i := range 10 {
		machines = append(machines, plannedMachine(fmt.Sprintf("m%d", i)))
	}
	p := planOf(machines,
		step("declare", StepConfirm, ""),
		step("tell", StepMessage, "", "declare"),
		step("wait", StepPause, "", "tell"),
		change(step("dns", StepRun, "", "check-m0"), func(s *Step) { s.Done = []string{"probe"} }),
		change(step("mail", StepRun, "", "dns"), func(s *Step) { s.RepeatSafe = true }),
		step("notify", StepRun, "", "check-m1"),
		change(step("reindex", StepGuest, "m2", "check-m2"), func(s *Step) { s.Done = []string{"probe"} }),
		step("migrate", StepGuest, "m3", "check-m3"),
		step("stop-m4", StepShutdown, "m4", "check-m4"),
	)
	for i := range 10 {
		name := fmt.Sprintf("m%d", i)
		p.Steps = append(p.Steps, step("connect-"+name, StepConnect, name, "check-"+name))
		if i == 4 {
			p.Steps[slices.IndexFunc(p.Steps, func(s PlannedStep) bool { return s.ID == "stop-m4" })].After = []string{"connect-m4"}
		} else {
			p.Steps = append(p.Steps, step("settle-"+name, StepSettle, name, "connect-"+name))
		}
		if i > 0 {
			boot := slices.IndexFunc(p.Steps, func(s PlannedStep) bool { return s.ID == "boot-"+name })
			p.Steps[boot].After = []string{fmt.Sprintf("check-m%d", (i-1)/2)}
		}
	}
	return p
}

// ownSteps are those whose effect may come to pass once only.
func ownSteps(p *Plan) (ids []string) {
	for _, s := range p.Steps {
		switch s.Kind {
		case StepBoot, StepConnect, StepSettle, StepShutdown:
			ids = append(ids, s.ID)
		}
	}
	return append(ids, "dns", "reindex")
}

// finishRun resumes a run until it is done, as a person would: steps that nobody
// knows about are done again. It returns how often one had to decide.
func finishRun(t *testing.T, w *fakeworld.World, folder string) (asked int) {
	t.Helper()
	var repeat []string
	for range 10 {
		o := options(folder, nil, w.Process(0))
		o.Resume, o.Repeat = true, repeat
		r, err := Execute(t.Context(), o)
		if err == nil {
			return asked
		}
		if !errors.Is(err, ErrPerson) {
			t.Fatalf("resumed: %v", err)
		}
		repeat = nil
		for _, s := range r.Steps {
			if s.Outcome == OutcomeWaiting {
				repeat = append(repeat, s.ID)
			}
		}
		asked++
	}
	t.Fatal("the run does not end")
	return 0
}

// killed runs a plan until a process dies, after so many lines or effects; died is
// false when it ended before that.
func killed(t *testing.T, w *fakeworld.World, folder string, p *Plan, lines, effects int) (died bool) {
	t.Helper()
	process := w.Process(effects)
	o := options(folder, p, process)
	n := 0
	o.KillAt(func() error {
		// Asked twice a line: before it and after it.
		if n++; lines > 0 && n == 2*lines {
			process.Kill()
		}
		if process.Killed() {
			return fakeworld.ErrKilled
		}
		return nil
	})
	_, err := Execute(t.Context(), o)
	if err != nil && !process.Killed() {
		t.Fatal(err)
	}
	return process.Killed()
}

func checkOnce(t *testing.T, w *fakeworld.World, p *Plan, asked int) {
	t.Helper()
	mustWell(t, w)
	for _, id := range ownSteps(p) {
		if n := w.Effects(id); n != 1 {
			t.Fatalf("%s came to pass %d times", id, n)
		}
	}
	for _, id := range []string{"notify", "migrate"} {
		if n := w.Effects(id); n != 1 && (n != 2 || asked == 0) {
			t.Fatalf("%s came to pass %d times, and nobody had decided it", id, n)
		}
	}
	if n := w.Effects("mail"); n < 1 {
		t.Fatal("mail did not come to pass")
	}
}

// stride is how far apart the kills of a sweep are: with the race detector, which
// takes many times as long, each sixth is enough.
func stride() int {
	if testing.Short() {
		return 6
	}
	return 1
}

func TestKilledAfterEveryLineEachStepHappensOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for line := 1; ; line += stride() {
			w, folder, p := fakeworld.New(), runFolder(t), wholeBook()
			if !killed(t, w, folder, p, line, 0) {
				if line < 100 {
					t.Fatalf("the run has only %d lines", line)
				}
				return
			}
			t.Logf("killed after line %d", line)
			checkOnce(t, w, p, finishRun(t, w, folder))
		}
	})
}

func TestKilledAfterEveryEffectEachStepHappensOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for effect := 1; ; effect += stride() {
			w, folder, p := fakeworld.New(), runFolder(t), wholeBook()
			if !killed(t, w, folder, p, 0, effect) {
				if effect < 40 {
					t.Fatalf("the run has only %d effects", effect)
				}
				return
			}
			t.Logf("killed after effect %d", effect)
			checkOnce(t, w, p, finishRun(t, w, folder))
		}
	})
}

func TestARunThatHasBegunIsOnlyResumed(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	p := planOf([]PlannedMachine{plannedMachine("web")})
	if _, err := Execute(t.Context(), options(folder, p, w.Process(0))); err != nil {
		t.Fatal(err)
	}
	if _, err := Execute(t.Context(), options(folder, p, w.Process(0))); !errors.Is(err, ErrUsage) {
		t.Fatalf("begun a second time: %v", err)
	}
	o := options(runFolder(t), nil, w.Process(0))
	o.Resume = true
	if _, err := Execute(t.Context(), o); !errors.Is(err, ErrUsage) {
		t.Fatalf("resumed where nothing was begun: %v", err)
	}
}

func TestWhatCannotBeAskedForIsRefusedBeforeAnythingBegins(t *testing.T) {
	for name, ask := range map[string]func(*Options){
		"skip without a reason": func(o *Options) { o.Skip = map[string]string{"boot-web": " "} },
		"skip of no step":       func(o *Options) { o.Skip = map[string]string{"boot-wbe": "typo"} },
		"from no step":          func(o *Options) { o.FromStep = "boot-wbe" },
		"only of no machine":    func(o *Options) { o.Only = []string{"wbe"} },
		"repeat of no step":     func(o *Options) { o.Repeat = []string{"wbe"} },
	} {
		w := fakeworld.New()
		o := options(runFolder(t), planOf([]PlannedMachine{plannedMachine("web")}), w.Process(0))
		ask(&o)
		if _, err := Execute(t.Context(), o); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
		if w.Effects("boot-web") != 0 {
			t.Errorf("%s: something was begun", name)
		}
	}
}

func TestAPlanThatIsNoOrderIsRefused(t *testing.T) {
	web := []PlannedMachine{plannedMachine("web")}
	for words, p := range map[string]*Plan{
		"wait for each other": planOf(web, step("a", StepMessage, "", "b"), step("b", StepMessage, "", "a")),
		"no step of it":       planOf(web, step("a", StepMessage, "", "z")),
		"no machine of it":    planOf(web, step("a", StepShutdown, "z")),
		"two steps":           planOf(web, step("boot-web", StepMessage, "")),
	} {
		_, err := Execute(t.Context(), options(runFolder(t), p, fakeworld.New().Process(0)))
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
	}
}

func TestLeftOutForAReasonAndRecorded(t *testing.T) {
	w := fakeworld.New()
	p := planOf([]PlannedMachine{plannedMachine("db"), plannedMachine("web")}, step("insurer", StepConfirm, ""), step("note", StepMessage, "", "check-web"))
	o := options(runFolder(t), p, w.Process(0))
	o.Skip = map[string]string{"insurer": "called yesterday"}
	r, err := Execute(t.Context(), o)
	if err != nil || r.Steps[4].Outcome != OutcomeSkipped || r.Steps[4].Reason != "called yesterday" || r.Steps[4].Result.Who != "ada" {
		t.Fatalf("%v: %+v", err, r.Steps[4])
	}
	if !strings.Contains(r.Partial, "insurer") || !r.Passed {
		t.Errorf("passed %v, partial %q", r.Passed, r.Partial)
	}

	w = fakeworld.New()
	o = options(runFolder(t), p, w.Process(0))
	o.Only = []string{"db"}
	r, err = Execute(t.Context(), o)
	if err != nil || w.Effects("check-db") != 1 || w.Effects("boot-web")+w.Effects("insurer")+w.Effects("note") != 0 {
		t.Fatalf("only db: %v: %v", err, w.Finished())
	}
	if len(r.Machines) != 1 || r.Machines[0].Name != "db" || r.Partial == "" {
		t.Errorf("only db: %+v, partial %q", r.Machines, r.Partial)
	}

	w = fakeworld.New()
	o = options(runFolder(t), p, w.Process(0))
	o.FromStep = "note"
	if _, err = Execute(t.Context(), o); err != nil || w.Effects("boot-web")+w.Effects("check-web") != 0 || w.Effects("note")*w.Effects("check-db") != 1 {
		t.Fatalf("from note: %v: %v", err, w.Finished())
	}
}

func TestConfirmWithoutATerminalWaitsAndTheOtherBranchesGoOn(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	w.Terminal = false
	p := planOf([]PlannedMachine{plannedMachine("db"), plannedMachine("web")}, step("declare", StepConfirm, ""), step("tell", StepMessage, "", "declare"))
	p.Steps[2].After = []string{"declare"} // boot-web
	r, err := Execute(t.Context(), options(folder, p, w.Process(0)))
	if !errors.Is(err, ErrPerson) {
		t.Fatal(err)
	}
	got := outcomes(r)
	if got["check-db"] != OutcomeDone || got["declare"] != OutcomeWaiting || got["boot-web"] != OutcomeNotRun || r.Passed {
		t.Fatalf("passed %v: %v", r.Passed, got)
	}
	var problem *lifeboat.Problem
	if !errors.As(err, &problem) || !strings.Contains(problem.Next, "lifeboat recover --resume r1") {
		t.Errorf("%+v", problem)
	}
	w.Terminal = true
	o := options(folder, nil, w.Process(0))
	o.Resume = true
	if r, err = Execute(t.Context(), o); err != nil || !r.Passed {
		t.Fatalf("resumed: %v", err)
	}
	if r.Steps[4].Result.Who != "Eva Lindt" {
		t.Errorf("who said yes: %+v", r.Steps[4].Result)
	}
	mustWell(t, w)
}

func TestTwoProcessesDoNotWorkOnOneRun(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	p := planOf([]PlannedMachine{plannedMachine("web")})
	var inner error
	w.Fail = func(a Action) error {
		o := options(folder, nil, w.Process(0))
		o.Resume = true
		_, inner = Execute(context.Background(), o)
		return nil
	}
	if _, err := Execute(t.Context(), options(folder, p, w.Process(0))); err != nil {
		t.Fatal(err)
	}
	if inner == nil || !strings.Contains(inner.Error(), "locked") {
		t.Errorf("the second: %v", inner)
	}
}
