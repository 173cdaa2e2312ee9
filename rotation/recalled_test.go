package rotation_test

import (
	"testing"
	"time"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// A drive that is called home lies where it lay: no turn ends because of a call.
func TestACallForADriveEndsNoTurn(t *testing.T) {
	at := func(day, hour int) time.Time { return time.Date(2026, time.October, day, hour, 0, 0, 0, time.UTC) }
	p := rotation.Policy{
		Scheme:    rotation.Scheme{Kind: rotation.SchemeRoundRobin, Weekly: true, SwapDay: time.Friday, Sets: []rotation.Set{{Name: "A", Drives: []string{"A"}}, {Name: "B", Drives: []string{"B"}}}},
		Locations: []rotation.Location{{Name: "office"}, {Name: "bank", Offsite: true, LeadTime: 4 * time.Hour}},
	}
	s := rotation.Shelf{LastCommit: at(14, 22), Drives: []rotation.ShelfDrive{
		{Drive: lifeboat.Drive{ID: "a", Label: "A", CreatedAt: at(5, 8)}, Place: custody.Place{State: custody.Recall, Location: "bank"}, Since: at(15, 10), DepositedAt: at(9, 11)},
		{Drive: lifeboat.Drive{ID: "b", Label: "B", CreatedAt: at(5, 8)}, Place: custody.Place{State: custody.Onsite, Location: "office"}, Since: at(5, 8), Attached: true},
	}}
	d := rotation.Decide(at(15, 11), p, s)
	if d.Set != "B" || len(d.Write) != 1 || len(d.Steps) == 0 {
		t.Errorf("set %s, %d to write, %d steps", d.Set, len(d.Write), len(d.Steps))
	}
}
