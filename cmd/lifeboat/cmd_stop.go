package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"lifeboat"
	"lifeboat/hypervisor"
)

// stopFlags are the answers that `stop` takes.
type stopFlags struct {
	all    bool
	remove bool
	now    bool
	yes    bool
	dryRun bool
}

func (a *app) stopCommand() *cobra.Command {
	var f stopFlags
	c := &cobra.Command{
		Use: "stop MACHINE... | --all", Short: "Stop machines that were booted from a drive", GroupID: "back",
		Long: "Shuts the machines down. What they wrote is kept: lifeboat boot --resume RUN starts them again.\n" +
			"--remove deletes it, after asking. A machine that was moved to local disk is the company's own\n" +
			"again: --all leaves it alone, and it has to be named.",
		Example:           "  lifeboat stop web\n  lifeboat stop --all --remove --yes",
		Annotations:       exits(exitPartial, exitPerson),
		ValidArgsFunction: a.completeRunning,
		RunE: func(c *cobra.Command, args []string) error {
			if f.all == (len(args) > 0) {
				return usagef("say which machines to stop, or --all; see: lifeboat ps")
			}
			return a.stopMachines(c.Context(), f, args)
		},
	}
	c.Flags().BoolVar(&f.all, "all", false, "every machine that runs from a drive")
	c.Flags().BoolVar(&f.remove, "remove", false, "delete the machines, and all they wrote since they were booted")
	c.Flags().BoolVar(&f.now, "now", false, "take the power away at once")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be stopped")
	return c
}

// stopGrace is how long a guest may take to shut down.
const stopGrace = 60 * time.Second

// stopResult is what became of one machine.
type stopResult struct {
	Machine string       `json:"machine"`
	Run     string       `json:"run"`
	Removed bool         `json:"removed"`
	Problem *problemJSON `json:"problem,omitempty"`

	err error
}

func (a *app) stopMachines(ctx context.Context, f stopFlags, names []string) error {
	rows, err := a.runningRows(ctx)
	if err != nil {
		return err
	}
	picked, left := pickToStop(rows, names, f.all)
	for _, r := range left {
		a.note("%s runs from local disk and was left alone; to stop it, name it", r.Machine)
	}
	for _, name := range names {
		if !slices.ContainsFunc(picked, func(r runningRow) bool { return r.Machine == name }) {
			return usagef("no machine %q was booted from a drive; see: lifeboat ps", name)
		}
	}
	if f.dryRun {
		a.showRunning(picked)
		return nil
	}
	if f.remove && len(picked) > 0 {
		if err := a.confirm(ctx, f.yes, removePlan(picked)); err != nil {
			return err
		}
	}
	results := a.stopAll(ctx, picked, f)
	if a.json {
		a.printJSON(results)
	}
	return errors.Join(stopOutcome(results), a.endIdleRuns(ctx, ""))
}

// pickToStop picks machines by name, or all that still run from a drive; left
// are those that --all does not mean.
func pickToStop(rows []runningRow, names []string, all bool) (picked, left []runningRow) {
	for _, r := range rows {
		switch {
		case slices.Contains(names, r.Machine), all && !r.Settled:
			picked = append(picked, r)
		case all:
			left = append(left, r)
		}
	}
	return picked, left
}

func removePlan(rows []runningRow) string {
	text := "This deletes, with everything they wrote since they were booted:\n"
	for _, r := range rows {
		what := fmt.Sprintf("point %s of %s; the point itself stays on drive %s", short(r.Point), stamp(r.TakenAt), r.Drive)
		if r.Settled {
			what = "it runs from local disk: its disks here are deleted, and what it wrote since " + stamp(r.TakenAt) + " is nowhere else"
		}
		text += fmt.Sprintf("  %s (%s)\n", r.Machine, what)
	}
	return text
}

// stopAll stops the machines side by side: guests take their time.
func (a *app) stopAll(ctx context.Context, rows []runningRow, f stopFlags) []stopResult {
	results := make([]stopResult, len(rows))
	var g errgroup.Group
	for i, r := range rows {
		g.Go(func() error {
			results[i] = stopResult{Machine: r.Machine, Run: r.Run}
			results[i].Removed, results[i].err = a.stopOne(ctx, r, f)
			if err := results[i].err; err != nil {
				p := newProblemJSON("stop", err)
				results[i].Problem = &p
			}
			return nil
		})
	}
	g.Wait()
	return results
}

func (a *app) stopOne(ctx context.Context, r runningRow, f stopFlags) (removed bool, err error) {
	b, err := readBooted((&bootedRun{Run: r.Run}).dir(a))
	if err != nil {
		return false, err
	}
	host, err := a.openHostOf(b, b.hostOf(b.machine(r.Machine)))
	if err != nil {
		return false, err
	}
	grace := stopGrace
	if f.now {
		grace = 0
	}
	if err := host.PowerOff(ctx, r.Machine, grace); err != nil {
		return false, fmt.Errorf("%s: %w", r.Machine, err)
	}
	a.note("%s: stopped", r.Machine)
	if !f.remove {
		return false, nil
	}
	if err := host.Remove(ctx, r.Machine); err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
		return false, fmt.Errorf("%s: %w", r.Machine, err)
	}
	a.note("%s: removed", r.Machine)
	return true, nil
}

// stopOutcome turns the results into the command's own.
func stopOutcome(results []stopResult) error {
	var failed []string
	var errs []error
	for _, r := range results {
		if r.err != nil {
			failed, errs = append(failed, r.Machine), append(errs, r.err)
		}
	}
	switch {
	case len(errs) == 0:
		return nil
	case len(errs) == len(results):
		return errors.Join(errs...)
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%d of %d machines were stopped; not stopped: %s (%v)", len(results)-len(errs), len(results), list(failed), errs[0]),
		Safe: "the drive was only read; what the machines wrote is kept",
		Next: "run: lifeboat stop --now " + quoted(failed),
		Err:  errors.Join(append(errs, lifeboat.ErrPartial)...),
	}
}

// endIdleRuns ends the servers of disks that no machine needs any more. A run
// whose machines are only stopped keeps its folder, so that it can be resumed;
// one that is only just beginning, in another command, is left alone.
func (a *app) endIdleRuns(ctx context.Context, own string) error {
	runs, err := a.bootedRuns()
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range runs {
		f, err := readRun(b.dir(a))
		if err != nil || b.Run != own && (f.Exit == nil && f.Process.alive() || b.Worker.alive()) {
			continue
		}
		there, err := a.machinesOf(ctx, b)
		if err != nil {
			continue // what cannot be looked at is not ended
		}
		on := false
		for _, l := range there {
			on = on || l.Power != hypervisor.PowerOff
		}
		if !on {
			errs = append(errs, a.rest(b, len(there) == 0))
		}
	}
	return errors.Join(errs...)
}

// rest stops what a run kept going; for good when none of its machines is left.
func (a *app) rest(b *bootedRun, forGood bool) error {
	if err := a.stopServing(b, b.dir(a)); err != nil {
		return err
	}
	if forGood {
		return a.closeLab(b.dir(a))
	}
	// Its machines still exist: ps shows them, and resume finds the run.
	b.Ended = false
	return b.save(b.dir(a))
}
