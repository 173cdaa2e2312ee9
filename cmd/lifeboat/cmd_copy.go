package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
)

type copyFlags struct {
	from, to            string
	all, latest, dryRun bool
}

func (a *app) copyCommand() *cobra.Command {
	var f copyFlags
	c := &cobra.Command{
		Use: "copy [POINT|MACHINE...]", Short: "Copy restore points from one drive to another of the same site", GroupID: "keep",
		Long: "Copies restore points from one drive to another of the same site. Only blocks that the other\n" +
			"drive lacks are read and written, and each is checked on the way. A machine's name means its\n" +
			"newest point. A copy that was stopped goes on where it was.\n\n" +
			"Over ssh the points go to a folder on another host, which becomes a drive that the same secret\n" +
			"opens. Nothing has to be installed there: this program goes along, and checks what arrives.",
		Example:     "  lifeboat copy --latest --from A --to B\n  lifeboat copy --all --from A --to /mnt/new --dry-run\n  lifeboat copy --latest --from A --to ssh://root@203.0.113.7/srv/lifeboat",
		Annotations: exits(exitNoDrive, exitHeld, exitDamage, exitStopped),
		Args: func(_ *cobra.Command, args []string) error {
			chosen := 0
			for _, is := range []bool{len(args) > 0, f.all, f.latest} {
				if is {
					chosen++
				}
			}
			if chosen != 1 {
				return usagef("copy takes points, or --all, or --latest, and one of these only")
			}
			if f.from == "" || f.to == "" {
				return usagef("copy needs both drives: --from DRIVE --to DRIVE")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return a.copy(c.Context(), args, f) },
	}
	c.Flags().StringVar(&f.from, "from", "", "label or path of the drive that has the points")
	c.Flags().StringVar(&f.to, "to", "", "label or path of the drive that gets them; or ssh://[USER@]HOST[:PORT]/FOLDER, a folder on another host, which becomes one")
	c.Flags().BoolVar(&f.all, "all", false, "every point of the drive")
	c.Flags().BoolVar(&f.latest, "latest", false, "the newest point of every machine")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be copied and stop")
	c.RegisterFlagCompletionFunc("from", a.completeDrives)
	c.RegisterFlagCompletionFunc("to", a.completeDrives)
	return c
}

func (a *app) copy(ctx context.Context, names []string, f copyFlags) error {
	from, err := a.openDrive(ctx, f.from, imagestore.Read)
	if err != nil {
		return err
	}
	defer from.Close()
	points, faults, err := from.store.Points(ctx)
	if err != nil {
		return err
	}
	a.warnFaults(from, faults)
	picked := points
	if !f.all {
		if picked, err = pickPoints(points, names, f.latest, from.found.Drive.Label); err != nil {
			return err
		}
	}
	ids := []string{}
	for _, p := range picked {
		ids = append(ids, p.ID)
	}
	if f.all {
		ids = nil // also those whose records cannot be read: it has to be told that they stay behind
	}
	if strings.HasPrefix(f.to, sshScheme) {
		if f.dryRun {
			return usagef("--dry-run is not for ssh://: what the other end has is known when it is asked")
		}
		return a.copySSH(ctx, from, f.to, ids)
	}
	return a.copyTo(ctx, f, from, func(cat *catalog.Catalog, to *openedDrive) error {
		if from.store.Drive().ID == to.store.Drive().ID {
			return usagef("--from and --to are one drive, %s", to.found.Drive.Label)
		}
		if f.dryRun {
			return a.copyPlan(ctx, from, to, ids)
		}
		return a.copyNow(ctx, cat, from, to, ids)
	})
}

// copyTo opens the drive that gets the points, as every command of a control
// machine does that writes to one: it has to be in use, and what waited for it
// comes first. A plan, or a computer that is no control machine, only opens it.
func (a *app) copyTo(ctx context.Context, f copyFlags, from *openedDrive, work func(cat *catalog.Catalog, to *openedDrive) error) error {
	if !f.dryRun && a.hasState() {
		found, err := a.findDrive(ctx, f.to)
		if err != nil {
			return err
		}
		// Before it is opened for writing, which would wait for its own reader.
		if found.Drive.ID != "" && found.Drive.ID == from.store.Drive().ID {
			return usagef("--from and --to are one drive, %s", found.Drive.Label)
		}
		return a.writeDrive(ctx, f.to, "", false, work)
	}
	mode := imagestore.Write
	if f.dryRun {
		mode = imagestore.Read
	}
	to, err := a.openDrive(ctx, f.to, mode)
	if err != nil {
		return err
	}
	defer to.Close()
	return work(nil, to)
}

func (a *app) copyPlan(ctx context.Context, from, to *openedDrive, ids []string) error {
	plan, err := to.store.PlanCopy(ctx, from.store, ids)
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(plan)
		return nil
	}
	var rows [][]string
	for _, p := range plan.Points {
		rows = append(rows, []string{short(p.Point.ID), p.Point.Machine.Name, stamp(p.Point.TakenAt), humanBytes(p.NewBytes)})
	}
	a.printNotCopied(plan.NotCopied)
	a.print("%sfrom %s to %s: %s of blocks that are not there yet, before compression; %s there already\n",
		table([]string{"POINT", "MACHINE", "TAKEN", "NEW"}, rows), from.name(), to.name(), humanBytes(plan.NewBytes), count(len(plan.Present), "point"))
	return nil
}

func (a *app) copyNow(ctx context.Context, cat *catalog.Catalog, from, to *openedDrive, ids []string) error {
	r, err := a.beginRun("copy", os.Args[1:])
	if err != nil {
		return err
	}
	began := time.Now()
	report, err := a.copyRun(ctx, r, cat, from, to, ids)
	summary := fmt.Sprintf("from %s to %s: %s copied, %s there already; stored %s", from.name(), to.name(),
		count(len(report.Copied), "point"), fmt.Sprint(len(report.Present)), humanBytes(report.WrittenBytes))
	if a.json {
		a.printJSON(event{Event: "result", Time: a.now().UTC(), Run: r.ID, Result: struct {
			From    lifeboat.Drive        `json:"from"`
			To      lifeboat.Drive        `json:"to"`
			Report  imagestore.CopyReport `json:"report"`
			Seconds float64               `json:"seconds"`
			Exit    int                   `json:"exit"`
		}{from.store.Drive(), to.store.Drive(), report, time.Since(began).Seconds(), exitCode(err)}})
	} else {
		for _, p := range report.Copied {
			a.print("copied: %s  %s  taken %s%s\n", short(p.ID), p.Machine.Name, stamp(p.TakenAt), partRemark(p))
		}
		a.printNotCopied(report.NotCopied)
		for _, h := range report.Hurt {
			for _, e := range h.Extents {
				a.print("damaged: point %s  %s  disk %s  %s at byte %d cannot be read\n", short(h.PointID), h.Machine, h.Disk, humanBytes(e.Length), e.Offset)
			}
		}
		a.print("%s\n", summary)
	}
	r.end(summary, err)
	return err
}

// printNotCopied names the points that stay behind, and why.
func (a *app) printNotCopied(points []imagestore.NotCopied) {
	for _, n := range points {
		a.print("not copied: %s  %s  %s\n", short(n.PointID), cmp.Or(n.Machine, "(its record cannot be read)"), n.Why)
	}
}

// copyRun copies, and lets the catalogue and the ledger know what the drive has
// then. cat is nil where nothing is remembered.
func (a *app) copyRun(ctx context.Context, r *run, cat *catalog.Catalog, from, to *openedDrive, ids []string) (imagestore.CopyReport, error) {
	if cat != nil {
		if err := a.sawDrive(ctx, cat, from); err != nil {
			return imagestore.CopyReport{}, err
		}
	}
	p := a.newProgress(r, "copy")
	report, err := to.store.Copy(ctx, from.store, ids, imagestore.CopyOptions{Progress: func(pr imagestore.Progress) { p.show(pr.DoneBytes, pr.TotalBytes) }})
	p.end()
	for _, point := range report.Copied {
		r.log(event{Event: "point", Machine: point.Machine.Name, Text: fmt.Sprintf("%s: copied point %s", point.Machine.Name, short(point.ID)), Result: point})
	}
	if len(report.Copied) > 0 {
		a.rememberPoints(context.WithoutCancel(ctx), to)
		a.enter(ctx, cat, custody.Entry{Act: custody.ActExported, Item: item(to.store.Drive()), Facts: map[string]string{
			"run": r.ID, "machines": strconv.Itoa(len(report.Copied)), "from": "drive " + custody.Clean(from.store.Drive().Label)}})
	}
	return report, err
}
