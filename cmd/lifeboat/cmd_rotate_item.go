package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
)

// itemFlags say where a sheet or a secret is, or goes.
type itemFlags struct {
	kind, location, holder, box string
	courier, seal, note, by     string
	dryRun                      bool
}

func (a *app) rotateItemCommand() *cobra.Command {
	c := group("item", "Keep track of recovery sheets and secrets, apart from the drives",
		"  lifeboat rotate item add \"envelope 1\" --kind secret --location bank --box 12\n  lifeboat rotate item list", "",
		a.itemAddCommand(), a.itemMoveCommand(), a.itemListCommand())
	return c
}

func (a *app) itemPlaceFlags(c *cobra.Command, f *itemFlags) {
	c.Flags().StringVar(&f.location, "location", "", "the location of the site where it is")
	c.Flags().StringVar(&f.holder, "holder", "", "who has it, or answers for it there")
	c.Flags().StringVar(&f.box, "box", "", "the box it lies in, by its name or bar code")
	c.Flags().StringVar(&f.note, "note", "", "a remark for the ledger")
	c.Flags().StringVar(&f.by, "by", "", "who signs for it")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be recorded")
	c.RegisterFlagCompletionFunc("location", a.completeLocations)
	c.RegisterFlagCompletionFunc("by", a.completePeople)
}

func (a *app) itemAddCommand() *cobra.Command {
	var f itemFlags
	c := &cobra.Command{
		Use: "add LABEL --kind sheet|secret", Short: "Begin to keep track of a sheet or a secret",
		Long: "Adds a recovery sheet or a secret to the ledger: a hardware key, an envelope with words. The\n" +
			"secret itself is never typed here. It may not be where a drive is: not in one box, not with one\n" +
			"courier, and at one location only in boxes of their own.",
		Example:     "  lifeboat rotate item add \"envelope 1\" --kind secret --location bank --box 12\n  lifeboat rotate item add \"sheet of A\" --kind sheet --holder Anna",
		Annotations: exits(), Args: exactArgs("the label of the item"),
		RunE: func(c *cobra.Command, args []string) error {
			if f.kind != string(custody.KindSheet) && f.kind != string(custody.KindSecret) {
				return usagef("--kind is sheet or secret; drives are added by: lifeboat drive init")
			}
			return a.itemAdd(c.Context(), args[0], f)
		},
	}
	c.Flags().StringVar(&f.kind, "kind", "", "sheet or secret")
	c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"sheet", "secret"}, cobra.ShellCompDirectiveNoFileComp))
	a.itemPlaceFlags(c, &f)
	return c
}

func (a *app) itemMoveCommand() *cobra.Command {
	var f itemFlags
	c := &cobra.Command{
		Use: "move ITEM", Short: "Record that a sheet or a secret was handed over",
		Long: "Records where a sheet or a secret is now: at a location, in a box, or with --courier on the way.\n" +
			"What would bring it together with a drive is refused.",
		Example:     "  lifeboat rotate item move \"envelope 1\" --location bank --box 12 --by Anna\n  lifeboat rotate item move \"sheet of A\" --courier Carl",
		Annotations: exits(exitNoDrive), Args: exactArgs("the label or id of a sheet or secret"),
		ValidArgsFunction: a.completeItems(custody.KindSheet, custody.KindSecret),
		RunE: func(c *cobra.Command, args []string) error {
			if (f.courier != "") == (f.location != "" || f.holder != "" || f.box != "") {
				return usagef("say where it is: --location, --holder or --box; or --courier NAME")
			}
			return a.itemMove(c.Context(), args[0], f)
		},
	}
	c.Flags().StringVar(&f.courier, "courier", "", "who carries it")
	c.Flags().StringVar(&f.seal, "seal", "", "the number of the seal on its container")
	a.itemPlaceFlags(c, &f)
	return c
}

// place is where the flags say that an item is. A location that the site has says
// itself whether it is offsite.
func (a *app) place(f itemFlags) (custody.Place, error) {
	if f.courier != "" {
		return custody.Place{State: custody.Courier, Holder: f.courier}, nil
	}
	place := custody.Place{State: custody.Onsite, Location: f.location, Holder: f.holder, Box: f.box}
	p, err := a.policy()
	if err != nil || f.location == "" {
		return place, err
	}
	l, ok := locationOf(p, &place)
	if !ok {
		var names []string
		for _, l := range p.Locations {
			names = append(names, l.Name)
		}
		return place, usagef("--location: the site has no location %q; it has: %s", f.location, list(names))
	}
	if l.Offsite {
		place.State = custody.Offsite
	}
	return place, nil
}

func (a *app) itemAdd(ctx context.Context, label string, f itemFlags) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	r, err := a.register(ctx, cat)
	if err != nil {
		return err
	}
	kind := custody.Kind(f.kind)
	if slices.ContainsFunc(r.list.Items, func(k custody.Kept) bool {
		return k.Kind == kind && k.Label == label && k.Place.State != custody.Retired
	}) {
		return &lifeboat.Problem{
			What: fmt.Sprintf("there is a %s with the label %q already", kind, label),
			Safe: "nothing was recorded",
			Next: "give this one another label, or move the other: lifeboat rotate item move",
		}
	}
	place, err := a.place(f)
	if err != nil {
		return err
	}
	return a.handOver(ctx, cat, r, f, custody.Entry{Act: custody.ActMade, Item: &custody.Item{Kind: kind, ID: newID(), Label: label}, To: &place})
}

func (a *app) itemMove(ctx context.Context, want string, f itemFlags) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	r, err := a.register(ctx, cat)
	if err != nil {
		return err
	}
	kept, err := pickItem(r.knownItems(nil, custody.KindSheet, custody.KindSecret), want, "sheet or secret")
	if err != nil {
		return err
	}
	place, err := a.place(f)
	if err != nil {
		return err
	}
	return a.handOver(ctx, cat, r, f, custody.Entry{Act: custody.ActMoved, Item: &kept.Item, To: &place, Seal: f.seal})
}

// handOver records where an item is now, and says it.
func (a *app) handOver(ctx context.Context, cat *catalog.Catalog, r register, f itemFlags, e custody.Entry) (err error) {
	e.Signer, e.Note = f.by, f.note
	if f.dryRun {
		e, err = a.wouldRecord(r.entries, e)
	} else {
		e, err = a.record(ctx, cat, e)
	}
	switch {
	case err != nil:
		return err
	case a.json:
		a.printJSON(e)
	case f.dryRun:
		a.print("would record that %s %s is %s\n", e.Item.Kind, e.Item.Label, placeWords(*e.To))
	default:
		a.print("%s %s is %s (entry %d of the ledger)\n", e.Item.Kind, e.Item.Label, placeWords(*e.To), e.Sequence)
	}
	return nil
}

// itemLine is a sheet or a secret and where it is.
type itemLine struct {
	custody.Item
	Place  custody.Place `json:"place"`
	Since  string        `json:"since"`
	Signer string        `json:"signer,omitempty"`
}

func (a *app) itemListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the sheets and secrets, and where they are",
		Example:     "  lifeboat rotate item list\n  lifeboat rotate item list --json",
		Annotations: exits(), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.itemList(c.Context()) },
	}
}

func (a *app) itemList(ctx context.Context) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	r, err := a.register(ctx, cat)
	if err != nil {
		return err
	}
	lines := []itemLine{}
	var rows [][]string
	for _, k := range r.knownItems(nil, custody.KindSheet, custody.KindSecret) {
		lines = append(lines, itemLine{k.Item, k.Place, k.Since.Format("2006-01-02T15:04:05Z07:00"), k.Signer})
		rows = append(rows, []string{k.Label, string(k.Kind), placeWords(k.Place), stamp(k.Since), k.Signer, short(k.ID)})
	}
	if a.json {
		a.printJSON(lines)
		return nil
	}
	if len(rows) == 0 {
		a.print("no sheets or secrets are kept track of; add one: lifeboat rotate item add\n")
		return nil
	}
	a.print("%s", table([]string{"ITEM", "KIND", "WHERE", "SINCE", "SIGNED", "ID"}, rows))
	return nil
}

// enterSheet records that a recovery sheet was printed: from then on it is an item
// that is kept apart from the drives.
func (a *app) enterSheet(ctx context.Context, d lifeboat.Drive, withSecret bool) {
	if !a.hasState() || !a.hasMemory() {
		return
	}
	note := "without a secret"
	if withSecret {
		note = "with a secret"
	}
	label := strings.TrimSpace(fmt.Sprintf("sheet of %s %s", custody.Clean(d.Label), a.now().UTC().Format("2006-01-02 15:04")))
	a.enter(ctx, a.remembered(ctx), custody.Entry{Act: custody.ActMade, Item: &custody.Item{Kind: custody.KindSheet, ID: newID(), Label: custody.Clean(label)},
		To: &custody.Place{State: custody.Onsite, Holder: thisUser()}, Note: note})
}
