package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) rotateCommand() *cobra.Command {
	c := group("rotate", "Show what is due with the drives: this week's checklist",
		"  lifeboat rotate\n  lifeboat rotate status", "keep",
		a.rotateStatusCommand(), a.rotateChecklistCommand())
	c.Long = "Shows this week's checklist: which drive is written, taken away and brought home, by whom and\n" +
		"when, in an order in which no step leaves you without a good copy outside the house."
	c.Annotations = exits(exitPartial, exitPerson)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return helpOrUnknown(c, args)
		}
		return a.rotate(c.Context())
	}
	return c
}

func (a *app) rotate(ctx context.Context) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	j, err := a.decide(ctx, cat)
	if err != nil {
		return err
	}
	a.printJSON(j.decision.Steps)
	return nil
}

func (a *app) rotateStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say what would be lost if the building burned down now",
		Example:     "  lifeboat rotate status\n  lifeboat rotate status --json",
		Annotations: exits(exitPartial, exitPerson), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.rotate(c.Context()) },
	}
}
