package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// askLab is the lab of a run, as far as steps ask inside it.
type askLab interface {
	// Dial connects from inside to a machine of a network of the plan.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// Ping sends echoes from inside until one comes back.
	Ping(ctx context.Context, address string) (time.Duration, error)
	// Has says that a network of the plan is one of the lab's.
	Has(network string) bool
	// Namespace is the lab's network namespace. The caller closes it.
	Namespace(ctx context.Context) (*os.File, error)
	// Resolver is the address that answers DNS inside; invalid: nobody does.
	Resolver() netip.Addr
}

// askerOptions are what an asker asks with.
type askerOptions struct {
	plan *runbook.Plan
	run  *run
	// lab is nil where the run has none.
	lab askLab
	// find returns the machine of a step as its host lists it; ok is false if it is
	// not there.
	find func(ctx context.Context, act runbook.Action) (h hypervisor.Host, l hypervisor.Listed, ok bool, err error)
	// probe asks whether somebody on a bridge of this computer has an address or a
	// MAC, and says who; empty: nobody answered.
	probe func(ctx context.Context, bridge string, address netip.Addr, mac net.HardwareAddr) (who string, err error)
}

// asker does the steps that ask a service, a program, a guest or a person, and
// the one that plugs machines in. It promises what [runbook.World] promises of
// each. In a drill it asks nobody outside the lab: see the decision record 0023.
type asker struct {
	askerOptions
	a *app
	// bridges are those of this computer.
	bridges func() []string
}

func (a *app) newAsker(o askerOptions) *asker {
	return &asker{askerOptions: o, a: a, bridges: hypervisor.Bridges}
}

// Do does a step of its kinds.
func (k *asker) Do(ctx context.Context, act runbook.Action) (runbook.Result, error) {
	if act.Say == nil {
		act.Say = func(string) {}
	}
	switch act.Step.Kind {
	case runbook.StepCheck:
		return k.check(ctx, act)
	case runbook.StepRun:
		return k.command(ctx, act)
	case runbook.StepGuest:
		return k.guest(ctx, act)
	case runbook.StepConfirm:
		return k.confirm(ctx, act)
	case runbook.StepMessage:
		return k.message(act)
	case runbook.StepPause:
		return k.pause(ctx, act)
	case runbook.StepConnect:
		return k.connect(ctx, act)
	default:
		return runbook.Result{}, fmt.Errorf("a step of kind %q asks nobody", act.Step.Kind)
	}
}

// Done looks whether the effect of a step is there already. A check, a question, a
// message and a pause leave nothing in the world, so they are done again.
func (k *asker) Done(ctx context.Context, act runbook.Action) (bool, error) {
	if act.Say == nil {
		act.Say = func(string) {}
	}
	switch act.Step.Kind {
	case runbook.StepConnect:
		return k.connected(ctx, act)
	case runbook.StepRun:
		return k.commandDone(ctx, act)
	case runbook.StepGuest:
		return k.guestDone(ctx, act)
	default:
		return false, nil
	}
}

// drill says that nothing outside the lab may be asked or told.
func (k *asker) drill() bool { return k.plan.Mode == runbook.Drill }

// message shows people a text.
func (k *asker) message(act runbook.Action) (runbook.Result, error) {
	text := act.Step.Step.Text
	if !k.a.json {
		k.a.ask(text + "\n") // as it is written: it may have several lines
	}
	act.Say(oneLine(plainText(text)))
	return runbook.Result{Detail: oneLine(plainText(text))}, nil
}

// tellPauseEvery is how often people hear how long a pause still takes.
const tellPauseEvery = time.Minute

// pause waits.
func (k *asker) pause(ctx context.Context, act runbook.Action) (runbook.Result, error) {
	for left := act.Step.Step.Limit; left > 0; left -= min(left, tellPauseEvery) {
		act.Say("waits for another " + humanDuration(left))
		select {
		case <-ctx.Done():
			return runbook.Result{}, context.Cause(ctx)
		case <-time.After(min(left, tellPauseEvery)):
		}
	}
	return runbook.Result{Detail: "waited for " + humanDuration(act.Step.Step.Limit)}, nil
}
