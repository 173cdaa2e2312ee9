package main

import (
	"context"

	"github.com/spf13/cobra"

	"lifeboat/runbook"
)

func (a *app) runbookPlanCommand() *cobra.Command {
	var f planFlags
	c := &cobra.Command{
		Use: "plan NAME", Short: "Show what a runbook comes to today: points, drives to fetch, hosts, order, time",
		Long: "Prints the plan that a recovery or a drill would follow, without touching anything: the point\n" +
			"of each machine, the drives that have to be fetched and where they are, what runs where, the\n" +
			"order, and an estimate of the time from past drills. It ends with code 1 if something stops it.",
		Example:     "  lifeboat runbook plan head-office\n  lifeboat runbook plan head-office --mode drill --json\n  lifeboat runbook plan head-office --uplink 40Mbit",
		Annotations: exits(exitNoDrive, exitPerson), Args: exactArgs("the name of a runbook, or its file"),
		ValidArgsFunction: a.completeRunbooks,
		RunE: func(c *cobra.Command, args []string) error {
			return a.runbookPlan(c.Context(), args[0], f)
		},
	}
	a.planFlags(c, &f)
	c.Flags().StringVar(&f.uplink, "uplink", "", "say how long each tier takes over a line of that rate, if the drive has to be sent over it: 40Mbit, 1Gbit")
	c.Flags().BoolVar(&f.isolated, "isolated", false, "of a recovery that checks everything in isolated networks before a person releases it tier by tier")
	return c
}

func (a *app) runbookPlan(ctx context.Context, name string, f planFlags) error {
	book, s, err := a.planned(ctx, name, f)
	if err != nil {
		return err
	}
	plan, err := runbook.Resolve(book, s)
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(plan)
	} else {
		a.print("%s", planWords(plan, a.columns()))
	}
	return plan.StopsPlan()
}
