package runbook_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/fixtures/fakeworld"
	. "lifeboat/runbook"
)

// fleet is a plan of machines in tiers of ten on a host for every thirty, from three
// drives, each tier behind the one before, with a command after each check.
func fleet(n int) *Plan {
	var machines []PlannedMachine
	hosts := (n + 29) / 30
	for i := range n {
		m := plannedMachine(fmt.Sprintf("m%03d", i))
		m.Tier, m.Host, m.DriveIDs = 1+i*3/n, fmt.Sprintf("host%d", i%hosts), []string{fmt.Sprintf("drive%d", i%3)}
		machines = append(machines, m)
	}
	p := planOf(machines)
	p.Hosts = nil
	for h := range hosts {
		p.Hosts = append(p.Hosts, PlannedHost{Name: fmt.Sprintf("host%d", h), Boots: 2, KVM: true})
	}
	for i, m := range machines {
		for j := 2 * i; j < 2*i+2; j++ {
			p.Steps[j].Tier = m.Tier
		}
		if m.Tier > 1 {
			// Every machine of the tier before.
			for _, o := range machines {
				if o.Tier == m.Tier-1 {
					p.Steps[2*i].After = append(p.Steps[2*i].After, "check-"+o.Name)
				}
			}
		}
		p.Steps = append(p.Steps, step("run-"+m.Name, StepRun, "", "check-"+m.Name), step("settle-"+m.Name, StepSettle, m.Name, "check-"+m.Name))
	}
	return p
}

// inOrder says that no step ended before one that it comes after.
func inOrder(t testing.TB, p *Plan, w *fakeworld.World) {
	t.Helper()
	at := map[string]int{}
	for i, id := range w.Finished() {
		at[id] = i
	}
	for _, s := range p.Steps {
		for _, before := range s.After {
			if at[before] > at[s.ID] {
				t.Fatalf("%s ended before %s, which it comes after", s.ID, before)
			}
		}
	}
}

func TestAFleetComesBackInOrderAndWithinLimits(t *testing.T) {
	for _, n := range []int{30, 500} {
		if n == 500 && testing.Short() {
			n = 100 // with the race detector
		}
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, p := fakeworld.New(), fleet(n)
				w.Cost = func(a Action) time.Duration {
					return map[StepKind]time.Duration{StepBoot: 20 * time.Second, StepCheck: 10 * time.Second, StepRun: time.Second, StepSettle: time.Minute}[a.Step.Kind]
				}
				o := options(runFolder(t), p, w.Process(0))
				o.Limits = Limits{BootsPerDrive: 5, Drives: map[string]int{"drive1": 1}, Commands: 3}
				r, err := Execute(t.Context(), o)
				if err != nil || !r.Passed || len(r.Machines) != n {
					t.Fatal(err)
				}
				mustWell(t, w)
				inOrder(t, p, w)
				for what, most := range map[string]int{"boot on host0": 2, "boot from drive0": 5, "boot from drive1": 1, "boot from drive2": 5, "commands": 3} {
					if got := w.Most(what); got > most || got == 0 {
						t.Errorf("%s: %d at the same time, where %d are allowed", what, got, most)
					}
				}
				t.Logf("RTA %v", r.RTA)
			})
		})
	}
}

func TestAMachineCountsAsStartingUntilItsCheckPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fakeworld.New()
		p := planOf(machinesOf(nil, "a", "b"))
		p.Hosts[0].Boots = 1
		w.Cost = func(a Action) time.Duration {
			if a.Step.ID == "check-a" {
				return 10 * time.Minute // it waits for b, which nobody wrote down
			}
			return 30 * time.Second
		}
		r, err := Execute(t.Context(), options(runFolder(t), p, w.Process(0)))
		if err != nil {
			t.Fatal(err)
		}
		begins := map[string]time.Duration{}
		for _, s := range r.Steps {
			begins[s.ID] = s.Began.Sub(r.Began)
		}
		if d := begins["boot-b"] - begins["check-a"]; d < 2*time.Minute || d > 3*time.Minute {
			t.Errorf("b began %v after the check of a did", d)
		}
	})
}
