package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// reportFlags are the answers that `rotate report` takes.
type reportFlags struct {
	csv, ledger bool
	item        string
}

// reports are the reports by their names, each with what it tells.
var reports = []struct{ name, tells string }{
	{"custody", "who had which item, where and when: the signed list"},
	{"pick", "what leaves the house in this turn"},
	{"recall", "what comes home in this turn"},
	{"lost", "what was expected and is not seen"},
	{"discrepancies", "where the ledger and what is seen differ"},
	{"drills", "what was rehearsed and recovered by runbooks, with its times"},
}

func (a *app) rotateReportCommand() *cobra.Command {
	var f reportFlags
	var names, lines []string
	for _, r := range reports {
		names = append(names, r.name+"\t"+r.tells)
		lines = append(lines, fmt.Sprintf("  %-14s %s", r.name, r.tells))
	}
	c := &cobra.Command{
		Use: "report custody|pick|recall|lost|discrepancies|drills", Short: "Print a report on the drives, the sheets and the secrets",
		Long:        "Prints one of these as a table, as JSON, or as CSV for a spreadsheet:\n\n" + strings.Join(lines, "\n"),
		Example:     "  lifeboat rotate report custody --item A\n  lifeboat rotate report discrepancies --csv > discrepancies.csv",
		Annotations: exits(), Args: exactArgs("the name of a report"),
		ValidArgsFunction: cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(c *cobra.Command, args []string) error {
			if f.csv && a.json || f.ledger && (f.csv || a.json) {
				return usagef("give one of --csv, --json and --ledger")
			}
			if (f.ledger || f.item != "") && args[0] != "custody" {
				return usagef("--ledger and --item go with: rotate report custody")
			}
			return a.rotateReport(c.Context(), args[0], f)
		},
	}
	c.Flags().BoolVar(&f.csv, "csv", false, "print CSV")
	c.Flags().BoolVar(&f.ledger, "ledger", false, "custody: print the ledger itself, one entry a line, as an auditor checks it")
	c.Flags().StringVar(&f.item, "item", "", "custody: only of this drive, sheet or secret, by label or id")
	c.RegisterFlagCompletionFunc("item", a.completeItems(custody.KindDrive, custody.KindSheet, custody.KindSecret))
	return c
}

func (a *app) rotateReport(ctx context.Context, name string, f reportFlags) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	switch name {
	case "custody":
		return a.custodyReport(ctx, cat, f)
	case "pick", "recall":
		return a.picksReport(ctx, cat, name, f)
	case "lost", "discrepancies":
		return a.oddReport(ctx, cat, name, f)
	case "drills":
		return a.drillsReport(ctx, cat, f)
	}
	return usagef("there is no report %q; there is: custody, pick, recall, lost, discrepancies, drills", name)
}

// showReport prints rows in the form that was asked for; v is what JSON shows.
func (a *app) showReport(f reportFlags, v any, none string, head []string, rows [][]string) error {
	switch {
	case a.json:
		a.printJSON(v)
	case f.csv:
		return a.printCSV(head, rows)
	case len(rows) == 0:
		a.print("%s\n", none)
	default:
		var upper []string
		for _, word := range head {
			upper = append(upper, strings.ToUpper(word))
		}
		a.print("%s", table(upper, rows))
	}
	return nil
}

// printCSV writes a table that a spreadsheet takes for text alone: a cell that it
// would take for a formula begins with a quote.
func (a *app) printCSV(head []string, rows [][]string) error {
	var out strings.Builder
	w := csv.NewWriter(&out)
	w.Write(head)
	for _, row := range rows {
		for i, cell := range row {
			cell = oneLine(cell)
			if strings.HasPrefix(strings.TrimLeft(cell, " "), "=") || strings.ContainsAny(firstOf(cell), "+-@\t") && cell != "-" {
				cell = "'" + cell
			}
			row[i] = cell
		}
		w.Write(row)
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	a.print("%s", out.String())
	return nil
}

func firstOf(text string) string {
	if text == "" {
		return ""
	}
	return text[:1]
}

// custodyLine is one line of the signed list of an item.
type custodyLine struct {
	Item  custody.Item `json:"item"`
	Entry uint64       `json:"entry"`
	// At is when it happened, RecordedAt when it was written down.
	At         time.Time      `json:"at"`
	RecordedAt time.Time      `json:"recordedAt"`
	Act        custody.Act    `json:"act"`
	From       *custody.Place `json:"from,omitempty"`
	To         *custody.Place `json:"to,omitempty"`
	Signer     string         `json:"signer,omitempty"`
	User       string         `json:"user"`
	Computer   string         `json:"computer"`
	Seal       string         `json:"seal,omitempty"`
	Note       string         `json:"note,omitempty"`
	// RevokedBy is the entry that took this one back; 0: it holds.
	RevokedBy uint64 `json:"revokedBy,omitempty"`
}

func (a *app) custodyReport(ctx context.Context, cat *catalog.Catalog, f reportFlags) error {
	r, err := a.register(ctx, cat)
	if err != nil {
		return err
	}
	if f.ledger {
		return custody.Write(os.Stdout, r.entries)
	}
	items := r.list.Items
	if f.item != "" {
		drives, err := cat.Drives(ctx)
		if err != nil {
			return err
		}
		one, err := pickItem(r.knownItems(drives, custody.KindDrive, custody.KindSheet, custody.KindSecret), f.item, "item")
		if err != nil {
			return err
		}
		items = []custody.Kept{one}
	}
	lines := []custodyLine{}
	for _, k := range items {
		lines = append(lines, r.linesOf(k)...)
	}
	var rows [][]string
	for _, l := range lines {
		rows = append(rows, []string{l.Item.Label, strconv.FormatUint(l.Entry, 10), stamp(l.At), a.actOf(l), l.Signer, l.User, l.Seal, l.Note})
	}
	return a.showReport(f, lines, "the ledger has no items yet", []string{"item", "entry", "when", "what", "signed", "recorded by", "seal", "note"}, rows)
}

// linesOf is the signed list of one item: hand-overs and what else moved it, and
// what was done to it. Exports and readings of drives are told by the runs.
func (r register) linesOf(k custody.Kept) (lines []custodyLine) {
	for _, e := range r.entries {
		if e.Item == nil || e.Item.ID != k.ID {
			continue
		}
		switch e.Act {
		case custody.ActExported, custody.ActReadBack:
			continue
		}
		lines = append(lines, custodyLine{Item: k.Item, Entry: e.Sequence, At: e.HappenedAt, RecordedAt: e.RecordedAt, Act: e.Act, From: e.From, To: e.To,
			Signer: e.Signer, User: e.User, Computer: e.Computer, Seal: e.Seal, Note: e.Note, RevokedBy: r.list.Revoked[e.Sequence]})
	}
	return lines
}

// actOf says in words what an entry did.
func (a *app) actOf(l custodyLine) string {
	text := string(l.Act)
	if l.To != nil {
		text += ": " + placeWords(*l.To)
	}
	if l.RevokedBy != 0 {
		text += fmt.Sprintf(" (revoked by entry %d)", l.RevokedBy)
	}
	return text
}

// pickLine is a drive that goes out or comes home.
type pickLine struct {
	DriveID  string `json:"driveId"`
	Label    string `json:"label"`
	Where    string `json:"where,omitempty"`
	Location string `json:"location,omitempty"`
	Person   string `json:"person,omitempty"`
	Why      string `json:"why"`
}

func (a *app) picksReport(ctx context.Context, cat *catalog.Catalog, name string, f reportFlags) error {
	j, err := a.decide(ctx, cat)
	if err != nil {
		return err
	}
	picks, none, column := j.decision.Take, "nothing leaves the house in this turn", "to"
	if name == "recall" {
		picks, none, column = j.decision.Bring, "nothing comes home in this turn", "from"
	}
	lines := []pickLine{}
	var rows [][]string
	for _, p := range picks {
		l := pickLine{DriveID: p.DriveID, Label: p.Label, Location: p.Location, Person: p.Person, Why: p.Why}
		if d, ok := j.drive(p.DriveID); ok {
			l.Where = placeWords(d.Place)
		}
		lines = append(lines, l)
		rows = append(rows, []string{l.Label, short(l.DriveID), l.Where, l.Location, l.Person, l.Why})
	}
	return a.showReport(f, lines, none, []string{"drive", "id", "where", column, "person", "why"}, rows)
}

func (a *app) oddReport(ctx context.Context, cat *catalog.Catalog, name string, f reportFlags) error {
	r, err := a.register(ctx, cat)
	if err != nil {
		return err
	}
	now := a.now()
	odd, none := r.list.Missing(now), "everything is where it is expected"
	if name == "discrepancies" {
		found, err := a.attachedDrives(ctx)
		if err != nil {
			return err
		}
		odd = append(append(append([]custody.Discrepancy{}, r.list.Discrepancies...), r.list.Together(now)...), r.list.Unexpected(idsOf(found), now)...)
		none = "the ledger and what is seen agree"
	}
	var rows [][]string
	for _, d := range odd {
		entry := "-"
		if d.Entry > 0 {
			entry = strconv.FormatUint(d.Entry, 10)
		}
		rows = append(rows, []string{d.Item.Label, string(d.Item.Kind), stamp(d.At), entry, d.What})
	}
	if odd == nil {
		odd = []custody.Discrepancy{}
	}
	return a.showReport(f, odd, none, []string{"item", "kind", "when", "entry", "what"}, rows)
}

func idsOf(found []rotation.Found) (ids []string) {
	for _, f := range found {
		if f.Usable() {
			ids = append(ids, f.Drive.ID)
		}
	}
	return ids
}
