package runbook_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/fakeworld"
	. "lifeboat/runbook"
)

// resumed goes on with a run, once.
func resumed(t *testing.T, w *fakeworld.World, folder string, how func(*Options)) (*Record, error) {
	t.Helper()
	o := options(folder, nil, w.Process(0))
	o.Resume = true
	if how != nil {
		how(&o)
	}
	return Execute(t.Context(), o)
}

// mustAsk says that a run waits for a person, and tells them these ways on.
func mustAsk(t *testing.T, err error, ways ...string) {
	t.Helper()
	var p *lifeboat.Problem
	if !errors.Is(err, ErrPerson) || !errors.As(err, &p) {
		t.Fatalf("nobody is asked: %v", err)
	}
	for _, way := range ways {
		if !strings.Contains(p.Next, way) {
			t.Errorf("%q is not among the ways on: %s", way, p.Next)
		}
	}
}

// TestRowsCommittedAfterTheRecoveryAreStillThere: after a power cut a check may fail
// once, because a database replays its log.
func TestRowsCommittedAfterTheRecoveryAreStillThere(t *testing.T) {
	for way, failure := range map[OnFailure]error{FailOlderPoint: ErrCheckFailed, FailOtherBus: ErrCheckFailed, FailStop: ErrNoRoot} {
		w, folder := fakeworld.New(), runFolder(t)
		slow := false
		w.Fail = failing("check-db", failure, func(Action) bool { return slow })
		p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = way }, "db"), step("rows", StepGuest, "db", "check-db"))
		if _, err := Execute(t.Context(), options(folder, p, w.Process(0))); err != nil {
			t.Fatal(err)
		}
		w.CutPower()
		slow = true
		_, err := resumed(t, w, folder, nil)
		mustAsk(t, err, "--skip check-db", "--repeat check-db", "--rollback r1")
		slow = false
		if _, err := resumed(t, w, folder, nil); err != nil {
			t.Fatal(err)
		}
		mustWell(t, w)
		if m, _ := w.Machine("db"); m.PointID != "db-new" || len(m.Wrote) != 1 || len(w.Undone()) != 0 {
			t.Errorf("%s: %+v, taken away %v", way, m, w.Undone())
		}
	}
}

// TestOneThatServesKeepsItsGroup: the machine that fails has nothing to lose, another
// of its group has.
func TestOneThatServesKeepsItsGroup(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("check-db", ErrCheckFailed, nil)
	p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOlderPoint }, "app", "db"))
	p.Groups = []PlannedGroup{{Name: "shop", Machines: []string{"db", "app"}}}
	after(p, "boot-db", "check-app")
	_, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
	mustAsk(t, err, "--skip check-db")
	if len(w.Undone()) != 0 || !strings.Contains(err.Error(), "app has data") {
		t.Errorf("%v: taken away %v", err, w.Undone())
	}
}

// TestAFirstStartThatFailsFallsBackByItself: nothing is lost, in a recovery too.
func TestAFirstStartThatFailsFallsBackByItself(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("check-db", ErrCheckFailed, func(a Action) bool { return a.Machine.Point.ID == "db-new" })
	p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOlderPoint }, "db"))
	if _, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0))); err != nil {
		t.Fatal(err)
	}
	mustWell(t, w)
	if m, _ := w.Machine("db"); m.PointID != "db-old1" {
		t.Errorf("%+v", m)
	}
}

// TestOnlyAStartFallsBack: what comes later fails for other reasons, in a drill too.
func TestOnlyAStartFallsBack(t *testing.T) {
	for _, mode := range []Mode{Drill, Recover} {
		for _, kind := range []StepKind{StepSettle, StepConnect, StepGuest, StepShutdown} {
			for _, failure := range []error{errors.New("no space left"), ErrNoRoot} {
				w := fakeworld.New()
				w.Fail = failing("later", failure, nil)
				p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOlderPoint }, "db"), step("later", kind, "db", "check-db"))
				p.Mode = mode
				_, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
				if !errors.Is(err, ErrFailed) || len(w.Undone()) != 0 {
					t.Errorf("%s, %s, %v: %v, taken away %v", mode, kind, failure, err, w.Undone())
				}
			}
		}
	}
}

// TestAMachineThatServedIsNotBegunAnewElsewhereByItself, whether its host goes away
// in the run or does not answer when the run is taken up again.
func TestAMachineThatServedIsNotBegunAnewElsewhereByItself(t *testing.T) {
	for _, inRun := range []bool{true, false} {
		w, folder := fakeworld.New(), runFolder(t)
		w.Fail = func(a Action) error {
			if inRun && a.Step.ID == "last" {
				w.HostAway("alpha")
			}
			return nil
		}
		p := planOf(machinesOf(nil, "db"), step("settle-db", StepSettle, "db", "check-db"), step("rows", StepGuest, "db", "settle-db"),
			change(step("last", StepGuest, "db", "rows"), func(s *Step) { s.RepeatSafe = true }))
		_, err := Execute(t.Context(), options(folder, p, w.Process(0)))
		if !inRun {
			if err != nil {
				t.Fatal(err)
			}
			w.HostAway("alpha")
			_, err = resumed(t, w, folder, nil)
		}
		mustAsk(t, err, "bring host alpha back", "--repeat boot-db", "--rollback r1")
		_, err = resumed(t, w, folder, nil)
		mustAsk(t, err, "bring host alpha back")
		if m, _ := w.Machine("db"); m.Host != "alpha" || w.Effects("boot-db") != 1 {
			t.Fatalf("in the run %v: %+v", inRun, m)
		}
		w.HostBack("alpha")
		inRun = false
		if _, err = resumed(t, w, folder, nil); err != nil {
			t.Fatal(err)
		}
		mustWell(t, w)
		if m, _ := w.Machine("db"); !m.Running || w.Effects("rows") != 1 || w.Effects("check-db") != 2 {
			t.Errorf("%+v: rows %d, checked %d times", m, w.Effects("rows"), w.Effects("check-db"))
		}
	}
}

func TestAPersonMayGiveUpWhatALostHostHas(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	p := planOf(machinesOf(nil, "db"), step("rows", StepGuest, "db", "check-db"))
	if _, err := Execute(t.Context(), options(folder, p, w.Process(0))); err != nil {
		t.Fatal(err)
	}
	w.KillHost("alpha")
	_, err := resumed(t, w, folder, nil)
	mustAsk(t, err, "--repeat boot-db")
	w.GiveUp("db")
	if _, err = resumed(t, w, folder, func(o *Options) { o.Repeat = []string{"boot-db"} }); err != nil {
		t.Fatal(err)
	}
	mustWell(t, w)
	if m, _ := w.Machine("db"); m.Host != "beta" || len(m.Wrote) != 1 {
		t.Errorf("%+v", m)
	}
}

// TestACommandIsNotDoneTwiceWithoutAQuestion: its host came and went, or its limit
// ended it; in both nobody knows how far it got.
func TestACommandIsNotDoneTwiceWithoutAQuestion(t *testing.T) {
	for _, kind := range []StepKind{StepGuest, StepRun} {
		for _, failure := range []error{ErrHostGone, ErrLimit} {
			if kind == StepRun && failure == ErrHostGone {
				continue // it is about no host
			}
			w, folder := fakeworld.New(), runFolder(t)
			begun := 0
			w.Fail = func(a Action) error {
				if a.Step.ID == "migrate" {
					if begun++; begun == 1 {
						return failure
					}
				}
				return nil
			}
			on := map[StepKind]string{StepGuest: "db"}[kind]
			p := planOf(machinesOf(nil, "db"), change(step("migrate", kind, on, "check-db"), func(s *Step) { s.Retries = 3 }))
			_, err := Execute(t.Context(), options(folder, p, w.Process(0)))
			if err == nil {
				t.Fatalf("%s, %v: it ended well", kind, failure)
			}
			_, err = resumed(t, w, folder, nil)
			mustAsk(t, err, "--repeat migrate", "--skip migrate")
			if begun != 1 {
				t.Errorf("%s, %v: begun %d times", kind, failure, begun)
			}
			if _, err = resumed(t, w, folder, func(o *Options) { o.Repeat = []string{"migrate"} }); err != nil || begun != 2 {
				t.Errorf("%s, %v: %v, begun %d times", kind, failure, err, begun)
			}
		}
	}
}

// TestAMachineWithoutAHostGoesOnWhereItWas, on its disk, when the host is there
// again; in a drill it begins from its point, and only there are commands done again.
func TestAMachineWithoutAHostGoesOnWhereItWas(t *testing.T) {
	for mode, commands := range map[Mode]int{Recover: 1, Drill: 2} {
		w, folder := fakeworld.New(), runFolder(t)
		first := true
		w.Fail = func(a Action) error {
			if a.Step.ID == "last" && first {
				w.HostAway("alpha")
			}
			return nil
		}
		p := planOf(machinesOf(func(m *PlannedMachine) { m.MayRunOn = []string{"alpha"} }, "db"), step("rows", StepGuest, "db", "check-db"), step("last", StepShutdown, "db", "rows"))
		p.Mode = mode
		if _, err := Execute(t.Context(), options(folder, p, w.Process(0))); err == nil {
			t.Fatal("it ended well")
		}
		first = false
		w.HostBack("alpha")
		if _, err := resumed(t, w, folder, nil); err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		mustWell(t, w)
		if m, _ := w.Machine("db"); w.Effects("rows") != commands || len(m.Wrote) != 1 {
			t.Errorf("%s: rows %d times, %+v", mode, w.Effects("rows"), m)
		}
	}
}

// TestAHostThatDiesWhileAMachineIsTakenAway: others have room.
func TestAHostThatDiesWhileAMachineIsTakenAway(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("check-db", ErrCheckFailed, func(a Action) bool { return a.Machine.Point.ID == "db-new" })
	p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOlderPoint }, "db"))
	if _, err := Execute(t.Context(), options(runFolder(t), p, &dyingHost{w.Process(0), w})); err != nil {
		t.Fatal(err)
	}
	mustWell(t, w)
	if m, _ := w.Machine("db"); m.Host != "beta" || m.PointID != "db-old1" {
		t.Errorf("%+v", m)
	}
}

// dyingHost is a world whose host dies when a machine of it is taken away.
type dyingHost struct {
	*fakeworld.Process
	w *fakeworld.World
}

func (d *dyingHost) Undo(_ context.Context, a Action) error {
	d.w.KillHost(a.Machine.Host)
	return ErrHostGone
}
