package runbook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"lifeboat/internal/durable"
)

// conductor does a run. One goroutine decides, writes the journal and changes what
// is known; steps are done by others, which only report.
type conductor struct {
	o       Options
	limits  Limits
	dir     durable.Dir
	lock    io.Closer
	journal *durable.Journal
	run     *Run
	// opened is when this process began and base how long the run had lasted then.
	opened time.Time
	base   time.Duration
	// tick is the moment of the decisions that are being made.
	tick time.Time
	// broken is why nothing more can be written.
	broken error

	// flights are the steps that go on, taking the machines that are being taken
	// away, moving those whose host went away and where they go.
	flights map[int]*flight
	taking  map[string]bool
	moving  map[string]string
	// homeless are machines whose host went away and for which no other has room,
	// stuck those that could not be taken away.
	homeless, stuck map[string]bool
	// pauses are steps that are tried again, and when. flapped counts how often the
	// host of a step went away and was there again.
	pauses  map[int]time.Time
	flapped map[int]int

	reports chan report
	said    chan saying
	// stopped is closed when nobody listens any more.
	stopped chan struct{}
}

// flight is a step that goes on.
type flight struct {
	place         int
	step          PlannedStep
	host          string
	drives        []string
	began         time.Time
	attempt, form int
	cancel        context.CancelCauseFunc
}

// reads says that a flight reads one of some drives.
func (f *flight) reads(drives []string) bool {
	return slices.ContainsFunc(f.drives, func(id string) bool { return slices.Contains(drives, id) })
}

// errTakenAway ends the steps about a machine that is taken away or moved.
var errTakenAway = errors.New("its machine is taken away, to come back in another way")

// conduct begins what can begin and takes in what ends, until nothing can go on.
func (c *conductor) conduct(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer close(c.stopped)
	if c.run.Resumed > 0 {
		c.lookAgain(ctx)
	}
	stop := ctx.Done()
	for {
		c.tick = c.now()
		if c.broken != nil {
			cancel(c.broken)
		}
		if ctx.Err() == nil {
			c.move()
			c.takeAway(ctx)
			c.beginReady(ctx)
		}
		wake := c.nextWake(ctx)
		if len(c.flights) == 0 && len(c.taking) == 0 && wake == nil {
			return
		}
		select {
		case r := <-c.reports:
			c.takeIn(ctx, r)
		case s := <-c.said:
			c.takeSaying(s)
		case <-wake:
		case <-stop:
			stop = nil
		}
	}
}

// nextWake is a timer for what begins by the time alone: a pause that ends, or the
// storm of a start that is over. Nil: nothing does.
func (c *conductor) nextWake(ctx context.Context) <-chan time.Time {
	if ctx.Err() != nil {
		return nil
	}
	var next time.Duration
	found := false
	at := func(t time.Time) {
		if d := t.Sub(c.tick); !found || d < next {
			next, found = d, true
		}
	}
	for i, t := range c.pauses {
		if t.After(c.tick) {
			at(t)
		} else {
			delete(c.pauses, i)
		}
	}
	for _, f := range c.flights {
		if f.step.Kind == StepCheck && c.starts(f) {
			at(f.began.Add(c.limits.Storm))
		}
	}
	if !found {
		return nil
	}
	return time.After(next + time.Millisecond)
}

// beginReady begins every step that may begin and has room, low tiers first. What
// ends by itself (a step that waits for a person) may let others begin.
func (c *conductor) beginReady(ctx context.Context) {
	verdicts := c.run.verdicts()
	for _, i := range c.run.byTier() {
		if c.broken != nil {
			return
		}
		if verdicts[i] != vReady {
			continue
		}
		s := &c.run.Steps[i]
		if c.homeless[s.Step.Machine] {
			c.append(entry{Kind: entryFailed, Step: s.Step.ID, Then: fateStop, Text: "its host went away, and no other has room for it"})
			continue
		}
		if c.isHeld(i) {
			continue
		}
		if s.unsafe() {
			why := "it was begun and not finished, and nobody knows how far it got"
			if s.Problem != "" {
				why = s.Problem + "; nobody knows how far it got"
			}
			c.append(entry{Kind: entryWaiting, Step: s.Step.ID, Text: why})
			continue
		}
		if c.hasRoom(s.Step) {
			c.launch(ctx, i)
		}
	}
}

// isHeld says that a step may not begin just now: it goes on already, its pause is
// not over, or its machine is on its way.
func (c *conductor) isHeld(i int) bool {
	s := c.run.Steps[i].Step
	if _, going := c.flights[i]; going {
		return true
	}
	if t, paused := c.pauses[i]; paused && c.tick.Before(t) {
		return true
	}
	if s.Machine == "" {
		return false
	}
	return c.moves(s.Machine) || c.run.machine(s.Machine).away || s.Kind != StepBoot && c.run.awaitsHost(s.Machine)
}

// launch writes that a step begins, and begins it.
func (c *conductor) launch(ctx context.Context, i int) {
	s := &c.run.Steps[i]
	c.append(entry{Kind: entryBegun, Step: s.Step.ID})
	if c.broken != nil {
		return
	}
	delete(c.pauses, i)
	f := &flight{place: i, step: s.Step, began: c.now(), attempt: s.Attempts}
	a := Action{Plan: c.run.Plan, Step: s.Step, Attempt: s.Attempts, Say: c.sayFor(i, s.Attempts)}
	if m := c.run.machine(s.Step.Machine); m != nil {
		now := m.PlannedMachine
		a.Machine, a.Form = &now, m.Form
		f.host, f.drives, f.form = m.Host, m.DriveIDs, m.Form
	}
	ctx, f.cancel = context.WithCancelCause(ctx)
	c.flights[i] = f
	go func() {
		r := c.act(ctx, a)
		r.flight = f
		c.reports <- r
	}()
}

// saying is a line that a step tells people.
type saying struct {
	place, attempt int
	text           string
}

// sayFor lets one try of a step speak, for as long as somebody listens.
func (c *conductor) sayFor(place, attempt int) func(string) {
	return func(text string) {
		select {
		case c.said <- saying{place, attempt, text}:
		case <-c.stopped:
		}
	}
}

// takeSaying tells a line, and writes it down unless the step has said a lot or says
// the same again.
func (c *conductor) takeSaying(s saying) {
	state := &c.run.Steps[s.place]
	if state.Attempts != s.attempt || state.Status != StatusRunning || state.Said == s.text {
		return
	}
	e := entry{Kind: entrySaid, Step: state.Step.ID, Text: s.text}
	if state.said < maxSaid {
		c.append(e)
		return
	}
	e.At, e.Since = c.now(), c.since()
	c.tell(e.bounded())
}

// report is how a try of a step, or of taking a machine away, ended.
type report struct {
	flight   *flight
	result   Result
	evidence Evidence
	err      error
	// late: the step's limit ended it. gone: its host does not answer.
	late, gone bool
	// taken is the machine that was taken away, if that is what the report is of.
	taken string
}

// lookTime is how long the look at a console may take.
const lookTime = 30 * time.Second

// act does one try of a step: looks whether it is done, does it, keeps the console.
func (c *conductor) act(ctx context.Context, a Action) report {
	var r report
	doing := ctx
	if limit := stepLimit(a.Step); limit > 0 {
		var cancel context.CancelFunc
		doing, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	done, err := c.o.World.Done(doing, a)
	switch {
	case err != nil:
		r.err = fmt.Errorf("look whether it is done: %w", err)
	case done:
		r.result.Detail = "was done already"
	default:
		r.result, r.err = c.o.World.Do(doing, a)
	}
	r.late = r.err != nil && ctx.Err() == nil && errors.Is(doing.Err(), context.DeadlineExceeded)
	if errors.Is(r.err, ErrHostGone) && a.Machine != nil && ctx.Err() == nil {
		r.gone = !c.o.World.Alive(ctx, a.Machine.Host)
	}
	if a.Machine != nil && !r.gone && ctx.Err() == nil && (a.Step.Kind == StepCheck || a.Step.Kind == StepBoot && r.err != nil) {
		looking, cancel := context.WithTimeout(ctx, lookTime)
		defer cancel()
		// What could not be looked at is missing in the record, and that is all.
		r.evidence, _ = c.o.World.Look(looking, a)
	}
	return r
}

// takeIn writes down how a step ended, and what follows.
func (c *conductor) takeIn(ctx context.Context, r report) {
	if r.taken != "" {
		c.takeInTaken(ctx, r)
		return
	}
	f := r.flight
	delete(c.flights, f.place)
	f.cancel(nil)
	e := entry{Step: f.step.ID}
	if r.evidence != (Evidence{}) {
		e.Evidence = &r.evidence
	}
	if !isZero(r.result) {
		e.Result = &r.result
	}
	if r.err == nil {
		e.Kind = entryDone
		c.append(e)
		return
	}
	e.Kind, e.Text = entryFailed, r.err.Error()
	if r.late {
		e.Text = fmt.Sprintf("it did not end within %v and was ended: %s", stepLimit(f.step), e.Text)
	}
	c.follow(ctx, r, e)
}

func isZero(r Result) bool {
	return r.Detail == "" && len(r.Spent) == 0 && r.ReadBytes == 0 && r.Output == "" && r.Who == "" && r.Form == ""
}
