package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// goOn gives power to what ran when the command before was killed, or the host
// lost its own: overlays are kept, and the disks are served again.
func (w *world) goOn(ctx context.Context) error {
	there, err := w.a.machinesOf(ctx, w.booted)
	if err != nil {
		w.a.warn("%v", err) // a host that died: its machines are placed again
	}
	for _, m := range w.plan.Machines {
		bm := w.entry(m.Name)
		l, ok := there[bm.Name]
		if !ok || bm.HostID == "" || bm.Stopped {
			continue
		}
		if !bm.Settled {
			if err := w.serve(ctx, func(text string) { w.tell("", "%s", text) }); err != nil {
				return err
			}
		}
		if l.Power != hypervisor.PowerOff {
			continue
		}
		host, err := w.host(w.booted.hostOf(bm).Name)
		if err == nil {
			err = host.PowerOn(ctx, hostWord(l))
		}
		if err != nil {
			return fmt.Errorf("%s: start it again: %w", bm.Name, err)
		}
		w.tell(bm.Name, "%s has power again, with what it wrote", bm.Name)
	}
	return nil
}

// check waits until a machine's checks pass, and gives up when its system says
// that it does not find its root device.
func (w *world) check(ctx context.Context, act runbook.Action) (runbook.Result, error) {
	if act.Machine == nil {
		return w.o.asks.Do(ctx, act)
	}
	host, err := w.host(act.Machine.Host)
	if err != nil {
		return runbook.Result{}, err
	}
	watched, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	b := &booter{a: w.a, host: host, run: w.o.run, booted: w.booted}
	go b.watchRoot(watched, plannedBoot{Name: w.nameOn(act.Machine.Name)}, stop)
	r, err := w.o.asks.Do(watched, act)
	if err == nil {
		w.work.Go(func() { w.afterCheck(act.Machine.Name) })
		r.ReadBytes = w.readFor(act.Machine.Name)
	}
	var missed errNoRoot
	if err != nil && errors.As(context.Cause(watched), &missed) {
		return r, fmt.Errorf("%s: %w: %w", act.Machine.Name, runbook.ErrNoRoot, missed)
	}
	return r, err
}

// afterCheck keeps the boot set of a machine of a drill, when the server of the
// disks has written down what it read until its check passed.
func (w *world) afterCheck(planned string) {
	if w.plan.Mode != runbook.Drill {
		return
	}
	select {
	case <-w.closing:
	case <-time.After(2 * servingEvery):
	}
	if err := w.keepBootSet(planned); err != nil {
		w.o.run.log(event{Event: "warning", Machine: planned, Text: "what it read is not kept: " + err.Error()})
	}
}

// readFor is about what was read from the drives for a machine: its share of all
// that was read, as what its guest was given is a share of what all were. Guests
// that read the same blocks share them.
func (w *world) readFor(planned string) int64 {
	s, err := readServing(w.o.run.dir)
	if err != nil {
		return 0
	}
	var own, all int64
	exports := w.entry(planned).Exports
	for name, n := range s.Given {
		all += n
		for _, export := range exports {
			if export == name {
				own += n
			}
		}
	}
	if all == 0 {
		return 0
	}
	return int64(float64(s.ReadBytes) * float64(own) / float64(all))
}

// settle moves a machine to local disk while it runs.
func (w *world) settle(ctx context.Context, act runbook.Action) (r runbook.Result, err error) {
	host, l, there, err := w.machineOf(ctx, act)
	if err != nil {
		return r, err
	}
	if !there {
		return r, fmt.Errorf("%s: %w", act.Machine.Name, hypervisor.ErrNoMachine)
	}
	b := &booter{a: w.a, host: host, run: w.o.run, booted: w.booted}
	if err := b.settleOne(ctx, hostWord(l)); err != nil {
		return r, err
	}
	r.Detail = "it runs from local disk and does not need the drive any more"
	return r, w.change(act.Machine.Name, func(m *bootedMachine) { m.Settled = true })
}

// isSettled says whether a machine runs from storage of its host. A command that
// was killed when the host was done, and before it was written down, is caught up
// with here.
func (w *world) isSettled(ctx context.Context, act runbook.Action) (bool, error) {
	m := w.entry(act.Machine.Name)
	if m.Settled {
		return true, nil
	}
	host, err := w.host(act.Machine.Host)
	if err != nil {
		return false, err
	}
	listed, err := host.List(ctx)
	for _, l := range listed {
		if m.HostID != "" && l.HostID == m.HostID && l.Machine.Name == m.Name && l.Recovery == "" {
			return true, w.change(act.Machine.Name, func(m *bootedMachine) { m.Settled = true })
		}
	}
	return false, err
}

// shutdownGrace is how long a guest may take to shut down where the step does not
// say it.
const shutdownGrace = 2 * time.Minute

// shutdown asks a machine to go off, and takes its power if it does not.
func (w *world) shutdown(ctx context.Context, act runbook.Action) (r runbook.Result, err error) {
	host, l, there, err := w.machineOf(ctx, act)
	if err != nil {
		return r, err
	}
	// Written down first: killed in between, it does not start again by itself.
	if err := w.change(act.Machine.Name, func(m *bootedMachine) { m.Stopped = true }); err != nil || !there {
		return r, err
	}
	grace := shutdownGrace
	if act.Step.Step.Limit > 0 {
		grace = act.Step.Step.Limit
	}
	return r, host.PowerOff(ctx, hostWord(l), grace)
}

// isOff says whether a machine has no power, or is not there.
func (w *world) isOff(ctx context.Context, act runbook.Action) (bool, error) {
	_, l, there, err := w.machineOf(ctx, act)
	return err == nil && (!there || l.Power == hypervisor.PowerOff), err
}
