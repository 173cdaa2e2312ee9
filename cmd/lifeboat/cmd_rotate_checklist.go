package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

func (a *app) rotateChecklistCommand() *cobra.Command {
	var page bool
	var out string
	c := &cobra.Command{
		Use: "checklist", Short: "Print this week's checklist on paper",
		Long: "Without --print it shows what `lifeboat rotate` shows. With --print it writes the checklist as one page\n" +
			"of HTML for A4 or Letter, which needs no network: boxes, names, days, room for signatures and seal\n" +
			"numbers, codes to compare the drives' stickers with, and the head of the ledger. The page witnesses\n" +
			"the ledger: `lifeboat rotate audit --head` finds one that was written anew later.",
		Example:     "  lifeboat rotate checklist --print --out checklist.html\n  lifeboat rotate checklist --print | lp",
		Annotations: exits(exitPartial, exitPerson), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !page && out != "" {
				return usagef("--out goes with --print")
			}
			if !page {
				return a.rotate(c.Context())
			}
			return a.printChecklist(c.Context(), out)
		},
	}
	c.Flags().BoolVar(&page, "print", false, "as a page of HTML to print")
	c.Flags().StringVar(&out, "out", "", "write the page to this file, which only you can read")
	return c
}

func (a *app) printChecklist(ctx context.Context, out string) error {
	site, err := a.loadSite()
	if err != nil {
		return err
	}
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	j, err := a.decide(ctx, cat)
	if err != nil {
		return err
	}
	if err := a.remindOfRunbooks(ctx, cat, &j); err != nil {
		return err
	}
	if !j.rotates() {
		return &lifeboat.Problem{
			What: "this site has no rotation, so there is no checklist",
			Safe: "nothing was changed",
			Next: "say how drives take turns in site.yaml, as docs/reference/site.md shows; look at it with: lifeboat rotate",
		}
	}
	// Its own entry comes before the head that the page carries, so that the page
	// witnesses that it was printed.
	printed, err := a.record(ctx, cat, custody.Entry{Act: custody.ActPrinted, Note: "checklist of " + j.decision.Period})
	if err != nil {
		return err
	}
	f := rotation.ChecklistFacts{Summary: j.answer(), PrintedAt: j.now, Zone: j.policy.Calendar.Zone, Decision: j.decision, Policy: j.policy,
		Drives: drivesOfSteps(j), Head: custody.HeadOf([]custody.Entry{printed}), Trial: site.Site.Trial}
	if site.Site.NameOnDrives {
		f.Site = site.Site.Name
	}
	text, err := rotation.ChecklistHTML(f)
	if err != nil {
		return err
	}
	return a.givePage(text, out, struct {
		Period string       `json:"period"`
		Head   custody.Head `json:"head"`
		Page   string       `json:"page"`
	}{j.decision.Period, f.Head, text})
}

// drivesOfSteps are the drives that the checklist moves.
func drivesOfSteps(j judgement) []rotation.ShelfDrive {
	return slices.DeleteFunc(slices.Clone(j.shelf.Drives), func(d rotation.ShelfDrive) bool {
		return !slices.ContainsFunc(j.decision.Steps, func(s rotation.Step) bool { return s.DriveID == d.ID })
	})
}

// givePage writes a page to the file that was asked for, or to stdout, there as
// the given document with --json.
func (a *app) givePage(text, out string, document any) error {
	switch {
	case out != "":
		if err := writeFile(out, []byte(text), 0o600); err != nil {
			return err
		}
		a.note("the page is in %s: open it in a browser and print it at 100 per cent", out)
	case a.json:
		a.printJSON(document)
	default:
		a.print("%s", text)
	}
	return nil
}
