package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/catalog"
	"lifeboat/runbook"
)

func (a *app) drillListCommand() *cobra.Command {
	var book string
	c := &cobra.Command{
		Use: "list", Short: "List drills and recoveries with their times against the objectives",
		Long: "Lists every drill and every recovery by a runbook that is known, oldest first. Each record is\n" +
			"compared with the hash that the ledger has of it: one that was changed is said to be, counts for\n" +
			"nothing, and the command ends with 12.",
		Example:     "  lifeboat drill list\n  lifeboat drill list --runbook office --json",
		Annotations: exits(exitDamage), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.drillList(c.Context(), book) },
	}
	c.Flags().StringVar(&book, "runbook", "", "only those of this runbook")
	c.RegisterFlagCompletionFunc("runbook", func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		all, _ := a.keptRuns(c.Context())
		var names []string
		for _, k := range all {
			names = append(names, oneLine(k.Book))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

// drillRow is a run as `drill list --json` prints it.
type drillRow struct {
	Run     string        `json:"run"`
	Mode    string        `json:"mode"`
	Runbook string        `json:"runbook"`
	Began   time.Time     `json:"began"`
	Drives  []string      `json:"drives"`
	Result  string        `json:"result"`
	Partial string        `json:"partial,omitempty"`
	Missed  []string      `json:"missed,omitempty"`
	RTA     time.Duration `json:"rta"`
	RTO     time.Duration `json:"rto,omitempty"`
	By      string        `json:"by"`
	Signed  []string      `json:"signed"`
	// Hash is of the record; Changed says why it is not believed.
	Hash    string `json:"hash"`
	Entry   uint64 `json:"entry,omitempty"`
	Changed string `json:"changed,omitempty"`
}

func newDrillRow(k keptRun) drillRow {
	row := drillRow{Run: k.RunID, Mode: k.Mode, Runbook: k.Book, Began: k.Began, Drives: []string{}, Result: k.verdict(), Signed: []string{},
		Hash: k.Hash, Entry: k.Seal.Entry, Changed: k.Seal.Broken}
	if k.Trouble != "" {
		row.Changed = k.Trouble
	}
	for _, s := range k.Signed {
		row.Signed = append(row.Signed, s.Name)
	}
	if r := k.Record; r != nil {
		row.Partial, row.Missed, row.RTA, row.RTO, row.By = r.Partial, r.Missed, r.RTA, r.Plan.Objectives.RTO, r.User
		for _, d := range r.Drives {
			row.Drives = append(row.Drives, d.Label)
		}
	}
	return row
}

func (a *app) drillList(ctx context.Context, book string) error {
	all, err := a.keptRuns(ctx)
	if err != nil {
		return err
	}
	rows, cells := []drillRow{}, [][]string{}
	var changed *keptRun
	for i, k := range all {
		if book != "" && k.Book != book {
			continue
		}
		row := newDrillRow(k)
		rows = append(rows, row)
		cells = append(cells, row.cells())
		if row.Changed != "" {
			changed = &all[i]
		}
	}
	if err := a.showReport(reportFlags{}, rows, "no drill and no recovery by a runbook is known here", drillColumns, cells); err != nil {
		return err
	}
	if changed != nil {
		return changedRecord(*changed)
	}
	return nil
}

// cells is a run as a table shows it.
func (row drillRow) cells() []string {
	return []string{short(row.Run), stamp(row.Began), oneLine(row.Mode), oneLine(row.Runbook), oneLine(list(row.Drives)), row.Result,
		rtaCell(row), oneLine(row.By), oneLine(list(row.Signed))}
}

// drillsReport is the list of all runs as a report on the rotation gives it: what
// an auditor puts beside the list of custody.
func (a *app) drillsReport(ctx context.Context, cat *catalog.Catalog, f reportFlags) error {
	all, err := a.keptIn(ctx, cat)
	if err != nil {
		return err
	}
	rows, cells := []drillRow{}, [][]string{}
	for _, k := range all {
		row := newDrillRow(k)
		rows, cells = append(rows, row), append(cells, row.cells())
	}
	return a.showReport(f, rows, "nothing was rehearsed or recovered by a runbook yet", drillColumns, cells)
}

// drillColumns are the columns of [drillRow.cells].
var drillColumns = []string{"run", "began", "mode", "runbook", "drive", "result", "rta", "by", "signed"}

// rtaCell is the time that a run took, against what was promised.
func rtaCell(row drillRow) string {
	text := humanDuration(row.RTA)
	switch {
	case row.Result == string(runbook.VerdictFailed) || row.Result == "CHANGED":
		return "-"
	case row.RTO == 0:
		return text
	case row.RTA > row.RTO:
		return text + " of " + humanDuration(row.RTO) + " MISSED"
	}
	return text + " of " + humanDuration(row.RTO)
}
