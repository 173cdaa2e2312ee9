package main

import (
	"github.com/spf13/cobra"

	"lifeboat/rotation"
)

// completeSteps names the steps of this turn.
func (a *app) completeSteps(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	j, err := a.judged(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, s := range j.decision.Steps {
		if !s.Seen {
			names = append(names, shortID(s.ID)+"\t"+doing(s))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completePeople(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return a.completePolicy(func(p rotation.Policy) (names []string) {
		for _, person := range p.People {
			names = append(names, person.Name)
		}
		return names
	})
}

func (a *app) completeLocations(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return a.completePolicy(func(p rotation.Policy) (names []string) {
		for _, l := range p.Locations {
			names = append(names, l.Name)
		}
		return names
	})
}

func (a *app) completePolicy(names func(rotation.Policy) []string) ([]string, cobra.ShellCompDirective) {
	p, err := a.policy()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names(p), cobra.ShellCompDirectiveNoFileComp
}
