package main

import (
	"testing"

	"lifeboat/rotation"
)

// A drive is not let go while a step that comes before is open.
func TestAStepOfAttendWaitsForWhatItNeeds(t *testing.T) {
	day := rotation.Date{Year: 2026, Month: 10, Day: 9}
	steps := []rotation.Step{
		{ID: "attach/A", Kind: rotation.StepAttach, DriveID: "a", Due: day},
		{ID: "eject/A", Kind: rotation.StepEject, DriveID: "a", Due: day, Needs: []string{"attach/A"}},
	}
	j := judgement{decision: rotation.Decision{Day: day, Steps: steps}}
	if s, due := dueStep(j, "a", map[rotation.StepKind]bool{}); due {
		t.Errorf("%s is due before attach/A is done", s.ID)
	}
	steps[0].Done = &rotation.DoneStep{}
	if s, due := dueStep(j, "a", map[rotation.StepKind]bool{}); !due || s.ID != "eject/A" {
		t.Errorf("%v, %v", s.ID, due)
	}
}
