package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/imagestore"
	"lifeboat/runbook"
)

// planFlags are what `runbook check` and `runbook plan` share.
type planFlags struct {
	drive, mode, uplink string
	isolated, emulation bool
	only                []string
}

func (a *app) planFlags(c *cobra.Command, f *planFlags) {
	a.driveFlag(c, &f.drive)
	c.Flags().StringVar(&f.mode, "mode", string(runbook.Recover), "for a recovery or for a drill: recover or drill")
	c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]cobra.Completion{string(runbook.Recover), string(runbook.Drill)}, cobra.ShellCompDirectiveNoFileComp))
	c.Flags().BoolVar(&f.emulation, "allow-emulation", false, "a host without hardware virtualisation warns, and does not stop the plan")
	c.Flags().StringArrayVar(&f.only, "only", nil, "only this machine; may be given several times")
	c.RegisterFlagCompletionFunc("only", a.completeMachines)
}

func (a *app) runbookCheckCommand() *cobra.Command {
	var f planFlags
	c := &cobra.Command{
		Use: "check NAME", Short: "Say what would go wrong with a runbook today, without touching anything",
		Long: "Looks at everything that a runbook needs: points, drives and where they are, memory, hosts,\n" +
			"networks, clocks, objectives, and whether a drill has proven it. It changes nothing.\n" +
			"A finding that stops the plan ends it with code 1; one that warns is listed and ends with 0.",
		Example:     "  lifeboat runbook check head-office\n  lifeboat runbook check head-office --mode drill --json",
		Annotations: exits(exitNoDrive, exitPerson), Args: exactArgs("the name of a runbook, or its file"),
		ValidArgsFunction: a.completeRunbooks,
		RunE: func(c *cobra.Command, args []string) error {
			return a.runbookCheck(c.Context(), args[0], f)
		},
	}
	a.planFlags(c, &f)
	return c
}

func (a *app) runbookCheck(ctx context.Context, name string, f planFlags) error {
	book, s, err := a.planned(ctx, name, f)
	if err != nil {
		return err
	}
	plan, err := runbook.Resolve(book, s)
	if err != nil {
		return err
	}
	ready := runbook.Ready(book, s)
	if a.json {
		findings := plan.Findings
		if findings == nil {
			findings = []runbook.Finding{}
		}
		a.printJSON(struct {
			Runbook  string            `json:"runbook"`
			Mode     runbook.Mode      `json:"mode"`
			Findings []runbook.Finding `json:"findings"`
			Ready    runbook.Readiness `json:"readiness"`
		}{book.Name, s.Mode, findings, ready})
		return plan.StopsPlan()
	}
	a.print("%s%s", findingWords(plan.Findings, cmp.Or(a.columns(), planWidth)), readyWords(book.Name, ready, len(plan.Findings)))
	return plan.StopsPlan()
}

// readyWords says in a sentence whether a runbook was proven, and why not.
func readyWords(name string, r runbook.Readiness, findings int) string {
	nothing := ""
	if findings == 0 {
		nothing = "nothing would go wrong that can be seen from here\n"
	}
	if r.Ready {
		return nothing + fmt.Sprintf("%s is ready: the drill of %s passed, and counts until %s\n", name, stamp(r.At), stamp(r.Until))
	}
	return nothing + fmt.Sprintf("%s is not ready: %s\n", name, strings.Join(r.Why, "; "))
}

// planned finds a runbook and gathers the situation that it is planned in.
func (a *app) planned(ctx context.Context, name string, f planFlags) (*runbook.Book, runbook.Situation, error) {
	o := situationOptions{only: f.only, isolated: f.isolated, emulation: f.emulation}
	var s runbook.Situation
	mode := runbook.Mode(f.mode)
	if mode != runbook.Drill && mode != runbook.Recover {
		return nil, s, usagef("--mode takes drill or recover, not %q", f.mode)
	}
	if f.uplink != "" {
		bits, err := parseRate(f.uplink)
		if err != nil {
			return nil, s, err
		}
		o.uplink = bits
	}
	// A computer without a site knows nothing but what a drive tells.
	var d *openedDrive
	if f.drive != "" || !a.hasState() {
		var err error
		if d, err = a.openDrive(ctx, f.drive, imagestore.Read); err != nil {
			return nil, s, err
		}
		defer d.Close()
		o.drives, o.onlyDrive = []*openedDrive{d}, d.store.Drive().ID
	}
	book, err := a.findRunbook(ctx, name, d)
	if err != nil {
		return nil, s, err
	}
	for _, only := range f.only {
		if !book.Has(only) {
			return nil, s, usagef("--only: runbook %s has no machine %q", book.Name, only)
		}
	}
	s, err = a.situation(ctx, book, mode, o)
	return book, s, err
}

// rateUnits are what a rate of a line may be given in, in bits per second.
var rateUnits = []struct {
	word string
	bits float64
}{{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}}

// parseRate reads how fast a line is: 40Mbit, 1.5 Gbit/s.
func parseRate(text string) (int64, error) {
	rest := strings.TrimSuffix(strings.TrimSpace(text), "/s")
	for _, u := range rateUnits {
		number, ok := strings.CutSuffix(rest, u.word)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if bits := n * u.bits; err == nil && bits >= 1 && bits <= 1e15 {
			return int64(bits), nil
		}
	}
	return 0, usagef("--uplink takes the rate of a line, such as 40Mbit, 500kbit or 1Gbit, not %q", text)
}
