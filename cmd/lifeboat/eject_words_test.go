package main

import (
	"testing"

	"lifeboat"
	"lifeboat/rotation"
)

// A drive that was ejected is given to whom the checklist names, and to nobody
// while a step comes before: then what is first is said.
func TestAnEjectedDriveIsGivenToNobodyBeforeItsTime(t *testing.T) {
	step := func(kind rotation.StepKind, drive string, done bool) rotation.Step {
		s := rotation.Step{Kind: kind, DriveID: drive, Label: drive, Person: "Anna", Location: "bank"}
		if done {
			s.Done = &rotation.DoneStep{}
		}
		return s
	}
	for name, c := range map[string]struct {
		steps []rotation.Step
		want  string
	}{
		"its turn": {[]rotation.Step{step(rotation.StepEject, "A", true), step(rotation.StepDepart, "A", false), step(rotation.StepDeposit, "A", false)},
			"safe to unplug drive A; give it to Anna, for bank"},
		"not verified": {[]rotation.Step{step(rotation.StepAttach, "A", false), step(rotation.StepVerify, "A", false), step(rotation.StepEject, "A", false), step(rotation.StepDepart, "A", false)},
			"safe to unplug drive A; it does not leave the house yet. First: attach it again, and read everything on drive A: lifeboat verify --drive A"},
		"the turn of another": {[]rotation.Step{step(rotation.StepExport, "B", false), step(rotation.StepDepart, "B", false)}, "safe to unplug drive A"},
		"no rotation":         {nil, "safe to unplug drive A"},
	} {
		r := ejectReport{Drive: lifeboat.Drive{ID: "A", Label: "A"}, Safe: true}
		r.goesTo(c.steps)
		if got := r.words(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
