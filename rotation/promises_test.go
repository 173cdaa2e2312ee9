package rotation_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat/rotation"
)

// rapidChance draws luck that rapid can make smaller.
type rapidChance struct{ t *rapid.T }

func (c rapidChance) below(n int) int { return rapid.IntRange(0, n-1).Draw(c.t, "luck") }

// seeded draws luck from a seed.
type seeded struct{ *rand.Rand }

func (s seeded) below(n int) int { return s.IntN(n) }

func seed(n uint64) seeded { return seeded{rand.New(rand.NewPCG(n, 20261120))} }

// mostDays is on how many days of a history something happens at most; between
// them lie up to six weeks.
const mostDays = 14

// live lets some days pass, and returns the first promise that was broken.
func (w *world) live() error {
	for range 1 + w.luck.below(mostDays) {
		if err := w.day(); err != nil {
			return err
		}
	}
	return nil
}

// histories is how many random histories are lived through at each run.
func histories() int {
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		return 200_000
	}
	if testing.Short() { // with the race detector, which takes six times as long
		return 500
	}
	return 10_000
}

func TestNoHistoryBreaksAPromise(t *testing.T) {
	const shares = 4
	for share := range uint64(shares) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for n := share; n < uint64(histories()); n += shares {
				w := newWorld(seed(n))
				if err := w.live(); err != nil {
					t.Fatalf("history %d: %v\n%+v\n%s", n, err, w.policy, strings.Join(w.log, "\n"))
				}
			}
		})
	}
}

// TestNoSmallHistoryBreaksAPromise looks for the smallest history that does.
func TestNoSmallHistoryBreaksAPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapidChance{t})
		if err := w.live(); err != nil {
			t.Fatalf("%v\n%+v\n%s", err, w.policy, strings.Join(w.log, "\n"))
		}
	})
}

func TestDecideIsPureAndDoesNotGoByTheOrderOfDrives(t *testing.T) {
	for n := range uint64(300) {
		w := newWorld(seed(n))
		if err := w.live(); err != nil {
			t.Fatal(err)
		}
		first := w.decide()
		if again := w.decide(); !reflect.DeepEqual(first, again) {
			t.Fatalf("history %d: the same shelf, another decision:\n%+v\n%+v", n, first, again)
		}
		turned := w.shelf
		turned.Drives = slices.Clone(turned.Drives)
		slices.Reverse(turned.Drives)
		other := rotation.Decide(w.clock(), w.policy, turned)
		if first.Set != other.Set || !reflect.DeepEqual(first.Steps, other.Steps) || !sameVerdicts(first, other) {
			t.Fatalf("history %d: the drives in another order, another decision:\n%+v\n%+v", n, first, other)
		}
	}
}

func sameVerdicts(a, b rotation.Decision) bool {
	keep := map[string]bool{}
	for _, v := range a.Verdicts {
		keep[v.DriveID+v.PointID] = v.Keep
	}
	return !slices.ContainsFunc(b.Verdicts, func(v rotation.Verdict) bool { return keep[v.DriveID+v.PointID] != v.Keep })
}

func TestRetentionCountsFromTheNewestPointAndNotFromNow(t *testing.T) {
	for n := range uint64(300) {
		w := newWorld(seed(n))
		if err := w.live(); err != nil {
			t.Fatal(err)
		}
		w.shelf.LastCommit, w.shelf.ClockConfirmedAt = time.Time{}, w.clock()
		now := rotation.Decide(w.clock(), w.policy, w.shelf)
		for _, days := range []int{1, 7, 44} {
			then := rotation.Decide(w.clock().AddDate(0, 0, days), w.policy, w.shelf)
			if now.Doubt == "" && then.Doubt == "" && !sameVerdicts(now, then) {
				t.Fatalf("history %d: %d days later other points may go, though nothing happened", n, days)
			}
		}
	}
}

// TestAnyPromiseThatIsBrokenOnPurposeIsNoticed breaks one rule of the decisions at
// a time, and wants the histories to find it by its name.
func TestAnyPromiseThatIsBrokenOnPurposeIsNoticed(t *testing.T) {
	forget := func(reason string) func(rotation.Decision) rotation.Decision {
		return func(d rotation.Decision) rotation.Decision {
			for i := range d.Verdicts {
				if v := &d.Verdicts[i]; v.Keep && strings.Contains(v.Why, reason) {
					v.Keep, v.Why = false, "on purpose"
				}
			}
			return d
		}
	}
	steps := func(change func([]rotation.Step) []rotation.Step) func(rotation.Decision) rotation.Decision {
		return func(d rotation.Decision) rotation.Decision {
			d.Steps = change(slices.Clone(d.Steps))
			return d
		}
	}
	without := func(kind rotation.StepKind) func(rotation.Decision) rotation.Decision {
		return steps(func(all []rotation.Step) []rotation.Step {
			return slices.DeleteFunc(all, func(s rotation.Step) bool { return s.Kind == kind })
		})
	}
	for name, c := range map[string]struct {
		mutate func(rotation.Decision) rotation.Decision
		want   []string
	}{
		"the last verified copy goes":        {forget("the last verified copy"), []string{"the last verified copy stays", "the newest point on a drive stays", "parts go together"}},
		"the newest verified copy goes":      {forget("the newest verified copy"), []string{"the newest verified copy stays", "the newest point on a drive stays", "parts go together"}},
		"the newest point goes":              {forget("the newest point of"), []string{"the newest point on a drive stays"}},
		"a part goes alone":                  {forget("another part of it is on drive"), []string{"parts go together"}},
		"holds are not looked at":            {forget("held: the auditors"), []string{"what is held stays"}},
		"absent drives are decided":          {forget("decided when it returns"), []string{"an absent drive keeps all"}},
		"the clock is believed":              {forget("the clock "), []string{"a wrong clock forgets nothing"}},
		"the homecoming is always first":     {steps(homeFirst), []string{"the newest offsite copy never gets older", "never without a verified drive offsite", "what a step needs stands before it"}},
		"nobody waits":                       {steps(nobodyWaits), []string{"the newest offsite copy never gets older", "never without a verified drive offsite"}},
		"nobody asks where exports may fail": {steps(nobodyAsks), []string{"the newest offsite copy never gets older", "never without a verified drive offsite"}},
		"nothing is read back":               {without(rotation.StepEject), []string{"what goes out was read back", "what a step needs stands before it"}},
	} {
		t.Run(name, func(t *testing.T) {
			for n := range uint64(3000) {
				w := newWorld(seed(n))
				w.mutate = c.mutate
				var found broken
				if err := w.live(); errors.As(err, &found) {
					if !slices.Contains(c.want, found.name) {
						t.Fatalf("found as %q, not as one of %q: %v", found.name, c.want, found)
					}
					return
				}
			}
			t.Error("no history noticed it")
		})
	}
}

// homeFirst puts the way home before all other steps, and needs nothing for it.
func homeFirst(steps []rotation.Step) []rotation.Step {
	home := func(s rotation.Step) bool {
		return s.Kind == rotation.StepRecall || s.Kind == rotation.StepCollect || s.Kind == rotation.StepArrive
	}
	var first, then []rotation.Step
	for _, s := range nobodyWaits(steps) {
		if home(s) {
			s.Needs = nil
			first = append(first, s)
		} else {
			then = append(then, s)
		}
	}
	return slices.Concat(first, then)
}

func nobodyAsks(steps []rotation.Step) []rotation.Step {
	for i := range steps {
		steps[i].Ask = false
	}
	return steps
}

func nobodyWaits(steps []rotation.Step) []rotation.Step {
	for i := range steps {
		if k := steps[i].Kind; k == rotation.StepCollect || k == rotation.StepArrive {
			steps[i].Waits = ""
		}
	}
	return steps
}
