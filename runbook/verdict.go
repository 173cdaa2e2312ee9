package runbook

import (
	"cmp"
	"slices"
)

// verdict is what is known of a step before it begins.
type verdict int

const (
	// Something that it needs has not ended, or it runs.
	vWaits verdict = iota
	// It may begin.
	vReady
	// It ended in a way with which what needs it goes on.
	vPasses
	// It did not come to pass, and only what is about the same machine misses it.
	vLost
	// It did not come to pass, and what needs it does not begin.
	vStops
)

// verdicts says of each step whether it may begin.
func (r *Run) verdicts() []verdict {
	v := make([]verdict, len(r.Steps))
	for _, i := range r.graph.order {
		v[i] = r.verdict(i, v)
	}
	return v
}

// verdict judges one step, by those that it needs.
func (r *Run) verdict(i int, of []verdict) verdict {
	s := &r.Steps[i]
	switch s.Status {
	case StatusDone, StatusSkipped:
		return vPasses
	case StatusRunning, StatusWaiting:
		return vWaits
	case StatusFailed:
		return failedVerdict(s)
	}
	waits, lost := false, false
	for _, n := range r.graph.needs[i] {
		switch of[n] {
		case vStops:
			return vStops
		case vWaits, vReady:
			waits = true
		case vLost:
			lost = lost || s.Step.Machine != "" && s.Step.Machine == r.Steps[n].Step.Machine
		}
	}
	switch {
	case waits:
		return vWaits
	case lost:
		return vLost
	}
	return vReady
}

func failedVerdict(s *StepState) verdict {
	switch {
	case s.fate == fateTold:
		return vPasses
	case s.fate != fateContinue:
		return vStops
	case forPeople(s.Step.Kind), s.Step.Kind == StepRun, s.Step.Kind == StepGuest:
		return vPasses
	}
	return vLost
}

// byTier returns the places of all steps, low tiers first: where there is no room
// for everything, what matters most begins.
func (r *Run) byTier() []int {
	if r.tiers == nil {
		for i := range r.Steps {
			r.tiers = append(r.tiers, i)
		}
		slices.SortStableFunc(r.tiers, func(a, b int) int {
			return cmp.Compare(r.Steps[a].Step.Tier, r.Steps[b].Step.Tier)
		})
	}
	return r.tiers
}

// bootOf is the place of the step that boots a machine, or -1.
func (r *Run) bootOf(machine string) int {
	return slices.IndexFunc(r.Steps, func(s StepState) bool {
		return s.Step.Kind == StepBoot && s.Step.Machine == machine
	})
}
