package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
)

func (a *app) verifyCommand() *cobra.Command {
	var drive string
	var detach bool
	var points []string
	c := &cobra.Command{
		Use: "verify", Short: "Read every byte of a drive back from the medium, and check it", GroupID: "keep",
		Long: "Reads every block of every restore point from the drive itself, past the computer's memory,\n" +
			"and checks it against what was written. Damage is listed by machine, disk and byte range.",
		Example:     "  lifeboat verify --drive A\n  lifeboat verify --json --detach",
		Annotations: exits(exitNoDrive, exitDamage, exitStopped), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if detach {
				return a.startDetached("verify")
			}
			return a.verify(c.Context(), drive, points)
		},
	}
	c.Flags().StringArrayVar(&points, "point", nil, "only this point or machine; may be given several times")
	c.Flags().BoolVar(&detach, "detach", false, "go on without this terminal; follow with: lifeboat run attach")
	a.driveFlag(c, &drive)
	return c
}

func (a *app) verify(ctx context.Context, want string, names []string) error {
	d, err := a.openDrive(ctx, want, imagestore.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	picked, err := verifyPoints(ctx, d, names)
	if err != nil {
		return err
	}
	// A point that is committed from now on is not among those that are read.
	listed, err := verifiedBy(ctx, d, picked)
	if err != nil {
		return err
	}
	r, err := a.beginRun("verify", os.Args[1:])
	if err != nil {
		return err
	}
	began := time.Now()
	p := a.newProgress(r, "verify")
	report, err := d.store.Verify(ctx, imagestore.VerifyOptions{Points: picked, Progress: func(pr imagestore.Progress) { p.show(pr.DoneBytes, pr.TotalBytes) }})
	p.end()
	seconds := time.Since(began).Seconds()
	if errors.Is(err, lifeboat.ErrDamaged) {
		err = a.damageProblem(d, report, err)
	}
	if report.FromMemory != "" {
		listed = nil // nothing of it is proven
		a.warn("this verification proves nothing about the medium: %s; verify as root, or on the computer that has the drive", report.FromMemory)
	}
	if err == nil || errors.Is(err, lifeboat.ErrDamaged) {
		a.rememberVerified(ctx, d, listed, report.Hurt)
	}
	summary := fmt.Sprintf("drive %s: %s, %s read at %s/s", d.found.Drive.Label, count(report.Points, "point"), humanBytes(report.ReadBytes),
		humanBytes(int64(float64(report.ReadBytes)/max(seconds, 0.001))))
	a.showVerify(r, d, report, summary, seconds, err)
	r.end(summary, err)
	return err
}

// verifyPoints turns names into ids; none means everything on the drive.
func verifyPoints(ctx context.Context, d *openedDrive, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return nil, err
	}
	picked, err := pickPoints(points, names, false, d.name())
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, p := range picked {
		ids = append(ids, p.ID)
	}
	return ids, nil
}

// verifiedBy returns the points that a verification which begins now reads: the
// picked ones, or all that are there.
func verifiedBy(ctx context.Context, d *openedDrive, picked []string) ([]string, error) {
	if len(picked) > 0 {
		return picked, nil
	}
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, p := range points {
		ids = append(ids, p.ID)
	}
	return ids, nil
}

// rememberVerified notes in the catalogue which of the points that were read are
// whole, and takes it back of those that are hurt.
func (a *app) rememberVerified(ctx context.Context, d *openedDrive, ids []string, hurt []imagestore.Hurt) {
	if !a.hasState() {
		return
	}
	cat, err := a.openCatalog(ctx)
	if err != nil {
		a.warn("the catalogue does not learn of this verification: %v", err)
		return
	}
	defer cat.Close()
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return
	}
	if err := a.sawDrive(ctx, cat, d); err != nil {
		a.warn("%v", err)
		return
	}
	if err := cat.ReplacePoints(ctx, d.store.Drive().ID, points); err != nil {
		a.warn("the catalogue does not learn of this verification: %v", err)
		return
	}
	whole, bad := verdicts(ids, points, hurt)
	if err := errors.Join(cat.MarkVerified(ctx, d.store.Drive().ID, whole, time.Now()), cat.RevokeVerified(ctx, d.store.Drive().ID, bad)); err != nil {
		a.warn("the catalogue does not learn of this verification: %v", err)
	}
}

// verdicts tells the points that were read whole from those that are hurt. One
// that is not on the drive any more is neither.
func verdicts(read []string, there []lifeboat.RestorePoint, hurt []imagestore.Hurt) (whole, bad []string) {
	isHurt := map[string]bool{}
	for _, h := range hurt {
		isHurt[h.PointID] = true
	}
	for _, p := range there {
		switch {
		case isHurt[p.ID]:
			bad = append(bad, p.ID)
		case slices.Contains(read, p.ID):
			whole = append(whole, p.ID)
		}
	}
	return whole, bad
}

// damageProblem says what of which machines is hurt.
func (a *app) damageProblem(d *openedDrive, report imagestore.VerifyReport, err error) error {
	what := fmt.Sprintf("%s is damaged in %s; no restore point is hurt", d.name(), count(len(report.Faults), "place"))
	safe := "every restore point can be restored whole"
	if len(report.Hurt) > 0 {
		h := report.Hurt[0]
		what = fmt.Sprintf("%s is damaged: %s, disk %s, point %s in %s", d.name(), h.Machine, h.Disk, short(h.PointID), count(len(h.Extents), "place"))
		if more := len(report.Hurt) - 1; more > 0 {
			what += fmt.Sprintf(", and %s of points", count(more, "more disk"))
		}
		safe = "all other points of the drive were read whole; the damaged blocks are never given out as good"
	}
	return &lifeboat.Problem{What: what, Safe: safe,
		Next: "export the machine to this drive again: blocks that are damaged are written anew", Err: err}
}

func (a *app) showVerify(r *run, d *openedDrive, report imagestore.VerifyReport, summary string, seconds float64, err error) {
	if a.json {
		a.printJSON(event{Event: "result", Time: time.Now().UTC(), Run: r.ID, Result: struct {
			Drive   lifeboat.Drive          `json:"drive"`
			Report  imagestore.VerifyReport `json:"report"`
			Seconds float64                 `json:"seconds"`
			Exit    int                     `json:"exit"`
		}{d.store.Drive(), report, seconds, exitCode(err)}})
		return
	}
	if err == nil && report.FromMemory != "" {
		a.print("%s: what was read is as it was written, but it may not have come from the drive\n", summary)
		return
	}
	if err == nil {
		a.print("%s: every block was read back and is as it was written\n", summary)
		return
	}
	for _, h := range report.Hurt {
		for _, e := range h.Extents {
			a.print("hurt: point %s  %s  disk %s  %s at byte %d\n", short(h.PointID), h.Machine, h.Disk, humanBytes(e.Length), e.Offset)
		}
	}
	for _, f := range report.Faults {
		a.print("fault: %s: %s\n", f.File, f.Why)
	}
}
