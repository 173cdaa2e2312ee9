package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/rotation"
)

func (a *app) rotateRecoveryListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "recovery-list [MACHINE...]", Short: "Say which drives have to come home for a recovery",
		Long: "Prints the smallest list of drives from which machines, or all that are protected, can be\n" +
			"recovered: of the newest run of which every one of them has a complete point. Drives that are at\n" +
			"hand come first, then those that are brought soonest. It ends with code 3 if a machine cannot be\n" +
			"recovered from any drive.",
		Example:           "  lifeboat rotate recovery-list\n  lifeboat rotate recovery-list db web --json",
		Annotations:       exits(exitPartial),
		ValidArgsFunction: a.completeMachines,
		RunE: func(c *cobra.Command, args []string) error {
			return a.rotateRecoveryList(c.Context(), args)
		},
	}
}

func (a *app) rotateRecoveryList(ctx context.Context, names []string) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	j, err := a.decide(ctx, cat)
	if err != nil {
		return err
	}
	ids, err := shelfMachineIDs(j.shelf, names)
	if err != nil {
		return err
	}
	list := rotation.Recover(j.policy, j.shelf, ids)
	if a.json {
		a.printJSON(list)
	} else {
		a.showRecoveryList(list)
	}
	if len(list.Missing) == 0 {
		return nil
	}
	var missing []string
	for name, why := range list.Missing {
		missing = append(missing, fmt.Sprintf("%s (%s)", name, why))
	}
	slices.Sort(missing)
	return &lifeboat.Problem{
		What: "cannot be recovered from any drive: " + strings.Join(missing, "; "),
		Safe: "nothing was changed; the list has all that can be recovered",
		Next: "export them, or find the drives that have them: lifeboat drive list",
		Err:  lifeboat.ErrPartial,
	}
}

// shelfMachineIDs finds machines of the shelf by their names or ids.
func shelfMachineIDs(s rotation.Shelf, names []string) (ids []string, err error) {
	for _, name := range names {
		var found []string
		for _, m := range s.Machines {
			if m.Name == name || m.ID == name {
				found = append(found, m.ID)
			}
		}
		switch len(found) {
		case 0:
			return nil, usagef("no drive is known to have a point of a machine %q; see: lifeboat drive list", name)
		case 1:
			ids = append(ids, found[0])
		default:
			return nil, usagef("%d machines are called %q: give the id: %s", len(found), name, strings.Join(found, " or "))
		}
	}
	return ids, nil
}

func (a *app) showRecoveryList(l rotation.RecoveryList) {
	switch {
	case len(l.Drives) == 0:
		a.print("no drive has a complete point of these machines\n")
		return
	case l.RunID != "":
		a.print("%s, all of one run, of %s:\n", count(len(l.Drives), "drive"), stamp(l.TakenAt))
	default:
		a.print("%s; %s:\n", count(len(l.Drives), "drive"), l.Mixed)
	}
	var rows [][]string
	for _, d := range l.Drives {
		lead := "-"
		switch {
		case d.Attached:
			lead = "is attached"
		case d.LeadTime > 0:
			lead = humanDuration(d.LeadTime)
		}
		rows = append(rows, []string{d.Label, placeWords(d.Place), d.Contact, lead, d.Why})
	}
	a.print("%s", remarks(a.columns(), []string{"DRIVE", "PLACE", "CALL", "TAKES", "FOR"}, rows))
	rows = nil
	for _, m := range l.Machines {
		verified := "not verified"
		if !m.VerifiedAt.IsZero() {
			verified = "verified " + stamp(m.VerifiedAt)
		}
		rows = append(rows, []string{m.Machine, stamp(m.TakenAt), verified})
	}
	a.print("\n%s", table([]string{"MACHINE", "POINT OF", ""}, rows))
}
