package runbook_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat"
	"lifeboat/fixtures/fakeworld"
	. "lifeboat/runbook"
)

// TestARecordSaysWhatCameAfterItHadPassed: its figures stay, and a start that failed,
// or a machine that stands elsewhere now, is said.
func TestARecordSaysWhatCameAfterItHadPassed(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	p := planOf(machinesOf(nil, "db", "web"))
	p.Machines[1].Host = "beta"
	first, err := Execute(t.Context(), options(folder, p, w.Process(0)))
	if err != nil || len(first.Later) != 0 {
		t.Fatal(err)
	}
	w.CutPower()
	w.Fail = failing("check-web", errors.New("no answer"), nil)
	r, err := resumed(t, w, folder, nil)
	if !errors.Is(err, ErrFailed) || !r.Passed || len(r.Later) != 1 || r.Later[0].Outcome != "failed" || !strings.Contains(strings.Join(r.Later[0].Problems, " "), "no answer") {
		t.Fatalf("%v: passed %v, later %+v", err, r.Passed, r.Later)
	}
	w.Fail = nil
	w.KillHost("alpha")
	if _, err = resumed(t, w, folder, nil); !errors.Is(err, ErrPerson) {
		t.Fatal(err)
	}
	w.GiveUp("db")
	if _, err = resumed(t, w, folder, func(o *Options) { o.Repeat = []string{"boot-db"} }); err != nil {
		t.Fatal(err)
	}
	r, err = ReadRecord(folder)
	if err != nil || len(r.Later) != 3 || r.Machines[0].Host != "alpha" || r.RTA != first.RTA {
		t.Fatalf("%v: %+v", err, r)
	}
	if last := r.Later[2]; last.Outcome != "passed" || len(last.Machines) != 1 || last.Machines[0].Name != "db" || last.Machines[0].Host != "beta" {
		t.Errorf("%+v", last)
	}
}

// TestAMachineIsBackWhenItIsReached: in a recovery it is plugged in after its check,
// maybe when a person releases it. In a drill nothing is plugged in for others.
func TestAMachineIsBackWhenItIsReached(t *testing.T) {
	for mode, want := range map[Mode]time.Duration{Recover: 21 * time.Minute, Drill: 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w := fakeworld.New()
			w.Cost = func(a Action) time.Duration {
				return map[StepKind]time.Duration{StepBoot: 5 * time.Minute, StepCheck: 5 * time.Minute, StepConfirm: 10 * time.Minute, StepConnect: time.Minute}[a.Step.Kind]
			}
			p := planOf(machinesOf(nil, "db"), step("release", StepConfirm, "", "check-db"), step("connect-db", StepConnect, "db", "release"))
			p.Mode = mode
			r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
			if err != nil || r.RTA != want || r.Machines[0].RTA != want {
				t.Fatalf("%s: %v: RTA %v, of db %v", mode, err, r.RTA, r.Machines[0].RTA)
			}
			w = fakeworld.New()
			w.Fail = failing("connect-db", ErrAddressInUse, nil)
			r, err = Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
			if err == nil || r.Machines[0].Passed != (mode == Drill) {
				t.Errorf("%s: %v: one that was not plugged in passed: %v", mode, err, r.Machines[0].Passed)
			}
		})
	}
}

func TestWhatIsDoneIsNotSaidToBeDoneAgain(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	p := planOf(machinesOf(nil, "db"), step("dns", StepRun, "", "check-db"), step("mail", StepRun, "", "dns"))
	o := options(folder, p, w.Process(0))
	o.Skip = map[string]string{"dns": "done by hand"}
	if _, err := Execute(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	again := func(id string) error {
		_, err := resumed(t, w, folder, func(o *Options) { o.Repeat = []string{id} })
		return err
	}
	if err := again("mail"); !errors.Is(err, ErrUsage) || w.Effects("mail") != 1 {
		t.Errorf("a step that is done: %v", err)
	}
	if err := again("dns"); err != nil || w.Effects("dns") != 1 {
		t.Errorf("a skip that is taken back: %v, done %d times", err, w.Effects("dns"))
	}
}

func TestOnlyIsForOneProcess(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	p := planOf(machinesOf(nil, "db", "web"), step("insurer", StepConfirm, ""))
	o := options(folder, p, w.Process(0))
	o.Only, o.Skip = []string{"db"}, map[string]string{"insurer": "called"}
	if _, err := Execute(t.Context(), o); err != nil || w.Effects("check-web") != 0 {
		t.Fatal(err)
	}
	r, err := resumed(t, w, folder, nil)
	if err != nil || w.Effects("check-web") != 1 || w.Effects("insurer") != 0 || len(r.Machines) != 2 || !r.Passed {
		t.Fatalf("%v: %v, %+v", err, w.Finished(), r.Machines)
	}
}

func TestADrillThatNeededAnOlderPointSaysSo(t *testing.T) {
	w := fakeworld.New()
	w.Fail = failing("check-db", ErrCheckFailed, func(a Action) bool { return a.Machine.Point.ID == "db-new" })
	p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOlderPoint }, "db", "web"))
	p.Mode = Drill
	p.Machines[1].Point.Machine.Disks = []lifeboat.Disk{{Key: "root"}, {Key: "swap", Excluded: "by its owner"}}
	r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
	if err != nil || r.Verdict() != VerdictPartial || !strings.Contains(r.Partial, "db did not come back from its newest point") {
		t.Fatalf("%v: %s: %q", err, r.Verdict(), r.Partial)
	}
	if db := r.Machines[0]; !strings.Contains(db.WentBack, "check-db failed: the check did not pass") || len(db.Disks) != 0 {
		t.Errorf("%+v", db)
	}
	if web := r.Machines[1]; web.WentBack != "" || len(web.Disks) != 1 || web.Disks[0] != "root" {
		t.Errorf("%+v", web)
	}
}

func TestDataOfTheFutureIsOfNoKnownAge(t *testing.T) {
	w := fakeworld.New()
	p := planOf(machinesOf(func(m *PlannedMachine) { m.Objectives.RPO = 24 * time.Hour }, "db"))
	o := options(runFolder(t), p, w.Process(0))
	o.Start.Began = p.Machines[0].Point.TakenAt.Add(-time.Hour)
	o.Now = func() time.Time { return o.Start.Began.Add(time.Minute) }
	r, err := Execute(t.Context(), o)
	if err != nil || r.Passed || len(r.Missed) != 1 || !strings.Contains(r.Missed[0], "not known") || !strings.Contains(r.NotRepresentative, "clock") {
		t.Fatalf("%v: passed %v, missed %q, %q", err, r.Passed, r.Missed, r.NotRepresentative)
	}
}

func TestAPlanThatIsStoppedIsNotExecuted(t *testing.T) {
	w := fakeworld.New()
	p := planOf(machinesOf(nil, "db"))
	p.Findings = []Finding{{Severity: Stops, Code: "no-point", What: "db has no restore point"}}
	if _, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0))); err == nil || !strings.Contains(err.Error(), "no restore point") || w.Effects("boot-db") != 0 {
		t.Fatalf("%v: %v", err, w.Finished())
	}
}
