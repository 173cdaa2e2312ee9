package runbook_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/fixtures/fakeworld"
	. "lifeboat/runbook"
)

// newWorldWith is a world and the folder of a run of one machine that passed there.
func newWorldWith(t *testing.T) (*fakeworld.World, string) {
	w, folder := fakeworld.New(), runFolder(t)
	if _, err := Execute(t.Context(), options(folder, planOf(machinesOf(nil, "web")), w.Process(0))); err != nil {
		t.Fatal(err)
	}
	return w, folder
}

func TestWhereTheTimeWentAddsUpToTheRTA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fakeworld.New()
		w.Cost = func(a Action) time.Duration {
			return map[StepKind]time.Duration{StepConfirm: 10 * time.Minute, StepBoot: 40 * time.Second, StepCheck: 20 * time.Second, StepMessage: 5 * time.Second}[a.Step.Kind]
		}
		w.Fail = failing("check-db", ErrCheckFailed, func(a Action) bool { return a.Attempt == 1 })
		p := planOf(machinesOf(func(m *PlannedMachine) { m.OnFailure = FailOlderPoint }, "db", "web"),
			step("tell", StepMessage, ""), step("declare", StepConfirm, "", "tell"))
		after(p, "boot-db", "declare")
		after(p, "boot-web", "check-db")
		o := options(runFolder(t), p, w.Process(0))
		// The command was given a minute before: planning, opening, asking.
		o.Start.Began = time.Now().Add(-time.Minute)
		r, err := Execute(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		db, web := r.Machines[0], r.Machines[1]
		minutes := func(s string) time.Duration { d, _ := time.ParseDuration(s); return d }
		for what, c := range map[string][2]time.Duration{
			"RTA of db":   {db.RTA, minutes("13m5s")}, // 1m + 5s + 10m + 2 * (40s + 20s)
			"db waited":   {db.Spent[SpentWaiting], minutes("1m5s")},
			"db person":   {db.Spent[SpentPerson], minutes("10m")},
			"db tries":    {db.Spent[SpentTries], minutes("1m")},
			"db find":     {db.Spent[SpentFind], time.Second},
			"db boot":     {db.Spent[SpentBoot], minutes("38s")},
			"db service":  {db.Spent[SpentService], minutes("20s")},
			"RTA of web":  {web.RTA, minutes("14m5s")},
			"web waited":  {web.Spent[SpentWaiting], minutes("3m5s")},
			"RTA in all":  {r.RTA, minutes("14m5s")},
			"person wait": {r.PersonWait, minutes("10m")},
		} {
			if c[0] != c[1] {
				t.Errorf("%s: %v, not %v", what, c[0], c[1])
			}
		}
		for _, m := range r.Machines {
			var sum time.Duration
			for _, d := range m.Spent {
				sum += d
			}
			if sum != m.RTA {
				t.Errorf("%s: %v add up to %v, not %v", m.Name, m.Spent, sum, m.RTA)
			}
		}
		if want := r.Began.Sub(db.TakenAt); db.PointID != "db-old1" || db.RPA != max(0, want) {
			t.Errorf("RPA of db: %v, not %v", db.RPA, want)
		}
	})
}

func TestTimeSpentAwayFromTheProgramCountsAndAClockSetBackDoesNot(t *testing.T) {
	for back, want := range map[time.Duration]time.Duration{0: 3 * time.Hour, -30 * time.Hour: 0} {
		w, folder := fakeworld.New(), runFolder(t)
		w.Terminal = false
		p := planOf(machinesOf(nil, "web"), step("declare", StepConfirm, ""))
		after(p, "boot-web", "declare")
		began := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
		o := options(folder, p, w.Process(0))
		now := began
		o.Now = func() time.Time { return now }
		if _, err := Execute(t.Context(), o); !errors.Is(err, ErrPerson) {
			t.Fatal(err)
		}
		w.Terminal = true
		o = options(folder, nil, w.Process(0))
		o.Resume = true
		now = began.Add(3*time.Hour + back)
		o.Now = func() time.Time { return now }
		r, err := Execute(t.Context(), o)
		if err != nil || r.RTA != want || r.PersonWait != want {
			t.Errorf("clock %v: %v: RTA %v, for a person %v", back, err, r.RTA, r.PersonWait)
		}
	}
}

func TestObjectivesAreHeldAgainstWhatTheCompanyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fakeworld.New()
		w.Cost = func(Action) time.Duration { return 10 * time.Minute }
		p := planOf(machinesOf(nil, "db", "web", "files"))
		p.Lead = 2 * time.Hour
		p.Objectives.RTO = 4 * time.Hour
		p.Machines[0].Objectives = Objectives{RTO: 2 * time.Hour}
		p.Machines[1].Objectives = Objectives{RTO: 3 * time.Hour, RPO: time.Hour}
		for i := range p.Machines {
			p.Machines[i].Point.TakenAt = time.Now().Add(-90 * time.Minute)
		}
		r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
		if err != nil || r.Passed {
			t.Fatalf("%v: passed %v", err, r.Passed)
		}
		want := []string{"db: RTO 2h, and it took 2h20m with the declared 2h", "web: RPO 1h, and its data was 1h30m old"}
		if strings.Join(r.Missed, "|") != strings.Join(want, "|") || r.RTA != 20*time.Minute || r.Lead != 2*time.Hour {
			t.Errorf("%q, RTA %v", r.Missed, r.RTA)
		}
	})
}

func TestWhatDoesNotProveARecoveryIsSaid(t *testing.T) {
	w := fakeworld.New()
	p := planOf(machinesOf(nil, "web"))
	p.Hosts[0].KVM = false
	o := options(runFolder(t), p, w.Process(0))
	o.Start.OpenedWith, o.Start.NotRepresentative = "identity", "it read a copy in a folder"
	r, err := Execute(t.Context(), o)
	if err != nil || !strings.Contains(r.NotRepresentative, "virtualisation on alpha") || !strings.Contains(r.NotRepresentative, "a copy in a folder") || r.Partial == "" {
		t.Fatalf("%v: %q, %q", err, r.NotRepresentative, r.Partial)
	}
}

func TestTheRecordOfARunThatDiedIsMadeFromItsJournal(t *testing.T) {
	w, folder, p := fakeworld.New(), runFolder(t), wholeBook()
	if !killed(t, w, folder, p, 40, 0) {
		t.Fatal("it ended before it was killed")
	}
	if _, err := os.Stat(filepath.Join(folder, "record.json")); err == nil {
		t.Fatal("a dead process wrote a record")
	}
	r, err := ReadRecord(folder)
	if err != nil || r.Passed || !r.Ended.IsZero() || r.BookText != "book" || len(r.Steps) != len(p.Steps) || len(r.Machines) != 10 {
		t.Fatalf("%v: %+v", err, r)
	}
	r.Left, r.Cleaned = []string{"namespace lab1"}, true
	if err := WriteRecord(folder, r); err != nil {
		t.Fatal(err)
	}
	if again, err := ReadRecord(folder); err != nil || len(again.Left) != 1 {
		t.Fatalf("%v: what the cleanup wrote is gone", err)
	}
}

func TestPeopleSeeWhatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fakeworld.New()
		w.Cost = func(Action) time.Duration { return 12 * time.Second }
		w.Fail = failing("check-web", ErrCheckFailed, func(a Action) bool { return a.Attempt == 1 })
		p := planOf(machinesOf(nil, "web"))
		p.Steps[1] = change(p.Steps[1], func(s *Step) { s.Retries = 1 })
		o := options(runFolder(t), p, w.Process(0))
		var lines []string
		o.Observe = func(v Event) {
			if line := v.Line(); line != "" {
				lines = append(lines, line)
			}
		}
		if _, err := Execute(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		want := []string{"boot-web: begins", "boot-web: on it", "boot-web: done in 12s: done", "check-web: begins", "check-web: on it",
			"check-web: failed after 12s, and is tried again: the check did not pass", "check-web: begins, for the second time", "check-web: on it", "check-web: done in 12s: done"}
		if strings.Join(lines, "\n") != strings.Join(want, "\n") {
			t.Errorf("people saw:\n%s", strings.Join(lines, "\n"))
		}
	})
}

func TestAFolderThatCannotBeWrittenEndsTheRun(t *testing.T) {
	w, folder := fakeworld.New(), runFolder(t)
	o := options(folder, planOf(machinesOf(nil, "web")), w.Process(0))
	full := errors.New("no space left on device")
	lines := 0
	o.KillAt(func() error {
		if lines++; lines > 6 {
			return full
		}
		return nil
	})
	if _, err := Execute(t.Context(), o); !errors.Is(err, full) {
		t.Fatal(err)
	}
	finishRun(t, w, folder)
	mustWell(t, w)
}
