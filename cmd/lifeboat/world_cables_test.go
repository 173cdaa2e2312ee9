package main

import (
	"errors"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// TestANetworkThatAHostCannotHaveIsSaidAndNotReplaced: a recovery behind NAT that
// became an isolated segment is one that nobody reaches.
func TestANetworkThatAHostCannotHaveIsSaidAndNotReplaced(t *testing.T) {
	for _, c := range []struct {
		mode    runbook.Mode
		kind    runbook.CableKind
		refused bool
	}{
		{runbook.Recover, runbook.CableNAT, true},
		{runbook.Recover, runbook.CableIsolated, true},
		{runbook.Recover, runbook.CableBridge, false},
		{runbook.Drill, runbook.CableNAT, false},
	} {
		a, file, _ := newListing(t, kindLibvirt, listingHost{namedHost: namedHost{name: "far"}})
		plan := &runbook.Plan{Mode: c.mode,
			Machines: []runbook.PlannedMachine{{Name: "web", Host: file.Name, Cards: []runbook.PlannedCard{{Network: "lan"}}}},
			Networks: []runbook.PlannedNetwork{{Name: "lan", Cable: runbook.Cable{Kind: c.kind, Name: "br0"}}}}
		w := &world{a: a, plan: plan, o: worldOptions{plan: plan, run: &run{ID: newID(), dir: t.TempDir()}}, files: map[string]hostFile{file.Name: file}}
		err := w.checkCables()
		var p *lifeboat.Problem
		if errors.As(err, &p) != c.refused {
			t.Errorf("%s over %s: %v", c.mode, c.kind, err)
		}
		cable, err := w.cable(file.Name, "lan")
		if c.mode == runbook.Drill && (err != nil || cable.Kind != hypervisor.NetworkNone) {
			t.Errorf("a drill on a host without isolated networks is plugged into %+v (%v)", cable, err)
		}
	}
}
