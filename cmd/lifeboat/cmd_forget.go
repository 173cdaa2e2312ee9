package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

type forgetFlags struct {
	drive       string
	lastCopy    []string
	policy      bool
	yes, dryRun bool
}

func (a *app) pointForgetCommand() *cobra.Command {
	var f forgetFlags
	c := &cobra.Command{
		Use: "forget POINT... | --policy | --dry-run", Short: "Take restore points off the list of a drive",
		Long: "Takes restore points off the list of a drive. Their blocks stay until: lifeboat prune.\n\n" +
			"With --policy the rules of site.yaml decide, as they do before every export; --dry-run alone\n" +
			"shows for each point of the drive whether it is kept or forgotten, and why.\n\n" +
			"By hand, a point is named by the beginning of its id, six digits or more. A point that is held\n" +
			"is refused. The last good copy of a machine goes only by hand, and only if the machine's name\n" +
			"is given with --last-copy: for a machine that is gone for good, or when data must be erased.",
		Example:           "  lifeboat point forget --dry-run --drive A\n  lifeboat point forget 3f2a91c0 77c0de12 --drive A",
		Annotations:       exits(exitNoDrive, exitHeld, exitPerson),
		ValidArgsFunction: a.completePointIDs,
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case f.policy && len(args) > 0:
				return usagef("--policy decides about all points of a drive: name none beside it")
			case len(args) > 0:
				return a.forget(c.Context(), args, f)
			case len(f.lastCopy) > 0:
				return usagef("--last-copy goes with the points that are to be forgotten, named by their ids")
			case f.policy || f.dryRun:
				return a.forgetByPolicy(c.Context(), f)
			}
			return usagef("%s takes one or more points, or --policy", commandName(c))
		},
	}
	c.Flags().BoolVar(&f.policy, "policy", false, "forget what the rules let go")
	c.Flags().StringArrayVar(&f.lastCopy, "last-copy", nil, "name of a machine of which the last good copy may go; may be given several times")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "show the plan and stop")
	a.driveFlag(c, &f.drive)
	return c
}

// forgetPlan is what a forget would do.
type forgetPlan struct {
	Drive    lifeboat.Drive   `json:"drive"`
	Forget   []forgetPoint    `json:"forget"`
	Machines []forgetMachines `json:"machines"`
}

type forgetPoint struct {
	ID      string    `json:"id"`
	Machine string    `json:"machine"`
	TakenAt time.Time `json:"takenAt"`
	// Parts are the other parts of the machine at that moment, on other drives:
	// without this point none of them can be used.
	Parts []lifeboat.Part `json:"otherParts,omitempty"`
}

// forgetMachines says what stays of a machine.
type forgetMachines struct {
	Machine string `json:"machine"`
	// Stay counts its points that stay on this drive.
	Stay int `json:"stay"`
	// Elsewhere are the points of it on other drives that were verified and count:
	// those drives are not lost, put aside or doubted.
	Elsewhere []catalog.Point `json:"elsewhere,omitempty"`
	// Last: no good copy of the machine would be left anywhere.
	Last bool `json:"last,omitempty"`
}

func (a *app) forget(ctx context.Context, names []string, f forgetFlags) error {
	mode := imagestore.Write
	if f.dryRun {
		mode = imagestore.Read
	}
	d, err := a.openDriveAlone(ctx, f.drive, mode)
	if err != nil {
		return err
	}
	defer d.Close()
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return err
	}
	var picked []lifeboat.RestorePoint
	for _, name := range names {
		if slices.ContainsFunc(points, func(p lifeboat.RestorePoint) bool { return p.Machine.Name == name }) {
			return machineNotPoint(d, name)
		}
		p, err := pickPoint(points, nil, name, d.found.Drive.Label)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(picked, func(q lifeboat.RestorePoint) bool { return q.ID == p.ID }) {
			picked = append(picked, p)
		}
	}
	if err := a.notBooted(d, picked); err != nil {
		return err
	}
	plan, err := a.planForget(ctx, d, points, picked)
	if err != nil {
		return err
	}
	if err := plan.allowed(d, f, names); err != nil {
		return err
	}
	if err := a.askForget(ctx, plan, f); err != nil || f.dryRun {
		return err
	}
	return a.forgetNow(ctx, d, points, picked, f, names)
}

// allowed refuses a plan by which the last good copy of a machine would go that
// nobody named.
func (p forgetPlan) allowed(d *openedDrive, f forgetFlags, names []string) error {
	for _, m := range p.Machines {
		if m.Last && !slices.Contains(f.lastCopy, m.Machine) {
			return lastCopyProblem(d, m, names)
		}
	}
	return nil
}

// machineNotPoint refuses a machine's name: elsewhere it means the newest point,
// which is hardly ever the one that may go.
func machineNotPoint(d *openedDrive, name string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%q is a machine, and only points can be forgotten, by the beginning of their ids", name),
		Safe: "nothing was forgotten",
		Next: fmt.Sprintf("see its points: lifeboat point list --drive %s --machine %s", shellWord(d.found.Drive.Label), shellWord(name)),
	}
}

// askForget shows the plan, and has a person agree to it where it is not only shown.
func (a *app) askForget(ctx context.Context, plan forgetPlan, f forgetFlags) error {
	if f.dryRun && a.json {
		a.printJSON(plan)
		return nil
	}
	if f.dryRun {
		a.print("%s", plan)
		return nil
	}
	word := "yes"
	for _, m := range plan.Machines {
		if m.Last {
			word = m.Machine // what is erased is typed
		}
	}
	return a.confirmWord(ctx, f.yes, plan.String(), word)
}

// forgetNow forgets what was agreed to. What the plan said may be true no longer:
// the person took their time, and another command forgot on another drive. So it
// is made anew, and nobody of this site forgets by hand between that and the end.
func (a *app) forgetNow(ctx context.Context, d *openedDrive, points, picked []lifeboat.RestorePoint, f forgetFlags, names []string) error {
	if a.hasState() {
		unlock, err := a.lockState()
		if err != nil {
			return err
		}
		defer unlock()
	}
	plan, err := a.planForget(ctx, d, points, picked)
	if err != nil {
		return err
	}
	if err := plan.allowed(d, f, names); err != nil {
		return err
	}
	var goes []pointVerdict
	for _, p := range plan.Forget {
		goes = append(goes, pointVerdict{Point: p.ID, Machine: p.Machine, TakenAt: p.TakenAt})
	}
	if err := a.forgetPoints(ctx, a.knownSite(ctx), d, goes, "by hand"); err != nil {
		return err
	}
	if a.json {
		a.printJSON(plan)
		return nil
	}
	a.print("%s: %s forgotten; their blocks are given back by: lifeboat prune %s\n", d.name(), count(len(goes), "point"), shellWord(d.found.Drive.Label))
	return nil
}

// notBooted refuses points that machines run from at this moment.
func (a *app) notBooted(d *openedDrive, picked []lifeboat.RestorePoint) error {
	booted, err := a.bootedRuns()
	if err != nil {
		return err
	}
	for _, b := range booted {
		for _, m := range b.Machines {
			if !m.Settled && slices.ContainsFunc(picked, func(p lifeboat.RestorePoint) bool { return b.readsPoint(m, d.store.Drive().ID, p.ID) }) {
				return &lifeboat.Problem{
					What: fmt.Sprintf("%s runs from point %s on %s (run %s)", m.Name, short(m.Point), d.name(), short(b.Run)),
					Safe: "nothing was forgotten; the machine goes on",
					Next: "move it to local disk: lifeboat boot --resume " + short(b.Run) + " --settle; or stop it: lifeboat stop",
					Err:  lifeboat.ErrDriveHeld,
				}
			}
		}
	}
	return nil
}

func (a *app) planForget(ctx context.Context, d *openedDrive, points, picked []lifeboat.RestorePoint) (forgetPlan, error) {
	plan := forgetPlan{Drive: d.store.Drive()}
	known, shelf, err := a.knownCopies(ctx, d)
	if err != nil {
		return plan, err
	}
	var ids []string
	for _, p := range picked {
		ids = append(ids, p.ID)
	}
	last := rotation.Loses(shelf, plan.Drive.ID, ids)
	seen := map[string]bool{}
	for _, p := range picked {
		plan.Forget = append(plan.Forget, forgetPoint{p.ID, p.Machine.Name, p.TakenAt, otherParts(p)})
		if i := slices.IndexFunc(known, func(k catalog.Point) bool { return a.holds(k) && isOf(k.PointID, p) }); i >= 0 {
			return plan, a.heldProblem(known[i])
		}
		if seen[p.Machine.ID] {
			continue
		}
		seen[p.Machine.ID] = true
		m := forgetMachines{Machine: p.Machine.Name, Last: slices.Contains(last, p.Machine.ID)}
		for _, q := range points {
			if q.Machine.ID == p.Machine.ID && !slices.Contains(ids, q.ID) {
				m.Stay++
			}
		}
		for _, k := range known {
			if k.MachineID == p.Machine.ID && k.DriveID != plan.Drive.ID && !k.WholeAt().IsZero() && counts(shelf, k.DriveID) {
				m.Elsewhere = append(m.Elsewhere, k)
			}
		}
		plan.Machines = append(plan.Machines, m)
	}
	return plan, nil
}

// isOf says that an id is that of a point, or of another part of it.
func isOf(id string, p lifeboat.RestorePoint) bool {
	return id == p.ID || slices.ContainsFunc(p.Together, func(part lifeboat.Part) bool { return part.PointID == id })
}

// knownCopies is what is known of all drives, this one as it is now. Without a
// site this drive is all there is.
func (a *app) knownCopies(ctx context.Context, d *openedDrive) ([]catalog.Point, rotation.Shelf, error) {
	if a.hasState() {
		cat, err := a.openCatalog(ctx)
		if err != nil {
			return nil, rotation.Shelf{}, err
		}
		defer cat.Close()
		if _, err := a.rememberPointsIn(ctx, cat, d); err != nil {
			return nil, rotation.Shelf{}, err
		}
		known, err := cat.Points(ctx, catalog.PointFilter{})
		if err != nil {
			return nil, rotation.Shelf{}, err
		}
		shelf, err := a.shelf(ctx, cat)
		return known, shelf, err
	}
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return nil, rotation.Shelf{}, err
	}
	checked, err := d.store.Checked(ctx)
	if err != nil {
		return nil, rotation.Shelf{}, err
	}
	only := rotation.ShelfDrive{Drive: d.store.Drive(), Attached: true}
	for _, p := range points {
		c := checked.Points[p.ID]
		only.Points = append(only.Points, rotation.ShelfPoint{ID: p.ID, MachineID: p.Machine.ID, RunID: p.RunID, Sequence: p.Sequence,
			TakenAt: p.TakenAt, CommittedAt: p.CommittedAt, VerifiedAt: later(c.VerifiedAt, c.ReadSince), Copied: p.CopiedFrom != ""})
	}
	return nil, rotation.Shelf{Drives: []rotation.ShelfDrive{only}}, nil
}

// counts says that what is on a drive may be relied on.
func counts(s rotation.Shelf, driveID string) bool {
	return slices.ContainsFunc(s.Drives, func(d rotation.ShelfDrive) bool { return d.ID == driveID && rotation.Uncounted(d) == "" })
}

// holds says that a point is held today.
func (a *app) holds(p catalog.Point) bool {
	return p.Held != "" && (p.HeldUntil.IsZero() || !a.now().After(p.HeldUntil))
}

func (a *app) heldProblem(p catalog.Point) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("point %s of %s is held %s: %s", short(p.PointID), p.MachineName, a.untilWords(p.HeldUntil), p.Held),
		Safe: "nothing was forgotten",
		Next: "ask who holds it (lifeboat point hold shows that); then: lifeboat point release " + short(p.PointID),
	}
}

// String is the plan as a person reads it.
func (p forgetPlan) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "drive %s forgets %s:\n", p.Drive.Label, count(len(p.Forget), "point"))
	for _, f := range p.Forget {
		fmt.Fprintf(&out, "  %s  %s  taken %s\n", short(f.ID), f.Machine, stamp(f.TakenAt))
		for _, part := range f.Parts {
			fmt.Fprintf(&out, "    it is a part: without it the one on drive %s is of no use; forget that too: lifeboat point forget %s --drive %s\n",
				oneLine(part.Label), short(part.PointID), shellWord(part.Label))
		}
	}
	for _, m := range p.Machines {
		fmt.Fprintf(&out, "of %s %s on this drive", m.Machine, stays(m.Stay))
		if len(m.Elsewhere) > 0 {
			newest := m.Elsewhere[len(m.Elsewhere)-1]
			fmt.Fprintf(&out, "; %s on other drives, the newest taken %s, verified %s", count(len(m.Elsewhere), "verified point"), stamp(newest.TakenAt), stamp(newest.VerifiedAt))
		}
		if m.Last {
			out.WriteString("; this is the last good copy that is known")
		}
		out.WriteString("\n")
	}
	return out.String()
}

func stays(n int) string {
	if n == 1 {
		return "1 point stays"
	}
	return fmt.Sprintf("%d points stay", n)
}

func lastCopyProblem(d *openedDrive, m forgetMachines, names []string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("this would forget the last copy of %s: what would stay of it was never verified, or nothing would stay", m.Machine),
		Safe: "nothing was forgotten",
		Next: "verify what stays, or export it first; or if it is not needed any more: lifeboat point forget " + strings.Join(names, " ") + " --last-copy " + shellWord(m.Machine),
	}
}

// rememberPoints makes the catalogue's memory of a drive equal to what is on it,
// and to when the drive says that it was read.
func (a *app) rememberPoints(ctx context.Context, d *openedDrive) {
	if !a.hasState() {
		return
	}
	err := func() error {
		cat, err := a.openCatalog(ctx)
		if err != nil {
			return err
		}
		defer cat.Close()
		_, err = a.rememberPointsIn(ctx, cat, d)
		return err
	}()
	if err != nil {
		a.warn("the catalogue does not know which points are on %s now: %v", d.name(), err)
	}
}

// rememberPointsIn is rememberPoints for an open catalogue; it returns the points.
func (a *app) rememberPointsIn(ctx context.Context, cat *catalog.Catalog, d *openedDrive) ([]lifeboat.RestorePoint, error) {
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.sawDrive(ctx, cat, d); err != nil {
		return nil, err
	}
	if err := cat.ReplacePoints(ctx, d.store.Drive().ID, points); err != nil {
		return nil, err
	}
	return points, learnReadings(ctx, cat, d)
}

func (a *app) completePointIDs(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	want, _ := c.Flags().GetString("drive")
	d, err := a.openDriveQuietly(c.Context(), want)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer d.Close()
	points, _, err := d.store.Points(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, p := range points {
		names = append(names, short(p.ID)+"\t"+p.Machine.Name+" "+stamp(p.TakenAt))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
