package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
)

// verifyFlags are the answers that `verify` takes.
type verifyFlags struct {
	drive   string
	points  []string
	sample  string
	unread  bool
	restart bool
	detach  bool
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use: "verify [DRIVE]", Short: "Read every byte of a drive back from the medium, and check it", GroupID: "keep",
		Long: "Reads every block of every restore point from the drive itself, past the computer's memory,\n" +
			"and checks it against what was written. Damage is listed by machine, disk and byte range.\n\n" +
			"A verification that was interrupted goes on where it was, for a week. --sample reads a part:\n" +
			"what was read longest ago, so that 5% every night has read everything after twenty nights.\n" +
			"--unread reads back what was written since and never read, as an eject does.\n" +
			"The drive itself remembers what was read when; lifeboat drive show tells it.",
		Example:     "  lifeboat verify A\n  lifeboat verify A --sample 5%",
		Annotations: exits(exitNoDrive, exitDamage, exitStopped), Args: oneArgAtMost("the label or path of a drive"),
		ValidArgsFunction: a.completeDrives,
		RunE: func(c *cobra.Command, args []string) error {
			o, err := f.options(args)
			if err != nil {
				return err
			}
			if f.detach {
				return a.startDetached("verify")
			}
			return a.verify(c.Context(), f, o)
		},
	}
	c.Flags().StringArrayVar(&f.points, "point", nil, "only this point or machine; may be given several times")
	c.Flags().StringVar(&f.sample, "sample", "", "read only this share of the drive, for example 5%: what was read longest ago")
	c.Flags().BoolVar(&f.unread, "unread", false, "read only what was never read back: what was written since the last verification")
	c.Flags().BoolVar(&f.restart, "restart", false, "begin anew instead of going on with a verification that was interrupted")
	c.Flags().BoolVar(&f.detach, "detach", false, "go on without this terminal; follow with: lifeboat run attach")
	c.RegisterFlagCompletionFunc("sample", cobra.FixedCompletions([]string{"5%", "10%", "25%"}, cobra.ShellCompDirectiveNoFileComp))
	a.driveFlag(c, &f.drive)
	return c
}

// options finds what contradicts itself, and turns the rest into the store's.
func (f *verifyFlags) options(args []string) (o imagestore.VerifyOptions, err error) {
	if len(args) == 1 && f.drive != "" {
		return o, usagef("the drive is named twice: %s and --drive %s", args[0], f.drive)
	}
	if len(args) == 1 {
		f.drive = args[0]
	}
	if f.sample != "" && len(f.points) > 0 {
		return o, usagef("--sample and --point exclude each other")
	}
	if f.sample != "" && f.restart {
		return o, usagef("--restart goes without --sample: a sample always reads what was read longest ago")
	}
	if f.unread && (f.sample != "" || len(f.points) > 0 || f.restart) {
		return o, usagef("--unread goes without --sample, --point and --restart")
	}
	if f.sample != "" {
		if o.Sample, err = parseShare(f.sample); err != nil {
			return o, err
		}
	}
	o.Resume, o.Unread = !f.restart, f.unread
	return o, nil
}

// parseShare reads a share such as 5% or 0.5 %.
func parseShare(text string) (float64, error) {
	number, ok := strings.CutSuffix(strings.TrimSpace(text), "%")
	percent, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(percent > 0 && percent <= 100) {
		return 0, usagef("--sample takes a share such as 5%%, more than 0%% and at most 100%%, not %q", text)
	}
	return percent / 100, nil
}

func (a *app) verify(ctx context.Context, f verifyFlags, o imagestore.VerifyOptions) error {
	d, err := a.openDrive(ctx, f.drive, imagestore.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	if o.Points, err = verifyPoints(ctx, d, f.points); err != nil {
		return err
	}
	r, err := a.beginRun("verify", os.Args[1:])
	if err != nil {
		return err
	}
	began := time.Now()
	p := a.newProgress(r, "verify")
	o.Planned = func(plan imagestore.VerifyPlan) { a.sayResumed(p, plan) }
	var last imagestore.Progress
	o.Progress = func(pr imagestore.Progress) {
		last = pr
		p.show(pr.DoneBytes, pr.TotalBytes)
	}
	report, err := d.store.Verify(ctx, o)
	p.end()
	seconds := time.Since(began).Seconds()
	switch {
	case errors.Is(err, lifeboat.ErrDamaged):
		err = a.damageProblem(d, report, err)
	case err != nil && ctx.Err() != nil:
		err = stoppedVerify(ctx, d, report, last)
	}
	if report.FromMemory != "" {
		a.warn("this verification proves nothing about the medium: %s; verify as root, or on the computer that has the drive", report.FromMemory)
	}
	if err == nil || errors.Is(err, lifeboat.ErrDamaged) {
		a.rememberReading(ctx, d, r.ID, report)
		if report.Slow != "" {
			a.warn("%s: %s", d.name(), report.Slow)
		}
	}
	if report.NotRecorded != "" && report.FromMemory == "" {
		a.warn("%s does not remember this verification: %s", d.name(), report.NotRecorded)
	}
	summary := fmt.Sprintf("drive %s: %s, %s read at %s/s", d.found.Drive.Label, count(report.Points, "point"), humanBytes(report.ReadBytes),
		humanBytes(int64(float64(report.ReadBytes)/max(seconds, 0.001))))
	a.showVerify(r, d, report, summary, seconds, err)
	r.end(summary, err)
	return err
}

// sayResumed says that an interrupted verification goes on.
func (a *app) sayResumed(p *progress, plan imagestore.VerifyPlan) {
	if plan.ResumedBytes == 0 {
		return
	}
	p.from(plan.ResumedBytes)
	text := fmt.Sprintf("goes on from %d %%: the verification of %s was interrupted; --restart begins anew",
		100*plan.ResumedBytes/max(plan.TotalBytes, 1), stamp(plan.ResumedFrom))
	p.run.log(event{Event: "resumed", Text: text, Result: plan})
	if a.json {
		a.printJSON(event{Event: "resumed", Time: a.now().UTC(), Run: p.run.ID, Text: text, Result: plan})
		return
	}
	a.note("%s", text)
}

// stoppedVerify says what is kept of a verification that was stopped, and what
// it found by then.
func stoppedVerify(ctx context.Context, d *openedDrive, report imagestore.VerifyReport, last imagestore.Progress) error {
	p := &lifeboat.Problem{
		What: fmt.Sprintf("stopped after %d %% of %s", 100*last.DoneBytes/max(last.TotalBytes, 1), d.name()),
		Safe: "every restore point is as it was; what was read whole by then counts, and nothing else is called verified",
		Next: "run the same command again: it goes on where it was",
		Err:  context.Cause(ctx),
	}
	if len(report.Faults) > 0 {
		p.What += fmt.Sprintf("; damage was found in %s", count(len(report.Faults), "place"))
	}
	if report.NotRecorded != "" {
		p.Safe, p.Next = "every restore point is as it was; nothing was changed on the drive", "run the same command again: it begins anew"
	}
	return p
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
	picked, err := pickPoints(points, names, false, d.found.Drive.Label)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, p := range picked {
		ids = append(ids, p.ID)
	}
	return ids, nil
}

// rememberReading notes in the catalogue what was read when, and takes it back
// of points that are hurt.
func (a *app) rememberReading(ctx context.Context, d *openedDrive, runID string, report imagestore.VerifyReport) {
	if !a.hasState() {
		return
	}
	err := a.rememberReadingIn(ctx, d, runID, report)
	if err != nil {
		a.warn("the catalogue does not learn of this verification: %v", err)
	}
}

func (a *app) rememberReadingIn(ctx context.Context, d *openedDrive, runID string, report imagestore.VerifyReport) error {
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	points, err := a.rememberPointsIn(ctx, cat, d)
	if err != nil {
		return err
	}
	reading := readingOf(report, points)
	reading.RunID, reading.FoundAt = runID, a.now()
	if err := cat.RecordReading(ctx, d.store.Drive().ID, reading); err != nil {
		return err
	}
	doubted, err := cat.DoubtedAt(ctx, d.store.Drive().ID)
	if err != nil {
		return err
	}
	if began := report.VerifiedAt; !began.IsZero() && !began.After(doubted) {
		a.warn("%s does not count as verified: this verification began %s, and damage was met on the drive %s; begin anew with: lifeboat verify --restart %s",
			d.name(), stamp(began), stamp(doubted), shellWord(d.found.Drive.Label))
	}
	a.enterReading(ctx, cat, d, report)
	return nil
}

// readingOf tells the points that were read whole from those that are hurt. One
// that is not on the drive any more is neither.
func readingOf(report imagestore.VerifyReport, there []lifeboat.RestorePoint) catalog.Reading {
	r := catalog.Reading{BytesPerSecond: report.BytesPerSecond, VerifiedAt: report.VerifiedAt, Damaged: report.Lost()}
	hurt := map[string]bool{}
	for _, h := range report.Hurt {
		hurt[h.PointID] = true
	}
	checked := map[string]imagestore.CheckedPoint{}
	for _, c := range report.Checked {
		checked[c.PointID] = c
	}
	for _, p := range there {
		c, ok := checked[p.ID]
		switch {
		case hurt[p.ID]:
			r.Hurt = append(r.Hurt, p.ID)
		case ok:
			r.Points = append(r.Points, catalog.PointReading{PointID: p.ID, VerifiedAt: c.VerifiedAt, ReadSince: c.ReadSince})
		}
	}
	return r
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
		if report.Sample > 0 || report.Unread {
			safe = "the damaged blocks are never given out as good; a whole verification says what else is hurt"
		}
	}
	return &lifeboat.Problem{What: what, Safe: safe,
		Next: "attach another drive of this site if there is one, and run: lifeboat repair " + shellWord(d.found.Drive.Label), Err: err}
}

func (a *app) showVerify(r *run, d *openedDrive, report imagestore.VerifyReport, summary string, seconds float64, err error) {
	if a.json {
		a.printJSON(event{Event: "result", Time: a.now().UTC(), Run: r.ID, Result: struct {
			Drive   lifeboat.Drive          `json:"drive"`
			Report  imagestore.VerifyReport `json:"report"`
			Seconds float64                 `json:"seconds"`
			Exit    int                     `json:"exit"`
		}{d.store.Drive(), report, seconds, exitCode(err)}})
		return
	}
	switch {
	case err == nil && report.FromMemory != "":
		a.print("%s: what was read is as it was written, but it may not have come from the drive\n", summary)
		return
	case err == nil && (report.Sample > 0 || report.Unread):
		a.print("%s: every block that was read is as it was written\n%s\n", summary, coverageWords(a.now(), report.Coverage))
		return
	case err == nil:
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
