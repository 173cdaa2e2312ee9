package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/runbook"
	"lifeboat/yamlfile"
)

// newFlags are what `runbook new` takes beside names.
type newFlags struct{ drive, output string }

func (a *app) runbookNewCommand() *cobra.Command {
	var f newFlags
	c := &cobra.Command{
		Use: "new [NAME] [MACHINE...]", Short: "Write the first draft of a runbook from the machines that are known",
		Long: "Without machines the draft has all that are protected. It orders them by what their names tell:\n" +
			"directories and DNS before databases, databases before web servers; what was exported together\n" +
			"comes back together; and it asks what people forget. Guesses say that they are guesses. Correct\n" +
			"it, then: lifeboat runbook check. A runbook that is there already is never written over.",
		Example:     "  lifeboat runbook new head-office\n  lifeboat runbook new shop db web --output -",
		Annotations: exits(exitNoDrive), Args: cobra.ArbitraryArgs,
		ValidArgsFunction: func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeMachines(c, args, typed)
		},
		RunE: func(c *cobra.Command, args []string) error {
			name := "recovery"
			if len(args) > 0 {
				name = args[0]
				args = args[1:]
			}
			return a.draftRunbook(c.Context(), name, args, f)
		},
	}
	c.Flags().StringVarP(&f.output, "output", "o", "", "write to this new file instead of the state folder; - for the screen")
	a.driveFlag(c, &f.drive)
	return c
}

// draftRunbook writes a draft to the state folder, a file or the screen.
func (a *app) draftRunbook(ctx context.Context, name string, only []string, f newFlags) error {
	if !runbookName.MatchString(name) {
		return usagef("%q cannot be the name of a runbook: it has lower-case letters, digits and '-'", name)
	}
	if f.output == "" && !a.hasState() {
		return usagef("without a state folder say where the draft goes: --output FILE, or --output - for the screen")
	}
	text, machines, err := a.draftOf(ctx, name, only, f.drive)
	if err != nil {
		return err
	}
	path := f.output
	switch f.output {
	case "-":
		a.showText(name, text)
		return nil
	case "":
		path = a.runbookPath(name)
		err = a.newRunbook(name, text)
	default:
		err = newFile(path, text)
	}
	if err != nil {
		return err
	}
	if a.json {
		row := rowOf(name, text, nil)
		row.Path = path
		a.printJSON(row)
		return nil
	}
	a.print("%s: a first draft with %s. Read it, correct what is a guess, and then: lifeboat runbook check %s\n", path, count(machines, "machine"), shellWord(draftCalled(name, f.output)))
	return nil
}

// draftCalled is what the draft is called in the next command.
func draftCalled(name, output string) string {
	switch {
	case output == "":
		return name
	case isRunbookFile(output):
		return output
	default:
		return "./" + output
	}
}

// newFile writes a file that is not there yet.
func newFile(path string, text []byte) error {
	if _, err := os.Lstat(path); err == nil {
		return &lifeboat.Problem{What: fmt.Sprintf("%s exists already", path), Safe: "it was not changed", Next: "name another file: --output FILE", Err: fs.ErrExist}
	}
	return writeFile(filepath.Clean(path), text, 0o644)
}

// draftOf makes a draft of the machines that are known here, or on the drive.
func (a *app) draftOf(ctx context.Context, name string, only []string, drive string) (text []byte, machines int, err error) {
	var o situationOptions
	if drive != "" || !a.hasState() {
		d, err := a.openDrive(ctx, drive, imagestore.Read)
		if err != nil {
			return nil, 0, err
		}
		defer d.Close()
		o.drives = []*openedDrive{d}
	}
	s, err := a.situation(ctx, &runbook.Book{Name: name}, runbook.Recover, o)
	if err != nil {
		return nil, 0, err
	}
	in := runbook.DraftInput{Name: name, Site: s.Site, Now: s.Now, Points: s.Points, Past: s.Past}
	var known []string
	for _, m := range s.Machines {
		known = append(known, m.Name)
		if len(only) == 0 || slices.Contains(only, m.Name) {
			in.Machines = append(in.Machines, m)
		}
	}
	for _, want := range only {
		if !slices.Contains(known, want) {
			return nil, 0, &lifeboat.Problem{What: fmt.Sprintf("there is no machine %q%s", want, yamlfile.Meant(want, known)), Safe: "nothing was written",
				Next: "see which machines there are: lifeboat machine list"}
		}
	}
	return runbook.Draft(in), len(in.Machines), nil
}
