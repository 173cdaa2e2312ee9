package runbook

import (
	"fmt"
	"time"
)

// Event is something that happened, for people who watch a run.
type Event struct {
	At time.Time `json:"at"`
	// Since is the time from the command, Took that of the step that ended.
	Since time.Duration `json:"since"`
	Took  time.Duration `json:"took,omitempty"`
	// Kind is begun, said, done, failed, cut, waiting, skipped, repeat, lost, away,
	// taken, placed, run, resume or end.
	Kind    string   `json:"kind"`
	Step    string   `json:"step,omitempty"`
	Steps   []string `json:"steps,omitempty"`
	Machine string   `json:"machine,omitempty"`
	Attempt int      `json:"attempt,omitempty"`
	// Text is what was said, what was seen, or why it failed. It may come from a
	// guest: print it as one plain line.
	Text string `json:"text,omitempty"`
	// Again: it failed and is tried again, by itself.
	Again bool `json:"again,omitempty"`
}

// tell hands an entry to whoever watches.
func (c *conductor) tell(e entry) {
	if c.o.Observe == nil {
		return
	}
	v := Event{At: e.At, Since: e.Since, Kind: string(e.Kind), Step: e.Step, Steps: e.Steps, Machine: e.Machine, Text: e.Text,
		Again: e.Then == fateRetry || e.Then == fateAgain}
	if i, ok := c.run.graph.byID[e.Step]; ok {
		s := c.run.Steps[i]
		v.Machine, v.Attempt = s.Step.Machine, s.Attempts
		if e.Kind == entryDone || e.Kind == entryFailed || e.Kind == entryCut {
			v.Took = s.Ended - s.Began
		}
	}
	if v.Text == "" && e.Result != nil {
		v.Text = e.Result.Detail
	}
	if e.Kind == entryPlaced {
		v.Text = fmt.Sprintf("%s; it begins anew on host %s", e.Text, e.Host)
	}
	c.o.Observe(v)
}

// Line says an event in a line without its time, such as "boot-db: done in 12s".
// An empty one is of nothing that people have to read.
func (v Event) Line() string {
	about := v.Step
	if about == "" {
		about = v.Machine
	}
	with := func(words string) string {
		if v.Text == "" {
			return about + ": " + words
		}
		return about + ": " + words + ": " + v.Text
	}
	switch entryKind(v.Kind) {
	case entryBegun:
		if v.Attempt > 1 {
			return fmt.Sprintf("%s: begins, for the %s time", about, ordinal(v.Attempt))
		}
		return about + ": begins"
	case entrySaid:
		return about + ": " + v.Text
	case entryDone:
		return with("done in " + seconds(v.Took))
	case entryFailed:
		if v.Again {
			return with("failed after " + seconds(v.Took) + ", and is tried again")
		}
		return with("failed after " + seconds(v.Took))
	case entryCut:
		return with("was ended")
	case entryWaiting:
		return with("waits for a person")
	case entryAway:
		return with("is taken away and comes back in another way")
	case entryPlaced:
		return about + ": " + v.Text
	case entrySkipped, entryRepeat, entryLost:
		return v.decision()
	}
	return ""
}

// decision says what was decided of several steps.
func (v Event) decision() string {
	what := map[entryKind]string{entrySkipped: "left out", entryRepeat: "done again, as a person said", entryLost: "done again"}[entryKind(v.Kind)]
	about := fmt.Sprintf("%d steps", len(v.Steps))
	if len(v.Steps) == 1 {
		about = v.Steps[0]
	}
	if v.Text == "" {
		return about + ": " + what
	}
	return about + ": " + what + ": " + v.Text
}

func ordinal(n int) string {
	if n == 2 {
		return "second"
	}
	if n == 3 {
		return "third"
	}
	return fmt.Sprintf("%dth", n)
}

// seconds rounds a time to what people read.
func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
