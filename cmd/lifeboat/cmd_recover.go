package main

import (
	"slices"

	"github.com/spf13/cobra"

	"lifeboat/runbook"
)

// recoverCommand carries out a runbook in earnest.
func (a *app) recoverCommand() *cobra.Command {
	var f executionFlags
	c := &cobra.Command{
		Use: "recover [RUNBOOK] | --resume [RUN] | --rollback RUN", Short: "Bring the company back: carry out a runbook in earnest", GroupID: "back",
		Long: "Carries out a runbook: the machines start straight from the drive, are asked whether they serve,\n" +
			"and are plugged into the networks that the runbook names, after a look whether somebody is there\n" +
			"already. It works on any Linux machine with QEMU: run from the drive it needs no configuration. The\n" +
			"drive is only read. Without a runbook it proposes one.\n\n" +
			"It shows the plan and asks for the name of the site, who declares the disaster, and why. Whatever\n" +
			"stops it, --resume goes on where it was: what the machines wrote is kept. --rollback stops the\n" +
			"machines of a recovery that went wrong and sets aside what they wrote; then another can be tried,\n" +
			"from another point: --point MACHINE=POINT.",
		Example: "  lifeboat recover --drive /mnt/lifeboat\n  lifeboat recover office --isolated\n  lifeboat recover --resume\n" +
			"  lifeboat recover --rollback 3f2a\n  lifeboat recover office --point db=2026-11-20",
		Annotations: exits(exitPartial, exitNoDrive, exitHeld, exitDamage, exitPerson, exitStopped),
		Args:        oneArgAtMost("a runbook, or the id of a run"), ValidArgsFunction: a.completeRunbooks,
		RunE: func(c *cobra.Command, args []string) error {
			name := slices.Concat(args, []string{""})[0]
			switch {
			case f.rollback && f.resume:
				return usagef("--resume and --rollback exclude each other")
			case f.rollback:
				return a.rollback(c.Context(), f, name)
			}
			return a.execute(c.Context(), runbook.Recover, f, name)
		},
	}
	a.executionFlags(c, &f)
	flags := c.Flags()
	flags.BoolVar(&f.isolated, "isolated", false, "check everything in an isolated network first; a person then releases tier by tier")
	flags.BoolVar(&f.allowEmulation, "allow-emulation", false, "go on without hardware virtualisation: machines are many times slower")
	flags.StringVar(&f.declaredBy, "declared-by", "", "who declares the disaster, for the report")
	flags.StringVar(&f.reason, "reason", "", "why, for the report")
	flags.StringVar(&f.yesSite, "yes-site", "", "the name of the site: it is then not asked for")
	flags.BoolVar(&f.rollback, "rollback", false, "stop the machines of a recovery, and set aside what they wrote")
	return c
}
