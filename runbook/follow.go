package runbook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// maxFlaps is how often a step is tried again because its host was away and is
// there again, beyond its retries.
const maxFlaps = 3

// maxForms bounds the disk controllers that are tried; a world says sooner that
// there is no other.
const maxForms = 8

// follow decides what comes after a step that did not end well, and writes it.
func (c *conductor) follow(ctx context.Context, r report, e entry) {
	f := r.flight
	s := &c.run.Steps[f.place]
	m := c.run.machine(f.step.Machine)
	switch {
	case ctx.Err() != nil, m != nil && (m.away || c.moves(m.Name) || c.run.awaitsHost(m.Name)):
		// Nobody knows how far it got. What it leaves, its Done will see.
		e.Kind = entryCut
		c.append(e)
	case f.step.Kind == StepConfirm && r.late, errors.Is(r.err, ErrPerson):
		e.Kind = entryWaiting
		c.append(e)
	case r.gone:
		e.Kind = entryCut
		c.append(e)
		c.hostGone(m.Host)
	case errors.Is(r.err, ErrHostGone) && isOnce(f.step):
		e.Kind = entryCut // the host is there again, and whether the command is done nobody knows
		c.append(e)
	case isOnce(f.step) && (r.late || errors.Is(r.err, ErrLimit)):
		e.Then, e.Open = c.lastFate(s), true
		c.append(e)
	case errors.Is(r.err, ErrHostGone) && c.flapped[f.place] < maxFlaps:
		c.flapped[f.place]++
		c.retry(f.place, e, c.flapped[f.place])
	case errors.Is(r.err, ErrNoRoot) && m != nil && isStart(f.step.Kind) && m.Form+1 < maxForms:
		c.comeBack(e, m, m.Back, m.Form+1)
	case isFinal(r.err):
		e.Then = c.lastFate(s)
		c.append(e)
	case s.tries <= f.step.Step.Retries && !errors.Is(r.err, ErrNoForm):
		c.retry(f.place, e, s.tries)
	default:
		c.fallBack(r, e, m)
	}
}

// isStart says that a step is about the start of a machine: only when one of these
// fails another form or an older point may help. Later ones fail for other reasons,
// and people may work on the machine by then.
func isStart(k StepKind) bool { return k == StepBoot || k == StepCheck }

// isFinal says that trying again, or with an older point, can only do harm: a person
// said no, or somebody else has the address.
func isFinal(err error) bool {
	return errors.Is(err, ErrRefused) || errors.Is(err, ErrAddressInUse)
}

// retry writes that a step failed and is tried again after a pause.
func (c *conductor) retry(place int, e entry, tries int) {
	e.Then = fateRetry
	c.append(e)
	c.pauses[place] = c.now().Add(c.limits.pauseBefore(tries))
}

// fallBack takes the way of on_failure when a step failed for good.
func (c *conductor) fallBack(r report, e entry, m *MachineState) {
	s := &c.run.Steps[r.flight.place]
	way := c.onFailure(s)
	if m != nil && isEssential(s.Step) && isStart(s.Step.Kind) {
		switch {
		case way == FailOtherBus && !errors.Is(r.err, ErrNoForm) && m.Form+1 < maxForms:
			c.comeBack(e, m, m.Back, m.Form+1)
			return
		case way == FailOlderPoint && c.canGoBack(m):
			form := m.Form
			if errors.Is(r.err, ErrNoForm) {
				form = 0
			}
			c.comeBack(e, m, m.Back+1, form)
			return
		}
	}
	e.Then = c.lastFate(s)
	c.append(e)
}

// onFailure is what the runbook says of a step, or of its machine.
func (c *conductor) onFailure(s *StepState) OnFailure {
	if s.Step.Step.OnFailure != "" {
		return s.Step.Step.OnFailure
	}
	if m := c.run.machine(s.Step.Machine); m != nil && m.OnFailure != "" {
		return m.OnFailure
	}
	return FailStop
}

// lastFate is what follows when nothing else is left to try.
func (c *conductor) lastFate(s *StepState) fate {
	switch {
	case !isEssential(s.Step):
		return fateTold
	case c.onFailure(s) == FailContinue:
		return fateContinue
	}
	return fateStop
}

// isEssential says that a step matters. One that follows from a machine, of which
// the file has no line of its own, always does.
func isEssential(s PlannedStep) bool { return s.Step.Line == 0 || s.Step.Essential }

// together are the machines that go back with one: its groups', unless each may
// come from its own run.
func (c *conductor) together(name string) []string {
	names := []string{name}
	for at := 0; at < len(names); at++ {
		for _, g := range c.run.Plan.Groups {
			if g.Allowed || !slices.Contains(g.Machines, names[at]) {
				continue
			}
			for _, other := range g.Machines {
				if c.run.machine(other) != nil && !slices.Contains(names, other) {
					names = append(names, other)
				}
			}
		}
	}
	return names
}

// canGoBack says that a machine, and those that belong to it, have an older point.
func (c *conductor) canGoBack(m *MachineState) bool {
	return !slices.ContainsFunc(c.together(m.Name), func(name string) bool {
		return len(c.run.machine(name).Older) <= m.Back
	})
}

// comeBack writes that a step failed and that its machine comes back in another way;
// from an older point with those that belong together, in one line, so that they
// are never of two runs.
func (c *conductor) comeBack(e entry, m *MachineState, back, form int) {
	names := []string{m.Name}
	why := "its system is given another kind of disk controller"
	if back != m.Back {
		names = c.together(m.Name)
		why = fmt.Sprintf("an older point, of %s", m.Older[back-1].TakenAt.UTC().Format(time.RFC3339))
		why += ", because " + e.Step + " failed: " + e.Text
	}
	if kept := c.run.keptOf(names); kept != "" {
		e.Kind, e.Then = entryWaiting, fateKept
		e.Text = fmt.Sprintf("%s. By itself it would come back in another way (%s), but %s has data written since it came back, which only a person may give up", e.Text, why, kept)
		c.append(e)
		return
	}
	e.Then = fateAgain
	c.append(entry{Kind: entryAway, Machine: m.Name, Machines: names, Point: back, Form: form, Text: why})
	c.append(e)
	c.cutOff(names)
}

// cutOff ends the steps that go on about some machines.
func (c *conductor) cutOff(names []string) {
	for i, f := range c.flights {
		if slices.Contains(names, f.step.Machine) {
			f.cancel(errTakenAway)
		}
		delete(c.pauses, i)
	}
}

// isBusy says that steps about a machine go on.
func (c *conductor) isBusy(name string) bool {
	return c.count(func(f *flight) bool { return f.step.Machine == name }) > 0
}

// takeAway takes away the machines that are to come back in another way, once
// nothing is done with them any more.
func (c *conductor) takeAway(ctx context.Context) {
	for i := range c.run.Machines {
		m := &c.run.Machines[i]
		if !m.away || c.homeless[m.Name] || c.taking[m.Name] || c.stuck[m.Name] || c.isBusy(m.Name) || c.moves(m.Name) {
			continue
		}
		if !m.touched {
			c.append(entry{Kind: entryTaken, Machine: m.Name})
			continue
		}
		c.taking[m.Name] = true
		now := m.PlannedMachine
		a := Action{Plan: c.run.Plan, Machine: &now, Form: m.Form, Attempt: 1, Say: func(string) {}}
		if boot := c.run.bootOf(m.Name); boot >= 0 {
			a.Step = c.run.Steps[boot].Step
			a.Attempt = c.run.Steps[boot].Attempts
		}
		go func() { c.reports <- report{taken: now.Name, err: c.o.World.Undo(ctx, a)} }()
	}
}

// takeInTaken takes in that a machine is away. One that cannot be taken away does not
// come back: two of it would write over each other.
func (c *conductor) takeInTaken(ctx context.Context, r report) {
	delete(c.taking, r.taken)
	if r.err == nil {
		c.append(entry{Kind: entryTaken, Machine: r.taken})
		return
	}
	if ctx.Err() != nil {
		return
	}
	if host := c.run.machine(r.taken).Host; errors.Is(r.err, ErrHostGone) {
		c.hostGone(host) // what is there of it goes with the host
		return
	}
	c.stuck[r.taken] = true
	for _, i := range c.run.about(r.taken) {
		if s := &c.run.Steps[i]; s.Status == StatusPending {
			c.append(entry{Kind: entryFailed, Step: s.Step.ID, Then: fateStop, Text: fmt.Sprintf("the machine could not be taken away, to come back in another way: %v", r.err)})
			return
		}
	}
}

// hostGone finds other hosts for the machines of one that does not answer.
func (c *conductor) hostGone(host string) {
	c.run.gone[host] = true
	places, _ := Place(c.run.planNow(), slices.Sorted(maps.Keys(c.run.gone))...)
	var names []string
	for i := range c.run.Machines {
		m := &c.run.Machines[i]
		if m.Host != host || !c.isWanted(m.Name) || c.run.awaitsHost(m.Name) {
			continue
		}
		names = append(names, m.Name)
		if m.kept && !m.moves {
			c.awaitHost(m)
		} else {
			c.moving[m.Name] = places.Machines[i].Host
		}
	}
	c.cutOff(names)
}

// isWanted says that a run has something to do with a machine.
func (c *conductor) isWanted(name string) bool {
	return slices.ContainsFunc(c.run.about(name), func(i int) bool { return c.run.Steps[i].Status != StatusSkipped })
}

func (c *conductor) moves(name string) bool {
	_, moves := c.moving[name]
	return moves
}

// move gives machines their new host once nothing is done with them any more.
func (c *conductor) move() {
	for _, name := range slices.Sorted(maps.Keys(c.moving)) {
		if c.isBusy(name) || c.taking[name] {
			continue
		}
		to := c.moving[name]
		delete(c.moving, name)
		if to != "" {
			c.append(entry{Kind: entryPlaced, Machine: name, Host: to, Text: "host " + c.run.machine(name).Host + " went away"})
			continue
		}
		c.homeless[name] = true
		m := c.run.machine(name)
		if c.run.Plan.Mode == Drill && m.touched && !m.away {
			// As after a crash: it begins from its point when the host is there again.
			c.append(entry{Kind: entryAway, Machine: name, Machines: []string{name}, Point: m.Back, Form: m.Form, Text: "its host went away"})
		}
		c.lost(name, "its host went away", StepBoot, StepCheck, StepConnect)
	}
}

// lost writes that what was done with a machine is not there any more.
func (c *conductor) lost(machine, why string, kinds ...StepKind) {
	var ids []string
	for _, i := range c.run.about(machine) {
		s := &c.run.Steps[i]
		if s.Status == StatusDone && followsMachine(s) && (len(kinds) == 0 || slices.Contains(kinds, s.Step.Kind)) {
			ids = append(ids, s.Step.ID)
		}
	}
	if len(ids) > 0 {
		c.append(entry{Kind: entryLost, Machine: machine, Steps: ids, Text: why})
	}
}
