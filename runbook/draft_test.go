package runbook

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat"
)

func draftMachineOf(id, name string, agent bool, network, address string) lifeboat.Machine {
	m := lifeboat.Machine{ID: strings.Repeat(id, 32), Name: name, Agent: agent, GuestFamily: "linux"}
	nic := lifeboat.NIC{MAC: "52:54:00:00:00:0" + id, Network: network}
	if address != "" {
		nic.Addresses = []string{address}
	}
	m.NICs = []lifeboat.NIC{nic}
	return m
}

func TestADraftIsOrderedByWhatNamesTell(t *testing.T) {
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	machines := []lifeboat.Machine{
		draftMachineOf("1", "web01", false, "office", "10.0.0.8/24"),
		draftMachineOf("2", "pg-main", true, "office", "10.0.0.7/24"),
		draftMachineOf("3", "srv-dc1", true, "office", "10.0.0.2/24"),
		draftMachineOf("4", "strange box", false, "VM Network", ""),
	}
	var points []KnownPoint
	for _, m := range machines {
		points = append(points, KnownPoint{RestorePoint: lifeboat.RestorePoint{RunID: "run1", TakenAt: now.Add(-9 * time.Hour), Machine: m}})
	}
	text := Draft(DraftInput{Name: "head-office", Site: "Müller", Now: now, Machines: machines, Points: points,
		Past: []PastRun{{Mode: Drill, Passed: true, RTA: 95 * time.Second, Began: now.AddDate(0, -1, 0)}}})
	b, err := Parse("x", text)
	if err != nil {
		t.Fatalf("%v\n%s", err.(*Mistakes).All, text)
	}
	var order []string
	for _, m := range b.Machines {
		order = append(order, m.Name)
	}
	if want := []string{"srv-dc1", "pg-main", "strange box", "web01"}; !slices.Equal(order, want) || b.Machines[0].Tier != 1 || b.Machines[1].Tier != 2 || b.Machines[3].Tier != 3 {
		t.Errorf("order %v, want %v\n%s", order, want, text)
	}
	if len(b.Groups) != 1 || len(b.Groups[0].Machines) != 3 || len(b.Networks) != 2 || b.Networks[1].CIDR != "10.0.0.0/24" {
		t.Errorf("groups %v, networks %v", b.Groups, b.Networks)
	}
	for _, want := range []string{"Declare the disaster", "insurer", "DNS and MX", "VPN", "Licences", "clocks", "took 1m35s", "up to 9h", "a guess: its name looks like PostgreSQL", "Nobody knows its addresses"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the draft does not say %q", want)
		}
	}
}

// Names come from guests and from other people's hypervisors.
func TestADraftIsReadWhateverMachinesAreCalled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"true", "~", "#", "a: b", "- x", "'", "\"", "web", "null", "1e3", "2026-11-20", "*a", "&a", "!!str", "x\u2028y", "\u202e"}))
		var machines []lifeboat.Machine
		var points []KnownPoint
		for i := range rapid.IntRange(0, 5).Draw(t, "machines") {
			m := draftMachineOf(string(rune('0'+i)), name.Draw(t, "name"), rapid.Bool().Draw(t, "agent"), name.Draw(t, "network"), rapid.SampledFrom([]string{"", "10.0.0.1/24", "rubbish"}).Draw(t, "address"))
			m.HostName = name.Draw(t, "host name")
			machines = append(machines, m)
			points = append(points, KnownPoint{RestorePoint: lifeboat.RestorePoint{RunID: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "run"), TakenAt: time.Unix(int64(i), 0), Machine: m}})
		}
		text := Draft(DraftInput{Name: "x", Site: name.Draw(t, "site"), Now: time.Unix(1e9, 0), Machines: machines, Points: points})
		if _, err := Parse("x", text); err != nil {
			t.Fatalf("%v\n%s", err.(*Mistakes).All, text)
		}
	})
}
