package rotation_test

import (
	"strings"
	"testing"

	"lifeboat/custody"
	"lifeboat/rotation"
)

// TestAnExportWithoutAMachineSaysSo: one machine's fresh point ticks the step, so
// the list has to name those that go out as they were.
func TestAnExportWithoutAMachineSaysSo(t *testing.T) {
	old := taken(1, on(12, 22))
	old.ID, old.MachineID = "old", "mail"
	a := drive("A", custody.Onsite, on(9, 9), old, taken(2, on(19, 22)))
	a.Attached = true
	s := shelf(a, drive("B", custody.Offsite, on(6, 12)))
	s.Machines = append(s.Machines, rotation.ShelfMachine{ID: "mail", Name: "mail"}, rotation.ShelfMachine{ID: "new", Name: "new"},
		rotation.ShelfMachine{ID: "gone", Name: "gone", Retired: true})
	for _, step := range rotation.Decide(on(20, 10), twoDrives(), s).Steps {
		if step.Kind != rotation.StepExport {
			continue
		}
		if step.Done == nil || !strings.HasSuffix(step.Why, "older than that on this set: mail, new") {
			t.Errorf("%+v", step)
		}
		return
	}
	t.Error("the list has no export")
}
