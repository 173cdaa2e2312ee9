package runbook_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat"
	"lifeboat/fixtures/fakeworld"
	. "lifeboat/runbook"
)

// machinesOf are planned machines, each with something said about it.
func machinesOf(how func(*PlannedMachine), names ...string) []PlannedMachine {
	var all []PlannedMachine
	for _, name := range names {
		m := plannedMachine(name)
		if how != nil {
			how(&m)
		}
		all = append(all, m)
	}
	return all
}

func after(p *Plan, id string, before ...string) {
	i := slices.IndexFunc(p.Steps, func(s PlannedStep) bool { return s.ID == id })
	p.Steps[i].After = append(p.Steps[i].After, before...)
}

// failing makes a step fail with an error as long as a condition holds.
func failing(id string, err error, while func(Action) bool) func(Action) error {
	return func(a Action) error {
		if a.Step.ID == id && (while == nil || while(a)) {
			return err
		}
		return nil
	}
}

func TestAFailureStopsWhatNeedsItAndNothingElse(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("check-db", ErrCheckFailed, nil)
	p := planOf(machinesOf(nil, "db", "web", "files"))
	after(p, "boot-web", "check-db")
	r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
	if !errors.Is(err, ErrFailed) || errors.Is(err, ErrPerson) {
		t.Fatal(err)
	}
	got := outcomes(r)
	if got["check-db"] != OutcomeFailed || got["boot-web"] != OutcomeNotRun || got["check-files"] != OutcomeDone || r.Passed {
		t.Fatalf("passed %v: %v", r.Passed, got)
	}
	if w.Looks("db") != 1 || r.Machines[0].Evidence.Screenshot != "db.png" {
		t.Errorf("the console of what failed was not kept: %+v", r.Machines[0])
	}
}

func TestContinueGoesOnWithoutTheMachine(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("check-db", ErrCheckFailed, nil)
	p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailContinue }, "db", "web"),
		step("connect-db", StepConnect, "db", "check-db"))
	after(p, "boot-web", "connect-db")
	r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
	if !errors.Is(err, lifeboat.ErrPartial) {
		t.Fatal(err)
	}
	got := outcomes(r)
	if got["check-web"] != OutcomeDone || got["connect-db"] != OutcomeNotRun || r.Passed {
		t.Fatalf("passed %v: %v", r.Passed, got)
	}
}

func TestAStepThatDoesNotMatterIsOnlyTold(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("mail", errors.New("no route"), nil)
	mail := change(step("mail", StepRun, ""), func(s *Step) { s.Essential = false })
	p := planOf(machinesOf(nil, "web"), mail, step("bye", StepMessage, "", "mail"))
	r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
	if !errors.Is(err, lifeboat.ErrPartial) || outcomes(r)["bye"] != OutcomeDone || !r.Passed {
		t.Fatalf("%v: passed %v: %v", err, r.Passed, outcomes(r))
	}
}

func TestACheckThatFlapsIsTriedAgainAsOftenAsItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			fails int
			want  Outcome
		}{{2, OutcomeDone}, {3, OutcomeFailed}} {
			w := fakeworld.New()
			w.Fail = failing("check-web", ErrCheckFailed, func(a Action) bool { return a.Attempt <= c.fails })
			p := planOf(machinesOf(nil, "web"))
			p.Steps[1] = change(p.Steps[1], func(s *Step) { s.Retries = 2 })
			began := time.Now()
			o := options(runFolder(t), p, w.Process(0))
			o.Limits = Limits{}
			r, err := Execute(t.Context(), o)
			if r.Steps[1].Outcome != c.want || r.Steps[1].Attempts != 3 || w.Looks("web") != 3 {
				t.Fatalf("%d failures: %v: %+v", c.fails, err, r.Steps[1])
			}
			if d := time.Since(began); d < 15*time.Second {
				t.Errorf("tried thrice within %v", d)
			}
		}
	})
}

func TestAnOlderPointIsTakenForTheWholeGroup(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		w := fakeworld.New()
		w.Fail = failing("check-db", ErrCheckFailed, func(a Action) bool { return a.Machine.Point.ID != "db-old2" })
		p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOlderPoint }, "app", "db", "files"))
		p.Mode = Drill
		p.Groups = []PlannedGroup{{Name: "shop", Machines: []string{"db", "app"}, Allowed: allowed}}
		after(p, "boot-db", "check-app")
		folder := runFolder(t)
		r, err := Execute(t.Context(), options(folder, p, w.Process(0)))
		if err != nil || !r.Passed {
			t.Fatalf("allowed %v: %v", allowed, err)
		}
		mustWell(t, w)
		want := map[string]string{"app": "app-old2", "db": "db-old2", "files": "files-new"}
		if allowed {
			want["app"] = "app-new"
		}
		for name, point := range want {
			if m, _ := w.Machine(name); m.PointID != point {
				t.Errorf("allowed %v: %s came back from %s, not %s", allowed, name, m.PointID, point)
			}
		}
		if m := r.Machines[1]; m.PointID != "db-old2" || m.RPA != r.Began.Sub(runBegan.Add(-58*time.Hour)) && m.RPA != 0 {
			t.Errorf("the record says %+v", m)
		}
		if m, _ := ReadRun(folder); m.Machines[1].DriveIDs[0] != "B" {
			t.Errorf("the older point is read from %v", m.Machines[1].DriveIDs)
		}
	}
}

func TestNoOlderPointIsLeft(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("check-db", ErrCheckFailed, nil)
	p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOlderPoint }, "app", "db"))
	p.Machines[0].Older = p.Machines[0].Older[:1]
	p.Mode = Drill
	p.Groups = []PlannedGroup{{Name: "shop", Machines: []string{"db", "app"}}}
	after(p, "boot-db", "check-app")
	r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
	if !errors.Is(err, ErrFailed) || w.Effects("boot-db") != 2 || w.Effects("boot-app") != 2 || r.Machines[1].PointID != "db-old1" {
		t.Fatalf("%v: db %d, app %d, %+v", err, w.Effects("boot-db"), w.Effects("boot-app"), r.Machines[1])
	}
	mustWell(t, w)
}

func TestAMachineThatCannotBeTakenAwayDoesNotComeBackTwice(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("check-db", ErrCheckFailed, nil)
	w.UndoFails = errors.New("the host says no")
	p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOlderPoint }, "db", "web"))
	_, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "the host says no") || w.Effects("boot-db") != 1 || w.Effects("check-web") != 1 {
		t.Fatalf("%v: %v", err, w.Finished())
	}
}

func TestAMachineThatMissesItsDiskIsBuiltWithAnotherBus(t *testing.T) {
	for name, way := range map[string]OnFailure{"whatever the runbook says": FailStop, "asked for": FailOtherBus} {
		w := fakeworld.New()
		w.Fail = func(a Action) error {
			if a.Step.ID == "check-web" && a.Form < 2 {
				return ErrNoRoot
			}
			return nil
		}
		p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = way }, "web"))
		r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
		if err != nil || r.Machines[0].Form != "form 2" || len(w.Undone()) != 2 {
			t.Fatalf("%s: %v: %+v", name, err, r.Machines)
		}
		mustWell(t, w)
	}
	w := fakeworld.New()
	w.Fail = func(a Action) error {
		switch {
		case a.Step.Kind == StepBoot && a.Form > 2:
			return ErrNoForm
		case a.Step.Kind == StepCheck && a.Machine.Point.ID == "web-new":
			return ErrCheckFailed
		}
		return nil
	}
	p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOtherBus }, "web"))
	if _, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0))); !errors.Is(err, ErrFailed) || w.Effects("boot-web") != 3 {
		t.Fatalf("no form is left: %v, booted %d times", err, w.Effects("boot-web"))
	}
}

func TestAnAddressInUseStopsThatMachineAndIsNeverTriedAgain(t *testing.T) {
	w := fakeworld.New()
	tries := 0
	w.Fail = func(a Action) error {
		if a.Step.ID == "connect-web" {
			tries++
			return fmt.Errorf("web: 10.0.5.20 answers with 52:54:00:00:00:20: %w", ErrAddressInUse)
		}
		return nil
	}
	p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOlderPoint }, "web", "db"),
		change(step("connect-web", StepConnect, "web", "check-web"), func(s *Step) { s.Retries = 5 }), step("connect-db", StepConnect, "db", "check-db"))
	_, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "10.0.5.20") || tries != 1 || w.Effects("connect-db") != 1 || len(w.Undone()) != 0 {
		t.Fatalf("%v: %d tries, %v", err, tries, w.Finished())
	}
}

func TestAPersonWhoSaysNoIsNotAskedAgain(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("declare", ErrRefused, nil)
	p := planOf(machinesOf(nil, "web"), change(step("declare", StepConfirm, ""), func(s *Step) { s.Retries = 3 }))
	after(p, "boot-web", "declare")
	r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
	if !errors.Is(err, ErrFailed) || outcomes(r)["boot-web"] != OutcomeNotRun || r.Steps[2].Attempts != 1 {
		t.Fatalf("%v: %v", err, outcomes(r))
	}
}

func TestTheMachinesOfALostHostBeginAnewElsewhere(t *testing.T) {
	w := fakeworld.New()
	p := planOf(machinesOf(nil, "db", "web", "files"), step("connect-db", StepConnect, "db", "check-db"))
	p.Mode = Drill
	p.Machines[2].Host = "beta"
	after(p, "boot-web", "connect-db")
	w.Fail = func(a Action) error {
		if a.Step.ID == "boot-web" && a.Machine.Host == "alpha" {
			w.KillHost("alpha")
		}
		return nil
	}
	folder := runFolder(t)
	r, err := Execute(t.Context(), options(folder, p, w.Process(0)))
	if err != nil || !r.Passed {
		t.Fatal(err)
	}
	mustWell(t, w)
	for _, name := range []string{"db", "web", "files"} {
		if m, ok := w.Machine(name); !ok || m.Host != "beta" || !m.Running {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if m, _ := w.Machine("db"); !m.Connected || w.Effects("boot-files") != 1 || r.Machines[0].Host != "beta" {
		t.Errorf("db %+v, files booted %d times, record %+v", m, w.Effects("boot-files"), r.Machines[0])
	}
}

func TestAMachineThatHasNoOtherHostIsNamed(t *testing.T) {
	w := fakeworld.New()
	p := planOf(machinesOf(nil, "db", "web"))
	p.Machines[0].MayRunOn, p.Machines[1].Host = []string{"alpha"}, "beta"
	w.Fail = func(a Action) error {
		if a.Step.ID == "check-db" {
			w.KillHost("alpha")
		}
		return nil
	}
	r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "no other has room") || outcomes(r)["check-web"] != OutcomeDone {
		t.Fatalf("%v: %v", err, outcomes(r))
	}
}

func TestAHostThatComesAndGoesIsTriedAgain(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("boot-web", ErrHostGone, func(a Action) bool { return a.Attempt <= 2 })
	r, err := Execute(t.Context(), options(runFolder(t), planOf(machinesOf(nil, "web")), w.Process(0)))
	if err != nil || r.Machines[0].Host != "alpha" || r.Steps[0].Attempts != 3 {
		t.Fatalf("%v: %+v", err, r.Steps[0])
	}
}

func TestARunThatHangsIsEndedAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fakeworld.New()
		w.Cost = func(a Action) time.Duration {
			if a.Step.ID == "hang" {
				return 1000 * time.Hour
			}
			return time.Second
		}
		p := planOf(machinesOf(nil, "web"), change(step("hang", StepRun, ""), func(s *Step) { s.Limit = 90 * time.Second }), step("bye", StepMessage, "", "hang"))
		r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
		if !errors.Is(err, ErrFailed) || outcomes(r)["check-web"] != OutcomeDone || outcomes(r)["bye"] != OutcomeNotRun {
			t.Fatalf("%v: %v", err, outcomes(r))
		}
		if s := r.Steps[2]; s.Ended.Sub(s.Began) != 90*time.Second || !strings.Contains(s.Problem, "within 1m30s") {
			t.Errorf("%+v", s)
		}
	})
}

func TestStoppedByAPersonItCanBeResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, folder := fakeworld.New(), runFolder(t)
		w.Cost = func(Action) time.Duration { return time.Minute }
		ctx, stop := context.WithTimeout(t.Context(), 90*time.Second)
		defer stop()
		p := planOf(machinesOf(nil, "web"), step("note", StepRun, "", "boot-web"))
		r, err := Execute(ctx, options(folder, p, w.Process(0)))
		if !errors.Is(err, context.DeadlineExceeded) || outcomes(r)["boot-web"] != OutcomeDone || outcomes(r)["check-web"] != OutcomeNotRun {
			t.Fatalf("%v: %v", err, outcomes(r))
		}
		if asked := finishRun(t, w, folder); asked != 1 || w.Effects("boot-web") != 1 || w.Effects("note") != 1 {
			t.Fatalf("asked %d times: %v", asked, w.Finished())
		}
	})
}

func TestAfterAPowerCutMachinesStartAgainOnWhatTheyWrote(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	p := planOf(machinesOf(nil, "db", "web"), step("rows", StepGuest, "db", "check-db"), step("settle-web", StepSettle, "web", "check-web"))
	if _, err := Execute(t.Context(), options(folder, p, w.Process(0))); err != nil {
		t.Fatal(err)
	}
	first, _ := ReadRecord(folder)
	w.CutPower()
	finishRun(t, w, folder)
	mustWell(t, w)
	m, _ := w.Machine("db")
	if !m.Running || len(m.Wrote) != 1 || w.Effects("boot-db") != 2 || w.Effects("rows") != 1 || len(w.Undone()) != 0 {
		t.Fatalf("%+v: booted %d times, rows %d", m, w.Effects("boot-db"), w.Effects("rows"))
	}
	if w.Effects("boot-web") != 1 {
		t.Error("a settled machine starts with its host, and was booted again")
	}
	if again, _ := ReadRecord(folder); again.RTA != first.RTA || again.Machines[0].RTA != first.Machines[0].RTA {
		t.Errorf("a later start changed what was measured: %v, %v", first.RTA, again.RTA)
	}
}

func TestADrillAfterAPowerCutBeginsFromThePoint(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	w.Terminal = false
	p := planOf(machinesOf(nil, "db"), step("rows", StepGuest, "db", "check-db"), step("look", StepConfirm, "", "rows"))
	p.Mode = Drill
	if _, err := Execute(t.Context(), options(folder, p, w.Process(0))); !errors.Is(err, ErrPerson) {
		t.Fatal(err)
	}
	w.CutPower()
	w.Terminal = true
	finishRun(t, w, folder)
	mustWell(t, w)
	if m, _ := w.Machine("db"); len(m.Wrote) != 1 || len(w.Undone()) != 1 || w.Effects("rows") != 2 {
		t.Fatalf("%+v: taken away %v", m, w.Undone())
	}
	// A drill that passed is over: its machines are gone, and nothing starts them.
	w.CutPower()
	finishRun(t, w, folder)
	if w.Effects("boot-db") != 2 {
		t.Error("a drill that had passed was begun again")
	}
}

func TestWhatCannotBeLookedAtFailsNothing(t *testing.T) {
	w := fakeworld.New()
	w.LookFails = errors.New("no screen")
	if r, err := Execute(t.Context(), options(runFolder(t), planOf(machinesOf(nil, "web")), w.Process(0))); err != nil || !r.Passed {
		t.Fatal(err)
	}
}

func TestAFailedRunIsResumedWhereItFailed(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	broken := true
	w.Fail = failing("check-db", ErrCheckFailed, func(Action) bool { return broken })
	p := planOf(machinesOf(nil, "db", "web"))
	after(p, "boot-web", "check-db")
	if _, err := Execute(t.Context(), options(folder, p, w.Process(0))); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	broken = false
	finishRun(t, w, folder)
	if w.Effects("boot-db") != 1 || w.Effects("check-web") != 1 {
		t.Fatal(w.Finished())
	}
}
