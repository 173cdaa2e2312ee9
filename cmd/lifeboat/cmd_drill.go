package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/runbook"
)

// drillCommand rehearses a recovery.
func (a *app) drillCommand() *cobra.Command {
	var f executionFlags
	c := &cobra.Command{
		Use: "drill [RUNBOOK]", Short: "Rehearse a recovery in an isolated network, and measure it", GroupID: "back",
		Long: "Carries out a runbook as a recovery would, in a network that nothing leads out of: the machines\n" +
			"start straight from the drive, keep their addresses, and are asked whether they serve. Production\n" +
			"goes on undisturbed. What was measured is kept with the run, and everything that the drill made is\n" +
			"taken away again. The runbook is the only one there is, or the one that is named.\n\n" +
			"A drill makes a runbook ready only if the drive was opened with the secret that people have: at a\n" +
			"terminal it is asked for, else it is read from --passphrase-file.",
		Example:     "  lifeboat drill\n  lifeboat drill office --dry-run\n  lifeboat drill office --drive A --keep",
		Annotations: exits(exitPartial, exitNoDrive, exitHeld, exitDamage, exitPerson, exitStopped),
		Args:        oneArgAtMost("a runbook"), ValidArgsFunction: a.completeRunbooks,
		RunE: func(c *cobra.Command, args []string) error {
			return a.execute(c.Context(), runbook.Drill, f, slices.Concat(args, []string{""})[0])
		},
	}
	a.executionFlags(c, &f)
	c.Flags().BoolVar(&f.keep, "keep", false, "leave the machines running to be looked at; end them with: lifeboat drill cleanup")
	c.AddCommand(a.drillCleanupCommand(), a.drillListCommand(), a.drillReportCommand(), a.drillSignCommand(),
		a.drillExportCommand(), a.drillImportCommand())
	return c
}

func (a *app) drillCleanupCommand() *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use: "cleanup [RUN]", Short: "Take away what a drill left that was kept, killed or cut off",
		Long: "Takes away the machines of a drill with what they wrote, its processes, its network and its\n" +
			"sockets, and looks whether anything is left. Without a run it does so for every drill that needs\n" +
			"it. A drill that is at work is refused. The drive was only ever read.",
		Example:     "  lifeboat drill cleanup\n  lifeboat drill cleanup 3f2a --dry-run",
		Annotations: exits(exitHeld, exitStopped), Args: oneArgAtMost("the id of a run"),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			drills, err := a.drillsToClean(slices.Concat(args, []string{""})[0])
			if err != nil {
				return err
			}
			return a.cleanDrills(c, drills, dryRun)
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be taken away")
	return c
}

// drillsToClean finds the drill that a person means, or all that need it.
func (a *app) drillsToClean(prefix string) ([]runFile, error) {
	if prefix == "" {
		all, err := a.listRuns()
		return slices.DeleteFunc(all, func(f runFile) bool {
			return f.state() == "running" || !needsCleaning(filepath.Join(a.runsDir(), f.ID), f)
		}), err
	}
	f, err := a.findRun(prefix)
	if err != nil {
		return nil, err
	}
	if f.Kind != string(runbook.Drill) {
		return nil, usagef("run %s is no drill, it is: %s; the machines of a recovery are ended with: lifeboat stop", short(f.ID), f.Kind)
	}
	return []runFile{f}, refuseRunning(f)
}

// refuseRunning refuses to touch a run that is at work.
func refuseRunning(f runFile) error {
	if f.state() != "running" {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("run %s is at work, as process %d", short(f.ID), f.Process.PID),
		Safe: "nothing was done to it",
		Next: "wait for it: lifeboat run attach " + short(f.ID) + "; or stop it: lifeboat run stop " + short(f.ID),
		Err:  lifeboat.ErrDriveHeld,
	}
}

// cleanedRow is one drill as `drill cleanup` says it.
type cleanedRow struct {
	Run   string   `json:"run"`
	Found []string `json:"found"`
	Left  []string `json:"left"`
}

func (a *app) cleanDrills(c *cobra.Command, drills []runFile, dryRun bool) error {
	ctx := c.Context()
	rows := []cleanedRow{}
	left := 0
	for _, f := range drills {
		dir := filepath.Join(a.runsDir(), f.ID)
		hosts, err := hostsOfRun(dir)
		if err != nil {
			return err
		}
		row := cleanedRow{Run: f.ID, Found: slices.Concat([]string{}, a.leftOf(ctx, f.ID, dir, hosts)), Left: []string{}}
		if !dryRun {
			still, err := a.cleanDrill(ctx, f.ID)
			if err != nil {
				return err
			}
			row.Left = append(row.Left, still...)
			left += len(still)
		}
		rows = append(rows, row)
		a.showCleaned(row, dryRun)
	}
	if a.json {
		a.printJSON(rows)
	} else if len(rows) == 0 {
		a.note("no drill left anything")
	}
	if left == 0 {
		return nil
	}
	return leftProblem(rows[len(rows)-1])
}

func (a *app) showCleaned(r cleanedRow, dryRun bool) {
	if a.json {
		return
	}
	verb := "found"
	if dryRun {
		verb = "would be taken away"
	}
	for _, what := range r.Found {
		a.print("drill %s: %s: %s\n", short(r.Run), verb, what)
	}
	if !dryRun && len(r.Left) == 0 {
		a.print("drill %s: nothing is left\n", short(r.Run))
	}
}

// leftProblem says what a drill left that could not be taken away.
func leftProblem(r cleanedRow) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("drill %s: this could not be taken away: %s", short(r.Run), list(r.Left)),
		Safe: "the drive was only read; no machine of production was touched",
		Next: "see why each is still there, and run: lifeboat drill cleanup " + short(r.Run),
	}
}
