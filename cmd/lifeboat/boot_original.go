package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// A copy that is plugged into a real network beside its original takes the
// original's address there, and a check asks whoever has it. So the hosts are
// asked first whether the original runs.

// originalPatience is how long they may take to say it: on the worst day a host
// that burns must not keep its machines from coming back.
const originalPatience = 15 * time.Second

// besideOriginals refuses what would touch an original that runs: a cable into a
// network that others are on, unless f says that both are to run, and a check
// that would ask the original.
func (a *app) besideOriginals(ctx context.Context, f bootFlags, plan *bootPlan) error {
	if !slices.ContainsFunc(plan.Machines, plannedBoot.onRealNetwork) {
		return nil
	}
	site, err := a.siteOrNone()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, originalPatience, fmt.Errorf("%w (%s)", errSlow, humanDuration(originalPatience)))
	defer cancel()
	all, err := a.machines(ctx, site)
	if err != nil {
		a.warn("it is not known whether all originals are off: %v. An original that runs has the same addresses as its copy", err)
	}
	for _, m := range plan.Machines {
		i := slices.IndexFunc(all, func(o machineOn) bool { return o.Machine.ID == m.Point.Machine.ID && o.Power != hypervisor.PowerOff })
		if i < 0 || !m.onRealNetwork() {
			continue
		}
		if err := m.besideOriginal(all[i].place(), f.besideOriginal); err != nil {
			return err
		}
	}
	return nil
}

// onRealNetwork says that a card of the machine is on a network that others than
// the machines of this run are on.
func (b plannedBoot) onRealNetwork() bool {
	return slices.ContainsFunc(b.Networks, func(n hypervisor.Network) bool {
		return n.Kind == hypervisor.NetworkBridge || n.Kind == hypervisor.NetworkNamed
	})
}

// besideOriginal decides about a machine on a real network whose original runs.
func (b plannedBoot) besideOriginal(original string, wanted bool) error {
	if !wanted {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: %s, which it is a copy of, runs. On one network with it the copy may take its address and answer in its place", b.Name, original),
			Safe: "nothing was started; the original runs on",
			Next: "stop the original first; or try the copy where it cannot hurt: --network segment, or none; if both shall run on that network, say so: --beside-original",
		}
	}
	for _, c := range b.Checks {
		if c.direct && !b.readdressed {
			return &lifeboat.Problem{
				What: fmt.Sprintf("%s: its check %s would ask %s, and that is the address of %s, which runs: an answer would not be the copy's", b.Name, c, strings.TrimSuffix(c.Dial, fmt.Sprintf(":%d", c.Port)), original),
				Safe: "nothing was started; the original runs on",
				Next: fmt.Sprintf("say which other address the copy gets on that network: --address %s=ADDRESS/BITS; or leave the check out", shellWord(b.Name)),
			}
		}
	}
	return nil
}
