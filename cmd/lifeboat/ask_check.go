package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/runbook"
)

const (
	// tryLimit is what one try of a check may take that says nothing of it.
	tryLimit = 10 * time.Second
	// tryFirst and trySeldom are the pauses between two tries: short at first, so
	// that the time until a service answers is measured well.
	tryFirst  = 250 * time.Millisecond
	trySeldom = 2 * time.Second
	// passEvery is between two tries that have to pass in a row: long enough for
	// a service that starts, falls over and starts again to be caught at it.
	passEvery = time.Second
	// tellTryEvery is how often people hear what a check waits for.
	tellTryEvery = 15 * time.Second
)

// check waits until each check of a step passes, one after the other.
func (k *asker) check(ctx context.Context, act runbook.Action) (runbook.Result, error) {
	checks := act.Step.Step.Checks
	if len(checks) == 0 && act.Machine != nil {
		checks = act.Machine.Checks
	}
	if len(checks) == 0 {
		return runbook.Result{Detail: "it has no check: nothing proves that it serves"}, nil
	}
	began := k.a.now()
	var seen []string
	for _, c := range checks {
		detail, err := k.waitFor(ctx, act, c)
		if err != nil {
			return runbook.Result{Detail: strings.Join(seen, "; ")}, err
		}
		seen = append(seen, words(checkTitle(c), detail))
	}
	return runbook.Result{
		Detail: oneLine(plainText(strings.Join(seen, "; "))),
		Spent:  map[runbook.Spending]time.Duration{runbook.SpentService: k.a.now().Sub(began)},
	}, nil
}

// waitFor tries a check until it passes as often in a row as it has to.
func (k *asker) waitFor(ctx context.Context, act runbook.Action, c runbook.Check) (string, error) {
	limit := cmp.Or(c.Within, runbook.DefaultWithin)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := trier{wanted: max(c.Passes, 1), say: act.Say, what: checkTitle(c)}
	err := t.until(limited, func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, tryLimit))
		defer cancel()
		return k.try(ctx, act, c)
	})
	if err == nil {
		return t.detail, nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return "", checkFailed(act, c, limit, &t, err)
}

// checkFailed is the problem of a check that did not pass. It says what was seen
// last.
func checkFailed(act runbook.Action, c runbook.Check, limit time.Duration, t *trier, err error) error {
	p := &lifeboat.Problem{Safe: "the drive is only read", Err: err}
	name := "the check " + checkTitle(c)
	if act.Machine != nil {
		name = act.Machine.Name + ": " + name
		p.Safe = "the machine runs on; the drive is only read"
		p.Next = "look at its screen: lifeboat console " + shellWord(act.Machine.Name)
	}
	var never *neverPasses
	switch {
	case errors.As(err, &never):
		p.What = name + " cannot be made: " + never.why
		p.Next = cmp.Or(never.next, p.Next)
	case t.flaps > 0:
		p.What = fmt.Sprintf("%s passed and failed again %d times within %s, and never %d times in a row; at the end: %v", name, t.flaps, humanDuration(limit), t.wanted, t.last)
	default:
		p.What = fmt.Sprintf("%s did not pass within %s (%d tries); at the end: %v", name, humanDuration(limit), t.tries, t.last)
	}
	p.Err = fmt.Errorf("%w: %w", runbook.ErrCheckFailed, err)
	return p
}

// neverPasses is why a check would not pass however often it were tried.
type neverPasses struct{ why, next string }

func (e *neverPasses) Error() string { return e.why }

// trier tries something until it worked some times in a row.
type trier struct {
	wanted int
	what   string
	say    func(string)

	tries, flaps int
	detail       string
	last         error
}

// until returns nil once it worked, what makes more tries senseless, or the last
// error when ctx ends.
func (t *trier) until(ctx context.Context, try func(context.Context) (string, error)) error {
	row, pause := 0, tryFirst
	told := time.Time{}
	for {
		detail, err := try(ctx)
		t.tries++
		var never *neverPasses
		switch {
		case errors.As(err, &never):
			return err
		case err == nil:
			t.detail, pause = detail, passEvery
			if row++; row >= t.wanted {
				return nil
			}
		default:
			if ctx.Err() == nil || t.last == nil {
				t.last = err // that the time is over says less than what was seen before
			}
			if row > 0 {
				t.flaps++
				row, pause = 0, tryFirst
				t.say(fmt.Sprintf("%s passed and then failed: %v", t.what, err))
			} else if time.Since(told) > tellTryEvery {
				told = time.Now()
				t.say(fmt.Sprintf("%s does not pass yet: %v", t.what, err))
			}
			pause = min(pause*3/2, trySeldom)
		}
		select {
		case <-ctx.Done():
			if t.last == nil {
				t.last = fmt.Errorf("it passed %d times in a row, and %d are wanted", row, t.wanted)
			}
			return t.last
		case <-time.After(pause):
		}
	}
}

// try makes a check once.
func (k *asker) try(ctx context.Context, act runbook.Action, c runbook.Check) (string, error) {
	if c.Kind == runbook.CheckCommand {
		return k.tryCommand(ctx, act, c)
	}
	if act.Machine == nil {
		return "", &neverPasses{why: "it asks a machine, and the step is about none", next: "name the machine in the step"}
	}
	switch c.Kind {
	case runbook.CheckAgent:
		return "", k.tryAgent(ctx, act)
	case runbook.CheckConsole:
		return k.tryConsole(ctx, act, c)
	case runbook.CheckGuest:
		return k.tryGuest(ctx, act, c)
	case runbook.CheckTCP, runbook.CheckHTTP, runbook.CheckHTTPS, runbook.CheckDNS, runbook.CheckPing:
		w, err := k.wayTo(ctx, act)
		if err != nil {
			return "", err
		}
		return w.ask(ctx, c)
	default:
		return "", &neverPasses{why: fmt.Sprintf("this program knows no check of kind %q", c.Kind), next: "use a newer lifeboat"}
	}
}

// usualPorts are those of checks that name none.
var usualPorts = map[runbook.CheckKind]int{runbook.CheckHTTP: 80, runbook.CheckHTTPS: 443, runbook.CheckDNS: 53}

func portOf(c runbook.Check) int { return cmp.Or(c.Port, usualPorts[c.Kind]) }

// checkTitle names a check in a few words.
func checkTitle(c runbook.Check) string {
	switch c.Kind {
	case runbook.CheckTCP:
		return fmt.Sprintf("tcp %d", portOf(c))
	case runbook.CheckHTTP, runbook.CheckHTTPS:
		return fmt.Sprintf("%s %d%s", c.Kind, portOf(c), cmp.Or(c.Path, "/"))
	case runbook.CheckDNS:
		return "dns " + c.HostName
	case runbook.CheckConsole:
		return fmt.Sprintf("console %q", c.Text)
	case runbook.CheckCommand, runbook.CheckGuest:
		return fmt.Sprintf("%s %s", c.Kind, strings.Join(c.Command, " "))
	}
	return string(c.Kind)
}
