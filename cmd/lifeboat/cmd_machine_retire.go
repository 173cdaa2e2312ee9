package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
)

func (a *app) machineRetireCommand() *cobra.Command {
	var reason string
	var undo bool
	c := &cobra.Command{
		Use: "retire MACHINE", Short: "Say that a machine is gone for good",
		Long: "Says that a machine will not be exported any more: no objective of it is missed from then on.\n" +
			"Its points are kept as before, its last good copy for as long as nobody types its name with:\n" +
			"lifeboat point forget --last-copy. A later export of it, or --undo, takes that back.",
		Example:     "  lifeboat machine retire oldweb --reason \"replaced by web\"\n  lifeboat machine retire oldweb --undo",
		Annotations: exits(), Args: exactArgs("a machine"), ValidArgsFunction: a.completeKnownMachines,
		RunE: func(c *cobra.Command, args []string) error {
			reason = custody.Clean(oneLine(reason))
			if (reason == "") != undo {
				return usagef("say why: --reason TEXT; or take it back: --undo")
			}
			return a.retire(c.Context(), args[0], reason)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why it is gone")
	c.Flags().BoolVar(&undo, "undo", false, "it is not gone after all")
	return c
}

// retire retires a machine, or takes that back where no reason is given.
func (a *app) retire(ctx context.Context, name, reason string) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	m, err := knownMachine(ctx, cat, name)
	if err != nil {
		return err
	}
	if reason == "" {
		err = cat.UnretireMachine(ctx, m.ID)
	} else {
		err = cat.RetireMachine(ctx, m.ID, a.now(), thisUser(), reason)
	}
	if err != nil {
		return err
	}
	if a.json {
		m, err := knownMachine(ctx, cat, m.ID)
		a.printJSON(m)
		return err
	}
	if reason == "" {
		a.print("%s is not retired any more\n", m.Name)
		return nil
	}
	a.print("%s is retired: %s\n", m.Name, reason)
	a.note("its points stay; when they may go: lifeboat point forget POINT --last-copy %s", shellWord(m.Name))
	return nil
}

// knownMachine finds a machine of which a point was ever seen, by name or id.
func knownMachine(ctx context.Context, cat *catalog.Catalog, name string) (catalog.Machine, error) {
	machines, err := cat.Machines(ctx)
	if err != nil {
		return catalog.Machine{}, err
	}
	found := slices.DeleteFunc(machines, func(m catalog.Machine) bool { return m.Name != name && m.ID != name })
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return catalog.Machine{}, &lifeboat.Problem{
			What: fmt.Sprintf("no drive that was seen has a point of a machine %q", name),
			Safe: "nothing was changed",
			Next: "see the machines: lifeboat point list",
		}
	}
	var ids []string
	for _, m := range found {
		ids = append(ids, m.ID)
	}
	return catalog.Machine{}, &lifeboat.Problem{
		What: fmt.Sprintf("%d machines are called %q", len(found), name),
		Safe: "nothing was changed",
		Next: "name it by its id, one of: " + list(ids),
	}
}

func (a *app) completeKnownMachines(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, p := range a.rememberedPoints(c.Context()) {
		if !slices.Contains(names, p.MachineName) {
			names = append(names, p.MachineName)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
