package main

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// cables are where the network cards of a machine lead, in their order. A card
// that goes to a network that others are on lies there unplugged until a step
// connects it.
func (w *world) cables(act runbook.Action, cards []lifeboat.NIC) ([]hypervisor.Network, error) {
	var all []hypervisor.Network
	for i, nic := range cards {
		at := slices.IndexFunc(act.Machine.Cards, func(c runbook.PlannedCard) bool { return strings.EqualFold(c.MAC, nic.MAC) })
		if at < 0 && i < len(act.Machine.Cards) && act.Machine.Cards[i].MAC == "" {
			at = i // a card that nobody ever saw
		}
		if at < 0 {
			all = append(all, hypervisor.Network{Kind: hypervisor.NetworkNone})
			continue
		}
		cable, err := w.cable(act.Machine.Host, act.Machine.Cards[at].Network)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", act.Machine.Name, err)
		}
		all = append(all, cable)
	}
	return all, nil
}

// cable is where a network of the plan leads on a host. A drill is isolated,
// whatever its plan says.
func (w *world) cable(host, name string) (hypervisor.Network, error) {
	i := slices.IndexFunc(w.plan.Networks, func(n runbook.PlannedNetwork) bool { return n.Name == name })
	if name == "" {
		return hypervisor.Network{Kind: hypervisor.NetworkNone}, nil
	}
	if i < 0 {
		return hypervisor.Network{}, fmt.Errorf("the plan does not say where network %q leads", name)
	}
	isolated := w.isolated(host, name)
	if w.plan.Mode == runbook.Drill {
		return isolated, nil
	}
	switch cable := w.plan.Networks[i].Cable; cable.Kind {
	case runbook.CableBridge:
		return hypervisor.Network{Kind: hypervisor.NetworkBridge, Name: cable.Name, Unplugged: true}, nil
	case runbook.CableNetwork:
		return hypervisor.Network{Kind: hypervisor.NetworkNamed, Name: cable.Name, Unplugged: true}, nil
	case runbook.CableNAT, runbook.CableIsolated:
		return isolated, nil
	case runbook.CableNone:
		return hypervisor.Network{Kind: hypervisor.NetworkNone}, nil
	default:
		return hypervisor.Network{}, fmt.Errorf("the plan has no way for network %q: %q", name, cable.Kind)
	}
}

// isolated is the cable into a network that leads nowhere but where the lab lets
// it. The lab is this computer's own, for plain QEMU; another host has a segment
// that only the machines of the run see.
func (w *world) isolated(host, name string) hypervisor.Network {
	if w.o.lab != nil && w.files[host].Kind == kindQEMU && labHas(w.o.lab.config, name) {
		return hypervisor.Network{Kind: hypervisor.NetworkLab, Name: name, Lab: w.o.lab.dir}
	}
	return hypervisor.Network{Kind: hypervisor.NetworkSegment, Name: fmt.Sprintf("%s-%s-%s", w.plan.Mode, short(w.o.run.ID), name)}
}
