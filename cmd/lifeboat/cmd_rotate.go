package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

func (a *app) rotateCommand() *cobra.Command {
	c := group("rotate", "Show what is due with the drives: this week's checklist",
		"  lifeboat rotate\n  lifeboat rotate sign deposit/A --by Anna", "keep",
		a.rotateStatusCommand(),
		a.rotateSignCommand(),
		a.rotateRevokeCommand(),
		a.rotateCalendarCommand(),
		a.rotateChecklistCommand(),
		a.rotateExampleCommand(),
		a.rotateRecoveryListCommand(),
		a.rotateReportCommand(),
		a.rotateItemCommand(),
		a.rotateAuditCommand(),
		a.rotateAttendCommand(),
		a.rotateInstallUnitCommand())
	c.Long = "Shows this week's checklist: which drive is written, taken away and brought home, by whom and\n" +
		"when, in an order in which no step leaves you without a good copy outside the house. What the\n" +
		"program can see it ticks by itself; the rest is signed: lifeboat rotate sign STEP --by NAME.\n\n" +
		"It ends with 13 while something is due or a machine has no verified copy offsite, and with 3 while\n" +
		"an objective is missed, so that a line for cron is a reminder already."
	c.Annotations = exits(exitPartial, exitPerson)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return helpOrUnknown(c, args)
		}
		return a.rotate(c.Context())
	}
	return c
}

// judged decides for a command that only looks and tells.
func (a *app) judged(ctx context.Context) (judgement, error) {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return judgement{}, err
	}
	defer cat.Close()
	j, err := a.decide(ctx, cat)
	if err != nil {
		return j, err
	}
	return j, a.remindOfRunbooks(ctx, cat, &j)
}

func (a *app) rotate(ctx context.Context) error {
	j, err := a.judged(ctx)
	if err != nil {
		return err
	}
	if !j.rotates() {
		return a.noRotation()
	}
	due := j.outcome()
	if a.json {
		a.printJSON(j.checklistJSON(exitCode(due)))
	} else {
		a.print("%s", j.checklist())
	}
	return due
}

const howToBegin = "lifeboat rotate example prints a section for site.yaml, with the drives that you have"

// noRotation tells a site whose drives take no turns how to begin.
func (a *app) noRotation() error {
	if a.json {
		a.printJSON(map[string]any{"next": "this site has no rotation; " + howToBegin, "steps": []stepJSON{}, "exit": exitDone})
		return nil
	}
	a.print("This site has no rotation: its drives take no turns, and no step is due.\nTo begin: %s.\n", howToBegin)
	return nil
}

// outcome turns what is due into the three lines and the exit code: 3 where an
// objective is missed, 13 where a person has to do something.
func (j judgement) outcome() error {
	due := j.due()
	lost := j.wouldBeLost()
	switch {
	case lost != nil && lost.Err == lifeboat.ErrPartial:
		return lost
	case len(due) > 0:
		return &lifeboat.Problem{What: fmt.Sprintf("%s due: %s", areSteps(len(due)), shortID(due[0].ID)), Safe: j.answer(), Next: j.nextWords(), Err: errNeedsPerson}
	case j.decision.Doubt != "":
		return &lifeboat.Problem{What: "the clock is doubted: " + j.decision.Doubt, Safe: j.answer(), Next: "when it is right: lifeboat rotate sign clock --by NAME", Err: errNeedsPerson}
	case len(j.decision.Blocked) > 0:
		return &lifeboat.Problem{What: "blocked: " + j.decision.Blocked[0], Safe: j.answer(), Next: j.nextWords(), Err: errNeedsPerson}
	case lost != nil:
		return lost
	case len(j.decision.Reminders) > 0:
		return &lifeboat.Problem{What: j.decision.Reminders[0], Safe: j.answer(), Next: j.seeAll(), Err: errNeedsPerson}
	}
	return nil
}

// wouldBeLost says what the drives do not protect as they should, or nil. Before
// the first swap nothing can be offsite yet, so that is no objective missed (3),
// and still nothing to be quiet about (13).
func (j judgement) wouldBeLost() *lifeboat.Problem {
	missed, bare := j.missed(), j.bare()
	p := &lifeboat.Problem{Safe: j.answer(), Next: j.nextWords(), Err: errNeedsPerson}
	switch {
	case j.rotates() && len(j.decision.Exposure) == 0 && len(j.shelf.Machines) == 0:
		p.What = "no machine has a restore point yet"
		p.Err = lifeboat.ErrPartial
	case len(missed) > 0 && !slices.Equal(missed, bare):
		p.What = "the newest verified copy offsite is older than its objective: " + list(missed)
		p.Err = lifeboat.ErrPartial
	case len(missed) > 0:
		p.What = "an objective is missed, and no verified copy is offsite: " + list(missed)
		p.Err = lifeboat.ErrPartial
	case j.rotates() && len(bare) > 0:
		p.What = "no verified copy is offsite: " + list(bare)
	default:
		return nil
	}
	if j.beforeFirstSwap() {
		p.What = fmt.Sprintf("nothing is offsite yet; the first swap is on %s", onDay(j.decision.SwapOn, j.decision.Day))
		p.Err = errNeedsPerson
	}
	return p
}

// beforeFirstSwap says that no drive ever left the house, and that none had to.
func (j judgement) beforeFirstSwap() bool {
	left := slices.ContainsFunc(j.shelf.Drives, func(d rotation.ShelfDrive) bool {
		return !d.DepositedAt.IsZero() || d.Place.State != custody.Onsite
	})
	return j.rotates() && !left && j.decision.Missed == 0 && j.decision.Day.Before(j.decision.SwapOn)
}

// seeAll is the command that shows every reminder.
func (j judgement) seeAll() string {
	if !j.rotates() {
		return "see what is remembered: lifeboat rotate status"
	}
	return "see the list: lifeboat rotate"
}

func areSteps(n int) string {
	if n == 1 {
		return "1 step is"
	}
	return fmt.Sprintf("%d steps are", n)
}

func (a *app) rotateStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say what would be lost if the building burned down now",
		Long: "Answers first in words, then for each machine: the newest verified point on a drive that is\n" +
			"offsite, its age against the objective, when it was last proven, and when that drive could\n" +
			"be in your hands.",
		Example:     "  lifeboat rotate status\n  lifeboat rotate status --json",
		Annotations: exits(exitPartial, exitPerson), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.rotateStatus(c.Context()) },
	}
}

func (a *app) rotateStatus(ctx context.Context) error {
	j, err := a.judged(ctx)
	if err != nil {
		return err
	}
	due := j.outcome()
	if !j.rotates() && due == nil {
		due = &lifeboat.Problem{What: "this site has no rotation: nothing leaves the house", Safe: j.answer(), Next: howToBegin, Err: errNeedsPerson}
	}
	if a.json {
		a.printJSON(j.statusJSON(exitCode(due)))
	} else {
		a.print("%s", j.statusPage())
	}
	return due
}
