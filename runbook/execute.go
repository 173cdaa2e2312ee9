package runbook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/internal/durable"
)

// ErrUsage: what was asked for does not fit the run: no such step, or a skip
// without a reason.
var ErrUsage = errors.New("that does not fit the run")

// Options are a plan and what it is executed with.
type Options struct {
	// Plan is what to do. A run that is resumed has its own and takes no other.
	Plan  *Plan
	World World
	// Folder is the run's own, which exists. One process at a time works in it.
	Folder string
	// Start is what the record will say of how it began. A run that is resumed has
	// its own.
	Start Start
	// Resume goes on with the run in Folder; without it, a run that has begun there
	// is an error.
	Resume bool
	// FromStep takes what a step needs as done; Only leaves out what is about other
	// machines. Both are for this process alone: the next goes on with the rest. Skip
	// leaves out steps for good, each for a reason. Repeat are steps that wait, failed
	// or were left out, and that a person wants done (again). User decided that.
	FromStep string
	Only     []string
	Skip     map[string]string
	Repeat   []string
	User     string

	Limits Limits
	// Now is the clock; nil: the computer's.
	Now func() time.Time
	// Observe is told what happens, in order; it must not take long.
	Observe func(Event)

	// dies is asked before and after each line; a test ends the process there.
	dies func() error
}

// Execute does the steps of a plan in their order and returns what came of it, also
// beside an error:
//
//   - nil: every step that matters is done. Objectives may be missed: the record says.
//   - [lifeboat.ErrPartial]: done, but for steps or machines that it goes on without.
//   - [ErrFailed]: a step failed, and what needs it did not begin.
//   - [ErrPerson]: only a person can go on. The run can be resumed.
//   - the context's error: it was stopped, and can be resumed.
//   - [ErrUsage], [durable.ErrLocked] and what the folder gives: nothing was begun.
//
// Each step is written down as begun, durably, then the world is asked whether its
// effect is there, then it is done, then its result is written down. So a run that
// was killed anywhere goes on with Resume and does each of its own steps once.
func Execute(ctx context.Context, o Options) (*Record, error) {
	c, err := open(o)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if c.over() {
		return c.run.passed, nil
	}
	if err := c.begin(); err != nil {
		return MakeRecord(c.run), err
	}
	c.conduct(ctx)
	return c.end(ctx)
}

// open takes the run's folder and reads what it holds.
func open(o Options) (*conductor, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &conductor{o: o, limits: o.Limits.orDefaults(), flights: map[int]*flight{}, taking: map[string]bool{},
		moving: map[string]string{}, pauses: map[int]time.Time{}, flapped: map[int]int{}, homeless: map[string]bool{}, stuck: map[string]bool{},
		reports: make(chan report), said: make(chan saying), stopped: make(chan struct{})}
	var err error
	if c.dir, err = durable.OpenPrivate(o.Folder); err != nil {
		return nil, fmt.Errorf("open the run's folder: %w", err)
	}
	if c.lock, err = c.dir.Lock(lockFile, true); err != nil {
		closeDir(c.dir)
		return nil, err
	}
	if err := c.read(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// read finds the run, or makes one, and opens its journal.
func (c *conductor) read() error {
	begun, err := hasBegun(c.dir)
	if err != nil {
		return err
	}
	switch {
	case begun && !c.o.Resume:
		return fmt.Errorf("%w: it has begun already, and can only be resumed", ErrUsage)
	case !begun && c.o.Plan != nil && c.o.Plan.StopsPlan() != nil:
		return c.o.Plan.StopsPlan()
	case !begun && c.o.Plan == nil:
		return fmt.Errorf("%w: nothing was begun here", ErrUsage)
	case begun:
		c.run, err = readHead(c.dir)
	default:
		c.run, err = c.writeHead()
	}
	if err != nil {
		return err
	}
	var lines []json.RawMessage
	if c.journal, lines, err = durable.OpenJournal(c.dir, journalName); err != nil {
		return err
	}
	if err := c.run.replay(lines); err != nil {
		return err
	}
	return c.checkOptions()
}

// hasBegun says that a run's first line is written.
func hasBegun(dir durable.Dir) (bool, error) {
	lines, err := durable.ReadJournal(dir, journalName)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(lines) > 0, err
}

// writeHead keeps the plan and the runbook before the first line, which says that
// they are there.
func (c *conductor) writeHead() (*Run, error) {
	r, err := newRun(c.o.Plan)
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(c.o.Plan, "", " ")
	if err == nil {
		err = durable.WriteFileAtomic(c.dir, planFile, text)
	}
	if err == nil {
		err = durable.WriteFileAtomic(c.dir, bookFile, []byte(c.o.Start.BookText))
	}
	r.Start.BookText = c.o.Start.BookText
	return r, err
}

// checkOptions refuses what a person asked for and the plan does not have.
func (c *conductor) checkOptions() error {
	steps := append(slices.Sorted(maps.Keys(c.o.Skip)), c.o.Repeat...)
	if c.o.FromStep != "" {
		steps = append(steps, c.o.FromStep)
	}
	for _, id := range steps {
		if _, ok := c.run.graph.byID[id]; !ok {
			return fmt.Errorf("%w: the plan has no step %q", ErrUsage, id)
		}
	}
	for _, id := range c.o.Repeat {
		if s := &c.run.Steps[c.run.graph.byID[id]]; !s.mayRepeat() {
			return fmt.Errorf("%w: step %s is %s; only one that waits, failed or was left out is done again", ErrUsage, id, s.Status)
		}
	}
	for id, why := range c.o.Skip {
		if strings.TrimSpace(why) == "" {
			return fmt.Errorf("%w: step %s is left out only for a reason", ErrUsage, id)
		}
	}
	for _, name := range c.o.Only {
		if c.run.machine(name) == nil {
			return fmt.Errorf("%w: the plan has no machine %q", ErrUsage, name)
		}
	}
	return nil
}

// mayRepeat says that doing a step again means something: whatever else was done is
// there, and whatever was not begun comes by itself.
func (s *StepState) mayRepeat() bool {
	return s.open || s.Status == StatusWaiting || s.Status == StatusFailed || s.Status == StatusSkipped
}

// over says that nothing is left to do for ever: a drill that passed. A recovery
// that passed is resumed after a power cut.
func (c *conductor) over() bool {
	return c.run.passed != nil && c.run.Plan.Mode == Drill
}

// begin writes the process's first line, and what a person decided.
func (c *conductor) begin() error {
	c.opened = c.o.Now()
	if !c.run.started {
		s := c.o.Start
		if s.Began.IsZero() {
			s.Began = c.opened
		}
		c.base = max(0, c.opened.Sub(s.Began))
		// A journal is read by other processes, to which this one's clock says nothing.
		s.Began = s.Began.Round(0)
		c.append(entry{Kind: entryRun, Start: &s})
	} else {
		// A clock that was set back makes nothing shorter than it was.
		c.base = max(c.run.Since, c.opened.Round(0).Sub(c.run.Start.Began))
		c.append(entry{Kind: entryResume, Who: c.o.User})
	}
	c.decisions()
	return c.broken
}

// decisions writes down what is left out and what is done again, and who said so.
func (c *conductor) decisions() {
	open := func(i int) bool {
		s := c.run.Steps[i].Status
		return s != StatusDone && s != StatusSkipped
	}
	leave := func(why string, once bool, marked []bool) {
		var ids []string
		for i, m := range marked {
			if m && open(i) {
				ids = append(ids, c.run.Steps[i].Step.ID)
			}
		}
		if len(ids) > 0 {
			c.append(entry{Kind: entrySkipped, Steps: ids, Text: why, Who: c.o.User, Once: once})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.o.Skip)) {
		leave(c.o.Skip[id], false, c.only(c.run.graph.byID[id]))
	}
	if c.o.FromStep != "" {
		leave("it comes before "+c.o.FromStep+", where the run was begun", true, c.run.graph.before(c.run.graph.byID[c.o.FromStep]))
	}
	if len(c.o.Only) > 0 {
		leave("the run was only for "+strings.Join(c.o.Only, ", "), true, c.others())
	}
	if len(c.o.Repeat) > 0 {
		c.append(entry{Kind: entryRepeat, Steps: c.o.Repeat, Who: c.o.User})
	}
}

// only marks one step.
func (c *conductor) only(i int) []bool {
	marked := make([]bool, len(c.run.Steps))
	marked[i] = true
	return marked
}

// others marks what is about other machines than those of Only, and what is about
// none and not needed by them.
func (c *conductor) others() []bool {
	var about []int
	for i := range c.run.Steps {
		if slices.Contains(c.o.Only, c.run.Steps[i].Step.Machine) {
			about = append(about, i)
		}
	}
	needed := c.run.graph.before(about...)
	marked := make([]bool, len(c.run.Steps))
	for i := range c.run.Steps {
		m := c.run.Steps[i].Step.Machine
		marked[i] = m != "" && !slices.Contains(c.o.Only, m) || m == "" && !needed[i]
	}
	return marked
}

// now is the clock of this run.
func (c *conductor) now() time.Time { return c.o.Now() }

// since is how long ago the command was given. It never goes back.
func (c *conductor) since() time.Duration {
	return max(c.run.Since, c.base+c.now().Sub(c.opened))
}

// append writes a line, takes it up, and tells whoever watches. After an error the
// run comes to its end: what nobody could read later must not happen.
func (c *conductor) append(e entry) {
	if c.broken != nil {
		return
	}
	if c.o.dies != nil {
		if c.broken = c.o.dies(); c.broken != nil {
			return
		}
	}
	e.Version, e.At, e.Since = Version, c.now().Round(0).UTC(), c.since()
	line, e, err := e.encode()
	if err == nil {
		err = c.journal.Append(json.RawMessage(line))
	}
	if err != nil {
		c.broken = &lifeboat.Problem{
			What: fmt.Sprintf("the run's folder %s cannot be written: %v", c.o.Folder, err),
			Safe: "machines that run go on; the drive was only read",
			Next: "make room there, then go on: " + resumeCommand(c.run),
			Err:  err,
		}
		return
	}
	if err := c.run.apply(e); err != nil {
		c.broken = fmt.Errorf("journal: %w", err)
		return
	}
	c.tell(e)
	if c.o.dies != nil {
		c.broken = c.o.dies()
	}
}

// close lets go of the folder.
func (c *conductor) close() {
	closers := []io.Closer{c.lock}
	if c.journal != nil {
		closers = append([]io.Closer{c.journal}, closers...)
	}
	for _, x := range closers {
		x.Close()
	}
	closeDir(c.dir)
}
