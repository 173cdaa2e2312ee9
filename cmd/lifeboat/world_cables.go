package main

import (
	"errors"
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
	kind := w.plan.Networks[i].Cable.Kind
	if w.plan.Mode == runbook.Drill {
		return w.isolated(host, name)
	}
	switch cable := w.plan.Networks[i].Cable; kind {
	case runbook.CableBridge:
		return hypervisor.Network{Kind: hypervisor.NetworkBridge, Name: cable.Name, Unplugged: true}, nil
	case runbook.CableNetwork:
		return hypervisor.Network{Kind: hypervisor.NetworkNamed, Name: cable.Name, Unplugged: true}, nil
	case runbook.CableNAT:
		if !w.inLab(host, name) {
			return hypervisor.Network{}, w.noNAT(host, name)
		}
		return w.isolated(host, name)
	case runbook.CableIsolated:
		return w.isolated(host, name)
	case runbook.CableNone:
		return hypervisor.Network{Kind: hypervisor.NetworkNone}, nil
	default:
		return hypervisor.Network{}, fmt.Errorf("the plan has no way for network %q: %q", name, kind)
	}
}

// inLab says that a network is one of the lab's for the machines of a host. The lab
// is this computer's own, for plain QEMU.
func (w *world) inLab(host, name string) bool {
	return w.o.lab != nil && w.files[host].Kind == kindQEMU && labHas(w.o.lab.config, name)
}

// isolated is the cable into a network that leads nowhere but where the lab lets
// it. Without the lab the host has a segment that only the machines of the run see.
// Where it cannot make one, the cards of a drill lie there unplugged: its checks go
// through the guests' agents.
func (w *world) isolated(host, name string) (hypervisor.Network, error) {
	if w.inLab(host, name) {
		return hypervisor.Network{Kind: hypervisor.NetworkLab, Name: name, Lab: w.o.lab.dir}, nil
	}
	h, err := w.host(host)
	switch {
	case err != nil:
		return hypervisor.Network{}, err
	case h.Abilities().Segments:
		return hypervisor.Network{Kind: hypervisor.NetworkSegment, Name: fmt.Sprintf("%s-%s-%s", w.plan.Mode, short(w.o.run.ID), name)}, nil
	case w.plan.Mode == runbook.Drill:
		w.tell("", "host %s has no isolated networks: what is on network %s is unplugged, and is asked through the guests' agents alone", host, name)
		return hypervisor.Network{Kind: hypervisor.NetworkNone}, nil
	}
	return hypervisor.Network{}, &lifeboat.Problem{
		What: fmt.Sprintf("network %s is isolated, and host %s has no isolated networks", name, host),
		Safe: "the machine was not started",
		Next: "lead the network to one of the host's own in the runbook, or recover on a qemu host of this computer",
	}
}

// noNAT is the problem of a network behind NAT where nobody can make one. A segment in
// its place would be a recovery that nobody reaches.
func (w *world) noNAT(host, name string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("network %s is behind NAT, which only root can open, for a qemu host of this computer; host %s cannot have it", name, host),
		Safe: "no machine was started on it",
		Next: "run it as root on a qemu host of this computer, or lead the network to a bridge or a network of the host in the runbook",
	}
}

// checkCables says before anything is started that a network of the plan cannot be
// had. A host that does not answer is the matter of its machines.
func (w *world) checkCables() error {
	for _, m := range w.plan.Machines {
		for _, card := range m.Cards {
			_, err := w.cable(m.Host, card.Network)
			var p *lifeboat.Problem
			if errors.As(err, &p) && !errors.Is(err, runbook.ErrHostGone) {
				if _, herr := w.host(m.Host); herr == nil {
					return fmt.Errorf("%s: %w", m.Name, err)
				}
			}
		}
	}
	return nil
}
