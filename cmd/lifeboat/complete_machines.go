package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/catalog"
)

// completePatience is how long the shell waits for an answer while a person is
// typing.
const completePatience = 2 * time.Second

// completeMachines offers the names of machines: those of hosts that are folders
// of this computer, and those that the catalogue remembers. It signs in nowhere:
// with a password that is not right any more, each press of a key would be one of
// the few tries after which a server locks the account.
func (a *app) completeMachines(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, err := a.siteOrNone()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := map[string]string{}
	for _, p := range a.rememberedPoints(c.Context()) {
		names[p.MachineName] = "last exported " + stamp(p.TakenAt)
	}
	for _, hf := range a.hostFiles(s) {
		if hf.Kind != kindQEMU {
			continue
		}
		all, _ := answer(c.Context(), completePatience, func(ctx context.Context) ([]machineOn, error) { return a.machinesOn(ctx, s, hf) })
		for _, m := range all {
			names[m.Machine.Name] = string(m.Power) + " on " + hf.Name
		}
	}
	return completions(names), cobra.ShellCompDirectiveNoFileComp
}

// rememberedPoints are the points that the catalogue knows, oldest first, or none
// where it does not answer at once.
func (a *app) rememberedPoints(ctx context.Context) []catalog.Point {
	if !a.hasMemory() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, completePatience)
	defer cancel()
	cat, err := catalog.Open(ctx, filepath.Join(a.stateDir, "catalog.db"))
	if err != nil {
		return nil
	}
	defer cat.Close()
	points, _ := cat.Points(ctx, catalog.PointFilter{})
	return points
}

// completeRunning offers the machines that runs booted from drives, and asks no
// host for them.
func (a *app) completeRunning(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	runs, err := a.bootedRuns()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := map[string]string{}
	for _, b := range runs {
		for _, m := range b.Machines {
			names[m.Name] = "booted by run " + short(b.Run) + " on " + b.hostOf(m).Name
		}
	}
	return completions(names), cobra.ShellCompDirectiveNoFileComp
}

// completions are what the shell is told: names and what they are, by name.
func completions(names map[string]string) []string {
	var lines []string
	for name, what := range names {
		lines = append(lines, name+"\t"+what)
	}
	slices.SortFunc(lines, strings.Compare)
	return lines
}
