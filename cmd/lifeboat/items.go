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

// shortest is the least of an id that a person types.
const shortestID = 6

// register is the ledger, played: where everything is.
type register struct {
	entries []custody.Entry
	list    custody.List
}

func (a *app) register(ctx context.Context, cat *catalog.Catalog) (register, error) {
	entries, err := cat.Ledger(ctx)
	if err != nil {
		return register{}, err
	}
	return register{entries, custody.Replay(entries)}, nil
}

// knownItems are the items of some kinds that the ledger has, and the drives that
// only the catalogue has: they are older than the ledger.
func (r register) knownItems(drives []catalog.Drive, kinds ...custody.Kind) []custody.Kept {
	var all []custody.Kept
	for _, k := range r.list.Items {
		if slices.Contains(kinds, k.Kind) {
			all = append(all, k)
		}
	}
	if slices.Contains(kinds, custody.KindDrive) {
		for _, d := range drives {
			if _, known := r.list.Of(d.ID); !known {
				all = append(all, custody.Kept{Item: *item(d.Drive), SeenAt: d.SeenAt})
			}
		}
	}
	return all
}

// pickItem finds the one item that a label, or the beginning of an id, means. Two
// with one label are told apart by their ids.
func pickItem(all []custody.Kept, want, noun string) (custody.Kept, error) {
	var found []custody.Kept
	for _, k := range all {
		if k.Label == want || len(want) >= shortestID && strings.HasPrefix(k.ID, want) {
			found = append(found, k)
		}
	}
	// What is retired gives its label back to the next.
	if len(found) > 1 {
		if rest := slices.DeleteFunc(slices.Clone(found), func(k custody.Kept) bool { return k.Place.State == custody.Retired }); len(rest) > 0 {
			found = rest
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return custody.Kept{}, &lifeboat.Problem{
			What: fmt.Sprintf("no %s %q is known", noun, want),
			Safe: "nothing was recorded",
			Next: "see what is: lifeboat drive list, or lifeboat rotate item list",
			Err:  lifeboat.ErrNoDrive,
		}
	}
	var ids []string
	for _, k := range found {
		words := short(k.ID)
		if k.Place.State != "" {
			words += " (" + placeWords(k.Place) + ")"
		}
		ids = append(ids, words)
	}
	return custody.Kept{}, &lifeboat.Problem{
		What: fmt.Sprintf("%d have the label %s: %s", len(found), want, list(ids)),
		Safe: "nothing was recorded",
		Next: "name one by the beginning of its id",
		Err:  lifeboat.ErrNoDrive,
	}
}

// completeItems offers what the ledger and the catalogue know.
func (a *app) completeItems(kinds ...custody.Kind) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || !a.hasMemory() {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		cat, err := a.openCatalog(c.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		defer cat.Close()
		drives, err := cat.Drives(c.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		r, err := a.register(c.Context(), cat)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, k := range r.knownItems(drives, kinds...) {
			names = append(names, k.Label+"\t"+placeWords(k.Place))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
