package runbook

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// looksAtOnce is how many machines are looked at at the same time when a run is
// taken up again.
const looksAtOnce = 16

// lookAgain asks the world, when a run is taken up again, whether the machines that
// it had started still run: the power may have been away. Those that do not begin
// anew: in a recovery on what they had written, in a drill from their point.
func (c *conductor) lookAgain(ctx context.Context) {
	var places []int
	for i := range c.run.Steps {
		if c.isKept(i) {
			places = append(places, i)
		}
	}
	there, errs := make([]bool, len(places)), make([]error, len(places))
	c.askAll(ctx, places, there, errs, time.Now())
	if slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, ErrHostGone) }) {
		c.tellAwaited(places, errs)
		c.askAll(ctx, places, there, errs, time.Now().Add(c.limits.HostWait))
	}
	for n, i := range places {
		if ctx.Err() != nil {
			return
		}
		c.foundAgain(i, there[n], errs[n])
	}
}

// askAll asks the world, some at the same time, whether what steps did is there: all
// of them, or those whose host did not answer.
func (c *conductor) askAll(ctx context.Context, places []int, there []bool, errs []error, until time.Time) {
	again := slices.ContainsFunc(errs, func(err error) bool { return err != nil })
	var wait sync.WaitGroup
	room := make(chan struct{}, looksAtOnce)
	for n, i := range places {
		if again && !errors.Is(errs[n], ErrHostGone) {
			continue
		}
		s := c.run.Steps[i]
		m := c.run.machine(s.Step.Machine)
		now := m.PlannedMachine
		a := Action{Plan: c.run.Plan, Step: s.Step, Machine: &now, Attempt: s.Attempts, Form: m.Form, Say: func(string) {}}
		room <- struct{}{}
		wait.Go(func() {
			defer func() { <-room }()
			there[n], errs[n] = c.askUntil(ctx, a, until)
		})
	}
	wait.Wait()
}

// isKept says that what a step did has to be there still: not that a machine runs of
// which a shutdown was begun.
func (c *conductor) isKept(i int) bool {
	s := &c.run.Steps[i]
	m := c.run.machine(s.Step.Machine)
	if m == nil || m.away || s.Status != StatusDone || !slices.Contains([]StepKind{StepBoot, StepConnect, StepSettle}, s.Step.Kind) {
		return false
	}
	return !slices.ContainsFunc(c.run.about(m.Name), func(n int) bool {
		s := &c.run.Steps[n]
		return s.Step.Kind == StepShutdown && (s.open || s.Status == StatusDone)
	})
}

// foundAgain takes in whether what a step did is there still.
func (c *conductor) foundAgain(i int, there bool, err error) {
	s := &c.run.Steps[i]
	m := c.run.machine(s.Step.Machine)
	switch {
	case there || s.Status != StatusDone:
	case errors.Is(err, ErrHostGone):
		if !c.moves(m.Name) && !c.homeless[m.Name] {
			c.hostGone(m.Host)
		}
	case s.Step.Kind != StepBoot:
		c.append(entry{Kind: entryLost, Machine: m.Name, Steps: []string{s.Step.ID}, Text: "it is not there any more"})
	case c.run.Plan.Mode == Drill:
		// The overlays of a drill ignore flushes: after a crash nobody may trust them.
		c.append(entry{Kind: entryAway, Machine: m.Name, Machines: []string{m.Name}, Point: m.Back, Form: m.Form, Text: "it does not run any more"})
	default:
		c.lost(m.Name, "it does not run any more", StepBoot, StepCheck, StepConnect)
	}
}
