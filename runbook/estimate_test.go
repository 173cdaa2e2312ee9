package runbook

import (
	"testing"
	"time"
)

// took is what a run measured of a machine that took so many seconds to boot, and
// then until it served.
func took(boot, service int) Measured {
	b, s := time.Duration(boot)*time.Second, time.Duration(service)*time.Second
	return Measured{RTA: b + s + time.Hour, Spent: map[Spending]time.Duration{SpentWaiting: time.Hour, SpentOpen: b / 2, SpentBoot: b - b/2, SpentService: s}}
}

func TestAnEstimateFollowsTheGraphAndWhatWasMeasured(t *testing.T) {
	all := func(n int) PastRun {
		return PastRun{RunID: "r", Book: "shop", Mode: Drill, Began: night(n), Machines: map[string]Measured{"db": took(10, 20), "app": took(30, 5), "web": took(20, 10)}}
	}
	cases := []struct {
		name   string
		change func(b *Book, s *Situation)
		// seconds of each machine, in the order of the book, and of all; 0: unknown.
		want  [3]int
		total int
		known int
	}{
		{"nothing was measured", func(_ *Book, s *Situation) { s.Past = nil }, [3]int{}, 0, 0},
		{"one tier after the other", func(*Book, *Situation) {}, [3]int{30, 65, 95}, 95, 3},
		{"all at once, as many start as the host starts", func(b *Book, s *Situation) {
			for i := range b.Machines {
				b.Machines[i].Tier = 1
			}
			b.Hosts = []HostRule{{Name: "local", Boots: 3}}
		}, [3]int{30, 35, 30}, 35, 3},
		{"all at once, and they start one by one", func(b *Book, _ *Situation) {
			for i := range b.Machines {
				b.Machines[i].Tier = 1
			}
			b.Hosts = []HostRule{{Name: "local", Boots: 1}}
		}, [3]int{30, 45, 70}, 70, 3},
		{"the newest run counts", func(_ *Book, s *Situation) {
			later := all(18)
			later.Machines = map[string]Measured{"db": took(1, 2)}
			s.Past = []PastRun{later, s.Past[0]}
		}, [3]int{3, 38, 68}, 68, 3},
		{"a machine that was never measured takes the middle of the others", func(_ *Book, s *Situation) { delete(s.Past[0].Machines, "app") },
			[3]int{30, 0, 100}, 100, 2},
		{"a run that tells no more than the whole", func(_ *Book, s *Situation) {
			s.Past[0].Machines["db"] = Measured{RTA: 100 * time.Second, Spent: map[Spending]time.Duration{SpentWaiting: 30 * time.Second, SpentFind: 10 * time.Second}}
		}, [3]int{60, 95, 125}, 125, 3},
		{"a machine that never served tells nothing", func(_ *Book, s *Situation) { s.Past[0].Machines = map[string]Measured{"db": {}} }, [3]int{}, 0, 0},
		{"a pause is waited for, a person is not", func(b *Book, _ *Situation) {
			b.Steps = []Step{{ID: "calm", Kind: StepPause, Limit: time.Minute, After: []string{"db"}, Line: 40},
				{ID: "look", Kind: StepConfirm, After: []string{"calm"}, Line: 41},
				{ID: "go", Kind: StepBoot, Machines: []string{"app"}, After: []string{"look"}, Line: 42}}
		}, [3]int{30, 125, 155}, 155, 3},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, s := shopBook(), shopSituation(Drill)
			s.Past = []PastRun{all(15)}
			c.change(b, &s)
			p := resolved(t, b, s)
			for i, want := range c.want {
				if got := p.Machines[i].Estimate; got != time.Duration(want)*time.Second {
					t.Errorf("%s: %s, want %d s", p.Machines[i].Name, got, want)
				}
			}
			if p.Estimate != time.Duration(c.total)*time.Second || p.Known != c.known {
				t.Errorf("in all %s of %d machines, want %d s of %d", p.Estimate, p.Known, c.total, c.known)
			}
		})
	}
}
