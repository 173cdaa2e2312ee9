package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// A machine is built as its system knows it. If that system says that it does
// not find its root device, the host has another disk controller than the
// description says, or the machine came from another kind of host: then it is
// built anew, in the next form that this host has, on overlays without a byte
// of the first try.

const (
	// rootEvery is how often a machine whose check waits is asked whether it
	// misses its root device.
	rootEvery = time.Second
	// rootGrace is how long a system may take to go on after it said so: what it
	// prints then takes the words back.
	rootGrace = 10 * time.Second
)

// errNoRoot is what a machine printed that does not find its root device.
type errNoRoot struct{ words string }

func (e errNoRoot) Error() string {
	return fmt.Sprintf("its system does not find its root device (%q)", e.words)
}

// inForms boots a machine in one form after the other, until its checks answer or
// something else goes wrong, and writes to r the form, when it got its power, and
// the last check's answer. Without a check the first form has to do: nobody waits
// to see what the machine says.
func (b *booter) inForms(ctx context.Context, m plannedBoot, r *bootResult) error {
	forms := hypervisor.Candidates(m.Point.Machine, b.host.Abilities())
	if m.Form != "" {
		forms = []hypervisor.Candidate{{Machine: m.Point.Machine, Why: m.Form}}
	}
	for i, form := range forms {
		m.Point.Machine = form.Machine
		if r.Form = form.Why; form.Why != hypervisor.AsKnown {
			b.tell(m.Name, "is built with %s", form.Why)
		}
		if err := b.start(ctx, m); err != nil {
			return err
		}
		r.PowerSeconds = time.Since(b.began).Seconds()
		answer, err := b.watched(ctx, m)
		var missed errNoRoot
		if !errors.As(err, &missed) {
			r.Answer = answer
			return err
		}
		if m.Form != "" {
			return &lifeboat.Problem{
				What: fmt.Sprintf("%s: %v", m.Name, missed),
				Safe: fmt.Sprintf("the machine stands where it is; drive %s is only read", b.booted.Drive.Label),
				Next: "remove it: lifeboat stop " + shellWord(m.Name) + " --now --remove; and boot it with other --disks, or without it",
				Err:  missed,
			}
		}
		if i+1 == len(forms) {
			return &lifeboat.Problem{
				What: fmt.Sprintf("%s: %v, on none of the %d kinds of disk controller that host %s has for it", m.Name, missed, len(forms), b.host.Name()),
				Safe: fmt.Sprintf("the machine stands where it is; drive %s is only read", b.booted.Drive.Label),
				Next: "look at its screen: lifeboat console " + shellWord(m.Name),
				Err:  missed,
			}
		}
		b.tell(m.Name, "%v; it is built again, with %s", missed, forms[i+1].Why)
		if err := b.takeAway(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// withDisks puts the disks of every machine of the plan on the bus that a person
// chose, on a host with those abilities.
func (p *bootPlan) withDisks(bus string, a hypervisor.Abilities) error {
	for i := range p.Machines {
		m := &p.Machines[i]
		form, err := hypervisor.OnBus(m.Point.Machine, lifeboat.Bus(bus), a)
		if err != nil {
			return usagef("--disks %s: %s: %v", bus, m.Name, err)
		}
		m.Point.Machine, m.Form = form.Machine, form.Why
	}
	return nil
}

// takeAway removes a machine that has done nothing yet but look for its disks.
func (b *booter) takeAway(ctx context.Context, m plannedBoot) error {
	err := b.host.PowerOff(ctx, m.Name, 0)
	if err == nil {
		err = b.host.Remove(ctx, m.Name)
	}
	if err != nil {
		return b.problem(m, fmt.Errorf("take it away to build it in another form: %w", err))
	}
	return nil
}

// watched waits for the machine's checks, and gives up with errNoRoot when its
// system says that it does not find its root device.
func (b *booter) watched(ctx context.Context, m plannedBoot) (string, error) {
	if len(m.Checks) == 0 {
		return "", nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go b.watchRoot(ctx, m, stop)
	return b.wait(ctx, m)
}

// watchRoot looks at what the machine says until ctx ends. A host that cannot
// tell says nothing, and the checks decide alone.
func (b *booter) watchRoot(ctx context.Context, m plannedBoot, stop context.CancelCauseFunc) {
	var since time.Time
	tick := time.NewTicker(rootEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		words, err := b.host.NoRoot(ctx, m.Name)
		switch {
		case err != nil || words == "":
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= rootGrace:
			stop(errNoRoot{hypervisor.GuestWords(words)})
			return
		}
	}
}
