package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

func (a *app) driveLabelCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "label DRIVE", Short: "Print the sticker of a drive",
		Long: "Writes a page of HTML with two stickers of 90 by 50 mm, one for the drive and one for its case: its\n" +
			"label, its id as text and as a code, and whom a finder calls. Never what is on it or where it is\n" +
			"kept, and the company's name only if the site wants it on its drives. The drive need not be attached.",
		Example:     "  lifeboat drive label A --out label-A.html\n  lifeboat drive label A | lp",
		Annotations: exits(exitNoDrive), Args: exactArgs("the label or id of a drive"),
		ValidArgsFunction: a.completeItems(custody.KindDrive),
		RunE: func(c *cobra.Command, args []string) error {
			return a.printLabel(c.Context(), args[0], out)
		},
	}
	c.Flags().StringVar(&out, "out", "", "write the page to this file, which only you can read")
	return c
}

func (a *app) printLabel(ctx context.Context, want, out string) error {
	site, err := a.loadSite()
	if err != nil {
		return err
	}
	policy, err := a.policy()
	if err != nil {
		return err
	}
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	kept, _, err := a.pickDrive(ctx, cat, want)
	if err != nil {
		return err
	}
	known, err := cat.Drive(ctx, kept.ID)
	if err != nil {
		return err
	}
	f := rotation.LabelFacts{Drive: known.Drive, Contact: site.Site.Contact, Trial: site.Site.Trial}
	if site.Site.NameOnDrives {
		f.CompanyName = site.Site.Name
	}
	for _, set := range policy.Scheme.Sets {
		// A set of one drive has the drive's name.
		if slices.Contains(set.Drives, known.Label) && set.Name != known.Label {
			f.Set = set.Name
		}
	}
	text, err := rotation.LabelHTML(f)
	if err != nil {
		return err
	}
	return a.givePage(text, out, struct {
		Drive lifeboat.Drive `json:"drive"`
		Page  string         `json:"page"`
	}{known.Drive, text})
}
