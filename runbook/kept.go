package runbook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// keep takes up that a machine of a recovery has data which nothing else has: its
// checks passed once, somebody may have reached it, or a step wrote in it. From then
// on it is never taken away or begun anew elsewhere by itself. A drill may do both.
func (r *Run) keep(s *StepState) {
	m := r.machine(s.Step.Machine)
	if m == nil || r.Plan.Mode != Recover {
		return
	}
	switch s.Step.Kind {
	case StepCheck:
		m.kept = m.kept || s.Status == StatusDone
	case StepConnect, StepGuest, StepSettle:
		m.kept = true // from its beginning: nobody knows what it did until it was cut off
	case StepBoot:
		// It was there again: what a person allowed while it was not is over.
		m.moves = m.moves && s.Status != StatusDone
	}
}

// keptOf is the first of some machines that has data which only a person may give up.
func (r *Run) keptOf(names []string) string {
	for _, name := range names {
		if r.machine(name).kept {
			return name
		}
	}
	return ""
}

// awaitsHost says that a machine is not begun anew elsewhere until its host answers
// or a person gives up what it wrote there.
func (r *Run) awaitsHost(machine string) bool {
	boot := r.bootOf(machine)
	return boot >= 0 && r.Steps[boot].Status == StatusWaiting && r.Steps[boot].fate == fateKept
}

// awaitHost writes that a machine waits for its host. When the host is there again
// it is looked at, checked and plugged in as after a power cut.
func (c *conductor) awaitHost(m *MachineState) {
	boot := c.run.bootOf(m.Name)
	if boot < 0 || c.run.Steps[boot].Status == StatusSkipped {
		c.homeless[m.Name] = true
		return
	}
	c.lost(m.Name, "host "+m.Host+" does not answer", StepCheck, StepConnect)
	c.append(entry{Kind: entryWaiting, Step: c.run.Steps[boot].Step.ID, Then: fateKept, Text: fmt.Sprintf(
		"host %s does not answer, and what was written to %s since it came back is there; two of it would write over each other", m.Host, m.Name)})
}

// firstKept is a step that waits because its machine has data to lose.
func (r *Run) firstKept() *StepState {
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Status == StatusWaiting && s.fate == fateKept {
			return s
		}
	}
	return nil
}

// waysOn says what a person can do about a machine that has data to lose.
func (r *Run) waysOn(s *StepState) string {
	goOn, back := resumeCommand(r), fmt.Sprintf("or take the whole recovery back, which sets aside what was written: lifeboat recover --rollback %s", r.Start.RunID)
	if s.Step.Kind == StepBoot {
		return fmt.Sprintf("bring host %[1]s back, then go on: %[2]s; or, if it is lost for good and stays off, give up what was written there and begin anew elsewhere: %[2]s --repeat %[3]s; %[4]s",
			r.machine(s.Step.Machine).Host, goOn, s.Step.ID, back)
	}
	return fmt.Sprintf("look at %s, put it right, and do it again: %[2]s --repeat %[3]s; or go on as it is: %[2]s --skip %[3]s=REASON; %[4]s",
		s.Step.Machine, goOn, s.Step.ID, back)
}

// askUntil asks the world whether what a step did is there, and again while its host
// does not answer: after a power cut hosts come up one after the other.
func (c *conductor) askUntil(ctx context.Context, a Action, until time.Time) (there bool, err error) {
	for {
		there, err = c.o.World.Done(ctx, a)
		if !errors.Is(err, ErrHostGone) || ctx.Err() != nil {
			return there, err
		}
		if c.o.World.Alive(ctx, a.Machine.Host) {
			return there, nil // it is asked again when the step begins
		}
		left := time.Until(until)
		if left <= 0 {
			return there, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(left, hostEvery)):
		}
	}
}

// hostEvery is how often a host that does not answer is asked again.
const hostEvery = 5 * time.Second

// tellAwaited says that a run that is taken up again waits for hosts.
func (c *conductor) tellAwaited(places []int, errs []error) {
	var told []string
	for n, i := range places {
		s := &c.run.Steps[i]
		if host := c.run.machine(s.Step.Machine).Host; errs[n] != nil && !slices.Contains(told, host) {
			told = append(told, host)
			c.append(entry{Kind: entrySaid, Step: s.Step.ID, Text: fmt.Sprintf("host %s does not answer yet; waits for it for up to %s", host, c.limits.HostWait)})
		}
	}
}
