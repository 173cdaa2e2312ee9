package runbook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat"
	"lifeboat/fixtures/fakeworld"
	. "lifeboat/runbook"
)

// randomPlan is machines with random orders, groups, ways on and steps.
func randomPlan(t *rapid.T) *Plan {
	var machines []PlannedMachine
	n := rapid.IntRange(1, 7).Draw(t, "machines")
	ways := []OnFailure{FailStop, FailContinue, FailOlderPoint, FailOtherBus}
	for i := range n {
		m := plannedMachine(fmt.Sprintf("m%d", i))
		m.Host = rapid.SampledFrom([]string{"alpha", "beta"}).Draw(t, "host")
		m.OnFailure = rapid.SampledFrom(ways).Draw(t, "way")
		machines = append(machines, m)
	}
	p := planOf(machines)
	p.Mode = rapid.SampledFrom([]Mode{Drill, Recover}).Draw(t, "mode")
	if n > 2 {
		p.Groups = []PlannedGroup{{Name: "g", Machines: []string{"m0", "m2"}, Allowed: rapid.Bool().Draw(t, "skew")}}
	}
	kinds := []StepKind{StepRun, StepGuest, StepConnect, StepConfirm, StepMessage, StepSettle}
	for i := range rapid.IntRange(0, 8).Draw(t, "more") {
		kind := rapid.SampledFrom(kinds).Draw(t, "kind")
		s := step(fmt.Sprintf("s%d", i), kind, "")
		if kind != StepConfirm && kind != StepMessage && kind != StepRun {
			on := rapid.IntRange(0, n-1).Draw(t, "on")
			s.Machine = machines[on].Name
			s.After = []string{"check-" + s.Machine}
		}
		s.Step.Essential = rapid.Bool().Draw(t, "essential")
		s.Step.Retries = rapid.IntRange(0, 2).Draw(t, "retries")
		if rapid.Bool().Draw(t, "safe") {
			s.Step.RepeatSafe = true
		}
		p.Steps = append(p.Steps, s)
	}
	// An edge leads from an earlier step of the list to a later one: no loops.
	for range rapid.IntRange(0, 10).Draw(t, "edges") {
		to := rapid.IntRange(1, len(p.Steps)-1).Draw(t, "to")
		from := rapid.IntRange(0, to-1).Draw(t, "from")
		if id := p.Steps[from].ID; !slices.Contains(p.Steps[to].After, id) {
			p.Steps[to].After = append(p.Steps[to].After, id)
		}
	}
	return p
}

// TestWhateverFailsAndWheneverItIsKilled: on random plans with random failures and
// kills, order and limits hold, no machine runs twice, a group is never of two runs,
// what a journal says is what the process knew, and the run comes to its end.
func TestWhateverFailsAndWheneverItIsKilled(t *testing.T) {
	folder := runFolder(t)
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		p := randomPlan(rt)
		w := fakeworld.New()
		fails := map[string]int{}
		errs := map[string]error{}
		kinds := []error{ErrCheckFailed, ErrNoRoot, ErrHostGone, ErrAddressInUse, ErrPerson, ErrRefused, errors.New("broken")}
		for range rapid.IntRange(0, 5).Draw(rt, "failures") {
			id := p.Steps[rapid.IntRange(0, len(p.Steps)-1).Draw(rt, "failing")].ID
			fails[id] = rapid.SampledFrom([]int{1, 2, 4, 1000}).Draw(rt, "times")
			errs[id] = rapid.SampledFrom(kinds).Draw(rt, "error")
		}
		w.Cost = func(a Action) time.Duration { return time.Duration(len(a.Step.ID)*7%5) * 200 * time.Microsecond }
		w.Fail = func(a Action) error {
			if a.Attempt <= fails[a.Step.ID] {
				return errs[a.Step.ID]
			}
			if a.Step.Kind == StepBoot && a.Form >= 3 {
				return ErrNoForm
			}
			return nil
		}
		playRandom(rt, w, p, fmt.Sprintf("%s/%d", folder, runs))
	})
}

// playRandom executes a plan in one process after the other, some of which are
// killed, until it comes to its end.
func playRandom(t *rapid.T, w *fakeworld.World, p *Plan, folder string) {
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	kills := rapid.SliceOfN(rapid.IntRange(1, 40), 0, 3).Draw(t, "kills")
	cuts := rapid.SliceOfN(rapid.Bool(), len(kills), len(kills)).Draw(t, "power cuts")
	watch := newWatcher(t, p)
	var repeat []string
	for life := range len(kills) + 8 {
		process := w.Process(0)
		o := options(folder, p, process)
		o.Observe = watch.see
		if run, err := ReadRun(folder); err == nil && run.Start.RunID != "" {
			o.Resume, o.Plan = true, nil
			for _, s := range run.Steps {
				if s.Status == StatusWaiting {
					repeat = append(repeat, s.Step.ID)
				}
			}
		}
		o.Repeat, repeat = repeat, nil
		if life < len(kills) {
			lines := 0
			o.KillAt(func() error {
				if lines++; lines >= 2*kills[life] {
					process.Kill()
					return fakeworld.ErrKilled
				}
				return nil
			})
		}
		r, err := Execute(context.Background(), o)
		mustWell(t, w)
		if process.Killed() {
			if cuts[life] {
				w.CutPower()
			}
			continue
		}
		if !errors.Is(err, ErrPerson) && !errors.Is(err, ErrFailed) && !errors.Is(err, lifeboat.ErrPartial) && err != nil {
			t.Fatalf("life %d ended with %v", life, err)
		}
		sameAsJournal(t, folder, r)
		if err == nil {
			break
		}
	}
	ofOneRun(t, w, p)
}

// sameAsJournal says that whoever reads a run's journal knows what the process knew.
func sameAsJournal(t *rapid.T, folder string, r *Record) {
	run, err := ReadRun(folder)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(MakeRecord(run))
	want, _ := json.Marshal(r)
	if string(got) != string(want) {
		t.Fatalf("the journal says\n%s\nand the process said\n%s", got, want)
	}
}

// ofOneRun says that machines of a group came back from points of one age.
func ofOneRun(t *rapid.T, w *fakeworld.World, p *Plan) {
	for _, g := range p.Groups {
		var ages []string
		for _, name := range g.Machines {
			if m, ok := w.Machine(name); ok {
				_, age, _ := strings.Cut(m.PointID, "-")
				ages = append(ages, age)
			}
		}
		if !g.Allowed && len(slices.Compact(ages)) > 1 {
			t.Fatalf("group %s came back from %v", g.Name, ages)
		}
	}
}

// watcher follows what a run tells and sees a step that begins too early.
type watcher struct {
	t      *rapid.T
	after  map[string][]string
	status map[string]string
	failed bool
}

func newWatcher(t *rapid.T, p *Plan) *watcher {
	w := &watcher{t: t, after: map[string][]string{}, status: map[string]string{}}
	for _, s := range p.Steps {
		w.after[s.ID] = s.After
	}
	return w
}

func (w *watcher) see(v Event) {
	switch v.Kind {
	case "resume":
		for id, s := range w.status {
			if s != "done" {
				delete(w.status, id)
			}
		}
	case "begun":
		for _, before := range w.after[v.Step] {
			s := w.status[before]
			if s == "begun" || s == "waiting" || s == "" && !w.failed {
				w.t.Fatalf("%s begins while %s is %q", v.Step, before, s)
			}
		}
		w.status[v.Step] = "begun"
	case "failed", "cut":
		w.failed = true
		w.status[v.Step] = v.Kind
		if v.Again || v.Kind == "cut" {
			delete(w.status, v.Step)
		}
	case "done", "waiting":
		w.status[v.Step] = v.Kind
	}
}
