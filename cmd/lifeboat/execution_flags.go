package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// executionFlags are the answers that `drill` and `recover` take.
type executionFlags struct {
	drive, host string
	only        []string
	skips       []string
	repeats     []string
	points      []string
	fromStep    string
	dryRun      bool
	detach      bool
	resume      bool

	// keep is for a drill alone.
	keep bool
	// These are for a recovery alone.
	isolated, allowEmulation, rollback bool
	declaredBy, reason, yesSite        string
}

// executionFlags adds those that a drill and a recovery share.
func (a *app) executionFlags(c *cobra.Command, f *executionFlags) {
	flags := c.Flags()
	flags.StringVar(&f.host, "host", "", "run everything on this host, whatever the runbook allows others")
	flags.StringArrayVar(&f.only, "only", nil, "only this machine or step, and nothing that waits for it; may be given several times")
	flags.StringArrayVar(&f.skips, "skip", nil, "leave a step out, and why: STEP=REASON; may be given several times")
	flags.StringArrayVar(&f.repeats, "repeat", nil, "with --resume: do this step again, which was begun and not finished")
	flags.StringArrayVar(&f.points, "point", nil, "bring a machine back from another point than the runbook says: MACHINE=POINT or MACHINE=DATE")
	flags.StringVar(&f.fromStep, "from-step", "", "begin at this step; everything before it is taken for done")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show the plan and what would go wrong with it, and stop")
	flags.BoolVar(&f.detach, "detach", false, "go on without this terminal; follow it with: lifeboat run attach")
	flags.BoolVar(&f.resume, "resume", false, "go on where an earlier run stopped: the one that is named, or the newest")
	a.driveFlag(c, &f.drive)
	c.RegisterFlagCompletionFunc("host", a.completeHosts)
}

// skipped reads --skip: steps, and why each is left out.
func (f executionFlags) skipped() (map[string]string, error) {
	steps := map[string]string{}
	for _, text := range f.skips {
		step, reason, ok := strings.Cut(text, "=")
		if reason = strings.TrimSpace(reason); !ok || step == "" || reason == "" {
			return nil, usagef("--skip takes STEP=REASON, not %q: the report says why a step was left out", text)
		}
		steps[step] = reason
	}
	return steps, nil
}

// chosenPoints reads --point: machines, and the point or date of each.
func (f executionFlags) chosenPoints() (map[string]string, error) {
	points := map[string]string{}
	for _, text := range f.points {
		machine, point, ok := strings.Cut(text, "=")
		if !ok || machine == "" || point == "" {
			return nil, usagef("--point takes MACHINE=POINT or MACHINE=DATE, not %q", text)
		}
		points[machine] = point
	}
	return points, nil
}

// check refuses what contradicts itself.
func (f executionFlags) check() error {
	if _, err := f.skipped(); err != nil {
		return err
	}
	if _, err := f.chosenPoints(); err != nil {
		return err
	}
	switch {
	case f.resume && (f.dryRun || len(f.points) > 0 || f.host != "" || f.isolated):
		return usagef("--resume goes on with the plan that the run has: --dry-run, --point, --host and --isolated are for a new one")
	case len(f.repeats) > 0 && !f.resume:
		return usagef("--repeat is for a run that goes on: add --resume")
	case f.fromStep != "" && len(f.only) > 0:
		return usagef("--from-step and --only exclude each other")
	}
	return nil
}
