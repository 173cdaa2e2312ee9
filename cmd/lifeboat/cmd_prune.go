package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

type pruneFlags struct {
	yes, dryRun  bool
	rewriteBelow int
}

func (a *app) pruneCommand() *cobra.Command {
	var f pruneFlags
	c := &cobra.Command{
		Use: "prune DRIVE", Short: "Give back the room of what no restore point of a drive needs", GroupID: "look",
		Long: "Removes from a drive what no listed restore point needs any more: what was forgotten with\n" +
			"\"lifeboat point forget\", and the beginnings of exports that were cut off. It shows its plan\n" +
			"and asks. No restore point is removed or changed. Nobody else may use the drive meanwhile.\n" +
			"Nothing is moved that the newest good copy of a machine needs, unless another drive holds it.\n" +
			"It may be stopped at any moment; the next prune goes on.",
		Example:     "  lifeboat prune A --dry-run\n  lifeboat prune A --yes",
		Annotations: exits(exitNoDrive, exitHeld, exitDamage, exitPerson, exitStopped), Args: exactArgs("a drive"),
		ValidArgsFunction: a.completeDrives,
		RunE: func(c *cobra.Command, args []string) error {
			if f.rewriteBelow < 1 || f.rewriteBelow > 100 {
				return usagef("--rewrite-below takes a share from 1 to 100 percent, not %d", f.rewriteBelow)
			}
			return a.prune(c.Context(), args[0], f)
		},
	}
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "show the plan and stop")
	c.Flags().IntVar(&f.rewriteBelow, "rewrite-below", 50, "write anew what is left of a pack once less than this percentage of it is needed; more frees more and writes more")
	return c
}

func (a *app) prune(ctx context.Context, want string, f pruneFlags) error {
	mode := imagestore.Alone
	if f.dryRun {
		mode = imagestore.Read // a look may be taken beside others
	}
	d, err := a.openDriveAlone(ctx, want, mode)
	if err != nil {
		return err
	}
	defer d.Close()
	o := imagestore.PruneOptions{RewriteBelow: float64(f.rewriteBelow) / 100}
	if o.Untouched, err = a.untouched(ctx, d); err != nil {
		return err
	}
	plan, err := d.store.PlanPrune(ctx, o)
	if err != nil {
		return err
	}
	if f.dryRun && a.json {
		a.printJSON(plan)
		return nil
	}
	text := pruneText(d, plan)
	if f.dryRun {
		a.print("%s", text)
		return nil
	}
	if plan.RemovePacks+plan.RewritePacks > 0 {
		if err := a.confirm(ctx, f.yes, text); err != nil {
			return err
		}
	}
	return a.pruneNow(ctx, d, o)
}

// pruneText is the plan as a person reads it.
func pruneText(d *openedDrive, p imagestore.PrunePlan) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s holds %s in %s of blocks and their parity; all points stay.\n", d.name(), count(len(p.Keep), "restore point"), humanBytes(p.PackBytes))
	left := ""
	if p.UntouchedPacks > 0 {
		left = fmt.Sprintf("  left lying         %s  about %s: they hold something of the newest good copy of a machine, and no other drive holds one\n",
			count(p.UntouchedPacks, "pack"), humanBytes(p.UntouchedBytes))
	}
	if p.RemovePacks+p.RewritePacks == 0 {
		out.WriteString("Nothing can be freed: what is stored is needed.\n" + left)
		return out.String()
	}
	fmt.Fprintf(&out, "  removed whole      %s  %s\n", count(p.RemovePacks, "pack"), humanBytes(p.RemoveBytes))
	fmt.Fprintf(&out, "  written anew       %s  %s, of which about %s are needed\n", count(p.RewritePacks, "pack"), humanBytes(p.RewriteBytes), humanBytes(p.RewriteEstimateBytes))
	out.WriteString(left)
	fmt.Fprintf(&out, "  freed altogether   about %s\n", humanBytes(p.FreeEstimateBytes))
	return out.String()
}

func (a *app) pruneNow(ctx context.Context, d *openedDrive, o imagestore.PruneOptions) error {
	r, err := a.beginRun("prune", os.Args[1:])
	if err != nil {
		return err
	}
	began := time.Now()
	p := a.newProgress(r, "prune")
	report, err := d.store.Prune(ctx, o, func(pr imagestore.Progress) { p.show(pr.DoneBytes, pr.TotalBytes) })
	p.end()
	summary := fmt.Sprintf("%s: freed %s; %s removed, %s of them written anew (%s)", d.name(), humanBytes(max(0, report.FreedBytes)),
		count(report.RemovedPacks, "pack"), fmt.Sprint(report.RewrittenPacks), humanBytes(report.WrittenBytes))
	if a.json {
		a.printJSON(event{Event: "result", Time: a.now().UTC(), Run: r.ID, Result: struct {
			Drive   lifeboat.Drive         `json:"drive"`
			Report  imagestore.PruneReport `json:"report"`
			Freed   int64                  `json:"freedBytes"`
			Seconds float64                `json:"seconds"`
			Exit    int                    `json:"exit"`
		}{d.store.Drive(), report, report.FreedBytes, time.Since(began).Seconds(), exitCode(err)}})
	} else {
		a.print("%s\n", summary)
		if report.NoRoom > 0 {
			a.print("%s stayed because the drive had no room to write anew what is needed of them; another prune goes on\n", count(report.NoRoom, "pack"))
		}
		for _, k := range report.Kept {
			a.print("kept: %s: %s\n", k.File, k.Why)
		}
	}
	r.end(summary, err)
	return err
}

// openDriveAlone opens a drive for removing things from it. When somebody else
// uses it, the problem says which run that is, as far as this computer knows.
func (a *app) openDriveAlone(ctx context.Context, want string, mode imagestore.Mode) (*openedDrive, error) {
	d, err := a.openDrive(ctx, want, mode)
	if !errors.Is(err, lifeboat.ErrDriveHeld) {
		return d, err
	}
	found, ferr := a.findDrive(ctx, want)
	if ferr != nil {
		return nil, err
	}
	users := a.usersOf(found)
	if len(users) == 0 {
		return nil, err
	}
	return nil, &lifeboat.Problem{
		What: fmt.Sprintf("drive %s is in use by %s", found.Drive.Label, list(users)),
		Safe: "nothing was changed; what runs goes on",
		Next: "wait until it has ended, then run the command again; see: lifeboat run list",
		Err:  err,
	}
}

// usersOf names the runs of this computer that may be using a drive: machines
// that were booted from it, and whatever is running.
func (a *app) usersOf(found rotation.Found) (users []string) {
	runs, err := a.listRuns()
	if err != nil {
		return nil
	}
	for _, f := range runs {
		b, err := readBooted(filepath.Join(a.runsDir(), f.ID))
		switch {
		case err == nil && (b.Ended || !b.reads(found.Drive.ID)):
		case err == nil:
			var names []string
			for _, m := range b.Machines {
				names = append(names, m.Name)
			}
			users = append(users, fmt.Sprintf("run %s, which serves the disks of %s", short(f.ID), list(names)))
		case f.state() == "running":
			users = append(users, fmt.Sprintf("run %s (%s)", short(f.ID), f.Kind))
		}
	}
	return users
}
