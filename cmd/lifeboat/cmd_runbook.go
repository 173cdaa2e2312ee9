package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat/imagestore"
	"lifeboat/runbook"
)

func (a *app) runbookCommand() *cobra.Command {
	return group("runbook", "Write a recovery down, check it, and see its plan",
		"  lifeboat runbook new head-office\n  lifeboat runbook check head-office", "back",
		a.runbookNewCommand(), a.runbookListCommand(), a.runbookShowCommand(), a.runbookCheckCommand(), a.runbookPlanCommand(), a.runbookRemoveCommand(), a.runbookSchemaCommand())
}

func (a *app) runbookListCommand() *cobra.Command {
	var drive string
	c := &cobra.Command{
		Use: "list", Short: "List the runbooks of this computer, or of a drive",
		Long: "Runbooks are the files in the folder runbooks of the state folder. Every drive of the site that\n" +
			"is attached gets them, sealed. On a computer without any, and with --drive, those of the drive\n" +
			"are listed, with how they compare to the ones here. A runbook is ready when a drill of what it\n" +
			"says now has passed within its period; runbook check looks at hosts and drives too.",
		Example:     "  lifeboat runbook list\n  lifeboat runbook list --drive A --json",
		Annotations: exits(exitNoDrive), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.listRunbooks(c.Context(), drive) },
	}
	a.driveFlag(c, &drive)
	return c
}

// runbookRow is a runbook as it is listed.
type runbookRow struct {
	Name string `json:"name"`
	Path string `json:"path,omitempty"`
	// Here compares one on a drive to this computer's: same, other or none.
	Here     string `json:"here,omitempty"`
	Machines int    `json:"machines,omitempty"`
	Steps    int    `json:"steps,omitempty"`
	Purpose  string `json:"purpose,omitempty"`
	Meaning  string `json:"meaning,omitempty"`
	// Ready says whether a drill has proven it, as far as records tell; only of those
	// of this computer.
	Ready *runbook.Readiness `json:"readiness,omitempty"`
	// Mistake is the first one, if it cannot be read.
	Mistake string `json:"mistake,omitempty"`
}

func rowOf(name string, text []byte, err error) runbookRow {
	row := runbookRow{Name: name}
	var book *runbook.Book
	if err == nil {
		book, err = runbook.Parse(name, text)
	}
	if err != nil {
		row.Mistake = err.Error()
		return row
	}
	row.Machines, row.Steps, row.Purpose, row.Meaning = len(book.Machines), len(book.Steps), book.Purpose, runbook.Meaning(book)
	return row
}

func (a *app) listRunbooks(ctx context.Context, drive string) error {
	own, err := a.ownRunbooks()
	if err != nil {
		return err
	}
	rows := []runbookRow{}
	if drive != "" || len(own) == 0 && !a.hasState() {
		if rows, err = a.rowsOn(ctx, drive); err != nil {
			return err
		}
	} else {
		for _, name := range own {
			text, err := readRunbookFile(a.runbookPath(name))
			row := rowOf(name, text, err)
			row.Path = a.runbookPath(name)
			rows = append(rows, row)
		}
		if err := a.addReadiness(ctx, rows); err != nil {
			return err
		}
	}
	if a.json {
		a.printJSON(rows)
		return nil
	}
	if len(rows) == 0 {
		a.print("there is no runbook yet; write a first draft: lifeboat runbook new\n")
		return nil
	}
	var cells [][]string
	var due strings.Builder
	for _, r := range rows {
		ready := "-"
		if r.Ready != nil && r.Mistake == "" {
			b := bookReadiness{r.Name, *r.Ready}
			ready = b.cell(a.now())
			if text := b.due(a.now()); text != "" {
				due.WriteString(wrappedFrom("\n", "", text))
			}
		}
		remark := r.Purpose
		if r.Mistake != "" {
			remark = "CANNOT BE READ: " + r.Mistake
		}
		switch r.Here {
		case hereOther:
			remark = "another text than the one here; " + remark
		case hereNone:
			remark = "not on this computer; " + remark
		}
		cells = append(cells, []string{r.Name, fmt.Sprint(r.Machines), fmt.Sprint(r.Steps), ready, oneLine(remark)})
	}
	a.print("%s%s", table([]string{"RUNBOOK", "MACHINES", "STEPS", "READY", "PURPOSE"}, cells), due.String())
	return nil
}

// addReadiness says of runbooks of this computer whether they were proven.
func (a *app) addReadiness(ctx context.Context, rows []runbookRow) error {
	cat := a.knownSite(ctx)
	all, err := a.readiness(ctx, cat)
	if err != nil {
		return err
	}
	for i := range rows {
		for _, r := range all {
			if r.Name == rows[i].Name {
				rows[i].Ready = &r.Readiness
			}
		}
	}
	return nil
}

// How a runbook on a drive compares to the one of this computer.
const (
	hereSame  = "same"
	hereOther = "other"
	hereNone  = "none"
)

// rowsOn are the runbooks of a drive.
func (a *app) rowsOn(ctx context.Context, want string) ([]runbookRow, error) {
	d, err := a.openDrive(ctx, want, imagestore.Read)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	there, err := runbooksOn(ctx, d)
	if err != nil {
		return nil, err
	}
	rows := []runbookRow{}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		text, err := readRunbookOn(ctx, d, name)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		row := rowOf(name, text, err)
		mine, err := readRunbookFile(a.runbookPath(name))
		switch {
		case err != nil:
			row.Here = hereNone
		case runbookHash(mine) == there[name].Hash:
			row.Here = hereSame
		default:
			row.Here = hereOther
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (a *app) runbookShowCommand() *cobra.Command {
	var drive string
	c := &cobra.Command{
		Use: "show NAME", Short: "Print a runbook as it was written",
		Long: "NAME is a runbook of this computer, one on the drive, or the path of a file. With --json it is\n" +
			"printed with the hash of its meaning: what a drill proves. A text with a mistake is printed too,\n" +
			"and the mistakes are said with their lines.",
		Example:     "  lifeboat runbook show head-office\n  lifeboat runbook show head-office --drive A > head-office.yaml",
		Annotations: exits(exitNoDrive, exitDamage), Args: exactArgs("the name of a runbook, or its file"),
		ValidArgsFunction: a.completeRunbooks,
		RunE:              func(c *cobra.Command, args []string) error { return a.showRunbook(c.Context(), args[0], drive) },
	}
	a.driveFlag(c, &drive)
	return c
}

func (a *app) showRunbook(ctx context.Context, name, drive string) error {
	text, where, err := a.runbookText(ctx, name, drive)
	if err != nil {
		return err
	}
	book, err := parseRunbook(bookName(name), where, text)
	switch {
	case err == nil:
		a.showText(book.Name, text)
	case !a.json:
		a.print("%s", text)
	}
	return err
}

// showText prints a runbook as it was written.
func (a *app) showText(name string, text []byte) {
	if !a.json {
		a.print("%s", text)
		return
	}
	a.printJSON(struct {
		runbookRow
		Text string `json:"text"`
	}{rowOf(name, text, nil), string(text)})
}

// runbookText is the text of a runbook of this computer, of a file, or of a drive.
func (a *app) runbookText(ctx context.Context, name, drive string) (text []byte, where string, err error) {
	if drive == "" && isRunbookFile(name) {
		text, err = readRunbookFile(name)
		if err != nil {
			err = unreadRunbook(name, err)
		}
		return text, name, err
	}
	if drive == "" && runbookName.MatchString(name) {
		text, err = readRunbookFile(a.runbookPath(name))
		if !errors.Is(err, fs.ErrNotExist) {
			return text, a.runbookPath(name), err
		}
		if a.hasState() {
			own, err := a.ownRunbooks()
			return nil, "", errors.Join(noRunbook("this computer", name, own), err)
		}
	}
	d, err := a.openDrive(ctx, drive, imagestore.Read)
	if err != nil {
		return nil, "", err
	}
	defer d.Close()
	there, err := runbooksOn(ctx, d)
	if err != nil {
		return nil, "", err
	}
	if _, ok := there[name]; !ok {
		return nil, "", noRunbook(d.name(), name, slices.Sorted(maps.Keys(there)))
	}
	text, err = readRunbookOn(ctx, d, name)
	return text, name + " on " + d.name(), err
}

func (a *app) runbookRemoveCommand() *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use: "remove NAME", Short: "Remove a runbook from this computer and from every drive",
		Long: "The file is kept beside as NAME.yaml.removed. Drives lose the runbook when they are attached the\n" +
			"next time. A file that is only deleted comes back from the next drive: it might have been lost.",
		Example:     "  lifeboat runbook remove old-office\n  lifeboat runbook remove old-office --dry-run",
		Annotations: exits(), Args: exactArgs("the name of a runbook"),
		ValidArgsFunction: a.completeRunbooks,
		RunE:              func(_ *cobra.Command, args []string) error { return a.removeRunbook(args[0], dryRun) },
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be removed")
	return c
}

func (a *app) removeRunbook(name string, dryRun bool) error {
	if !a.hasState() {
		_, err := a.loadSite()
		return err
	}
	own, err := a.ownRunbooks()
	if err != nil {
		return err
	}
	if !slices.Contains(own, name) {
		return noRunbook("this computer", name, own)
	}
	kept := a.runbookPath(name) + ".removed"
	if !dryRun {
		err = a.changeRunbooks(func(m *runbookMemory) error {
			m.Removed[name] = a.now().UTC()
			return os.Rename(a.runbookPath(name), kept)
		})
	}
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(struct {
			Removed string `json:"removed"`
			Kept    string `json:"kept"`
			DryRun  bool   `json:"dryRun,omitempty"`
		}{name, kept, dryRun})
		return nil
	}
	verb := "is"
	if dryRun {
		verb = "would be"
	}
	a.print("runbook %s %s removed; its text %s kept as %s. Drives lose it when they are attached the next time\n", name, verb, verb, kept)
	return nil
}

func (a *app) runbookSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of runbooks, for editors",
		Long: "An editor that knows the schema completes fields and marks mistakes while a runbook is written.\n" +
			"Save it beside the runbooks and name it in their first line:\n" +
			"  # yaml-language-server: $schema=runbook.schema.json",
		Example:     "  lifeboat runbook schema\n  lifeboat runbook schema > runbook.schema.json",
		Annotations: exits(), Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			a.print("%s", runbook.Schema())
			return nil
		},
	}
}
