package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
)

// linkFlags are the answers that `machine link` takes.
type linkFlags struct {
	undo   bool
	fresh  bool
	dryRun bool
}

func (a *app) machineLinkCommand() *cobra.Command {
	var f linkFlags
	c := &cobra.Command{
		Use: "link HOST/NAME MACHINE | --new | --undo", Short: "Say which history a host's machine goes on with",
		Long: "A host's machine has a history by the id that the host gave it. After it was built again on\n" +
			"another host, by hand or by another program, say which machine it is: the next export goes on\n" +
			"with that one's points, and retention counts them together. MACHINE is a machine's name or its\n" +
			"Lifeboat id, as `lifeboat point show` prints it.\n\n" +
			"--new begins a history of its own for a copy of another machine. --undo takes a link back.",
		Example:           "  lifeboat machine link vc/web web\n  lifeboat machine link kvm1/web-test --new",
		Annotations:       exits(),
		ValidArgsFunction: a.completeMachines,
		Args: func(_ *cobra.Command, args []string) error {
			want := 2
			if f.undo || f.fresh {
				want = 1
			}
			if len(args) != want || f.undo && f.fresh {
				return usagef("machine link takes HOST/NAME and the machine whose history it goes on with; or HOST/NAME with --new or with --undo")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return a.linkMachine(c.Context(), f, args)
		},
	}
	c.Flags().BoolVar(&f.fresh, "new", false, "begin a history of its own")
	c.Flags().BoolVar(&f.undo, "undo", false, "take the link back: the machine has the id that its host gives it")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be linked")
	return c
}

func (a *app) linkMachine(ctx context.Context, f linkFlags, args []string) error {
	s, err := a.loadSite()
	if err != nil {
		return err
	}
	// What a person says here has to be kept, or it was not said.
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	all, silent := a.machines(ctx, s)
	found, err := findMachines(all, args[:1])
	if err != nil {
		if silent != nil {
			return silent
		}
		return err
	}
	m := found[0]
	if f.undo {
		return a.unlinkMachine(ctx, cat, m, f.dryRun)
	}
	id := newID()
	if !f.fresh {
		if id, err = historyOf(ctx, cat, all, args[1]); err != nil {
			return err
		}
	}
	for _, other := range all {
		if other.Machine.ID == id && (other.host != m.host || other.HostID != m.HostID) && other.Recovery == "" {
			a.warn("%s/%s has this history as well: neither is exported before one of them is gone, left out in site.yaml or linked elsewhere", other.host.Name(), other.Machine.Name)
		}
	}
	if f.dryRun {
		a.note("%s/%s would go on with the history of machine %s", m.host.Name(), m.Machine.Name, id)
		return nil
	}
	if err := cat.LinkMachine(ctx, m.host.Name(), m.HostID, id); err != nil {
		return err
	}
	a.note("%s/%s goes on with the history of machine %s", m.host.Name(), m.Machine.Name, id)
	return nil
}

func (a *app) unlinkMachine(ctx context.Context, cat *catalog.Catalog, m machineOn, dryRun bool) error {
	_, err := cat.KnownMachine(ctx, m.host.Name(), m.HostID)
	if err == nil && !dryRun {
		err = cat.UnlinkMachine(ctx, m.host.Name(), m.HostID)
	}
	if errors.Is(err, catalog.ErrUnknown) {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s/%s is not linked to another history", m.host.Name(), m.Machine.Name),
			Safe: "nothing was changed",
			Next: "see its id: lifeboat machine show " + shellWord(m.host.Name()+"/"+m.Machine.Name),
		}
	}
	if err != nil {
		return err
	}
	if dryRun {
		a.note("%s/%s would have the id again that its host gives it", m.host.Name(), m.Machine.Name)
		return nil
	}
	a.note("%s/%s has the id again that its host gives it", m.host.Name(), m.Machine.Name)
	return nil
}

// historyOf returns the id of the machine that a person means: a whole id, one
// that the catalogue knows points of, or one that a host has.
func historyOf(ctx context.Context, cat *catalog.Catalog, all []machineOn, word string) (string, error) {
	if id := strings.ToLower(word); len(id) == 32 && strings.Trim(id, "0123456789abcdef") == "" {
		return id, nil
	}
	points, err := cat.Points(ctx, catalog.PointFilter{})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, p := range points {
		if p.MachineName == word || len(word) >= 6 && strings.HasPrefix(p.MachineID, word) {
			ids = append(ids, p.MachineID)
		}
	}
	for _, m := range all {
		if len(ids) == 0 && m.is(word) {
			ids = append(ids, m.Machine.ID)
		}
	}
	slices.Sort(ids)
	switch ids = slices.Compact(ids); len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", &lifeboat.Problem{
			What: fmt.Sprintf("no machine %q has a point that this computer remembers", word),
			Safe: "nothing was changed",
			Next: "see the points of a drive: lifeboat point list; and give the whole id that lifeboat point show prints",
		}
	default:
		return "", usagef("%q means %d machines: give one of the ids %s", word, len(ids), list(ids))
	}
}
