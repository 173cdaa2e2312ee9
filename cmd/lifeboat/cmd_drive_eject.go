package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/blockdev"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

type ejectFlags struct {
	noReadBack, dryRun bool
}

func (a *app) driveEjectCommand() *cobra.Command {
	var f ejectFlags
	c := &cobra.Command{
		Use: "eject [LABEL]", Short: "Read back what was written, unmount a drive, and say when it is safe to unplug",
		Long: "Reads what was written to the drive and never read back, leaves the ledger and the catalogue's\n" +
			"extract on it, writes everything out, unmounts it and powers it down where that is possible. Only\n" +
			"when all of that is done it says that the drive is safe to unplug, and who takes it. A drive on\n" +
			"which damage is found stays mounted and is not for deposit.",
		Example:     "  lifeboat drive eject A\n  lifeboat drive eject A --json",
		Annotations: exits(exitNoDrive, exitHeld, exitDamage, exitStopped), Args: oneArgAtMost("the label or path of a drive"),
		ValidArgsFunction: a.completeDrives,
		RunE: func(c *cobra.Command, args []string) error {
			want := ""
			if len(args) == 1 {
				want = args[0]
			}
			if f.dryRun {
				return a.ejectPlan(c.Context(), want)
			}
			_, err := a.driveEject(c.Context(), want, f)
			return err
		},
	}
	c.Flags().BoolVar(&f.noReadBack, "no-read-back", false, "do not read back what was written; the ledger says so")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be read and unmounted")
	return c
}

// ejectReport is what became of a drive that was ejected.
type ejectReport struct {
	Drive lifeboat.Drive `json:"drive"`
	// ReadBack: everything that was written was read from the medium and is good.
	ReadBack  bool  `json:"readBack"`
	ReadBytes int64 `json:"readBytes"`
	// NotReadBack says why not.
	NotReadBack string `json:"notReadBack,omitempty"`
	// Safe to unplug. A folder has nothing to unplug: Note says so.
	Safe     bool              `json:"safe"`
	Note     string            `json:"note,omitempty"`
	Hardware *blockdev.Ejected `json:"hardware,omitempty"`
	Health   *blockdev.Health  `json:"health,omitempty"`
	// GiveTo takes it to Location, if the rotation says so.
	GiveTo   string `json:"giveTo,omitempty"`
	Location string `json:"location,omitempty"`
	// Stays: the drive is not to leave the house yet, because First comes before.
	Stays bool   `json:"stays,omitempty"`
	First string `json:"first,omitempty"`
}

func (a *app) driveEject(ctx context.Context, want string, f ejectFlags) (ejectReport, error) {
	d, err := a.openDrive(ctx, want, imagestore.Write)
	if err != nil {
		return ejectReport{}, err
	}
	if err := a.refuseStanding(d.found); err != nil {
		d.Close()
		return ejectReport{}, err
	}
	r, err := a.beginRun("eject", os.Args[1:])
	if err != nil {
		d.Close()
		return ejectReport{}, err
	}
	report, err := a.ejectOpened(ctx, r, d, f)
	summary := report.words()
	if err != nil {
		summary = fmt.Sprintf("drive %s was not ejected", report.Drive.Label)
	}
	a.showEject(report, err)
	r.end(summary, err)
	return report, err
}

// ejectOpened takes a drive that is open for writing to where it may be unplugged.
// It closes the drive, whatever happens.
func (a *app) ejectOpened(ctx context.Context, r *run, d *openedDrive, f ejectFlags) (report ejectReport, err error) {
	report.Drive = d.store.Drive()
	cat, err := a.beforeEject(ctx, r, d, f, &report)
	if cat != nil {
		defer cat.Close()
	}
	at := d.found.Path
	if cerr := d.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close %s: %w", d.name(), cerr)
	}
	if errors.Is(err, lifeboat.ErrWrongDrive) {
		return report, a.letGoOfWrong(ctx, at, &report, err)
	}
	if err != nil {
		return report, err
	}
	if err := a.letGo(ctx, at, &report); err != nil {
		return report, err
	}
	a.afterEject(ctx, r, cat, &report)
	return report, nil
}

// beforeEject does what needs the drive: its arrival, if it was not used since,
// the reading back, and what it carries away.
func (a *app) beforeEject(ctx context.Context, r *run, d *openedDrive, f ejectFlags, report *ejectReport) (*catalog.Catalog, error) {
	cat, err := a.recallDrive(ctx, d, false)
	if err == nil && cat != nil {
		err = a.arrived(ctx, cat, d)
	}
	if err != nil {
		return cat, err
	}
	if f.noReadBack {
		report.NotReadBack = "it was not asked for"
	} else if err := a.readBack(ctx, r, cat, d, report); err != nil {
		return cat, err
	}
	if cat == nil {
		return nil, nil
	}
	a.leaveOn(ctx, cat, d)
	return cat, a.sawDrive(ctx, cat, d)
}

// readBack reads what was written and never read, and remembers what that showed.
func (a *app) readBack(ctx context.Context, r *run, cat *catalog.Catalog, d *openedDrive, report *ejectReport) error {
	p := a.newProgress(r, "read back")
	var last imagestore.Progress
	read, err := d.store.Verify(ctx, imagestore.VerifyOptions{Unread: true, Progress: func(pr imagestore.Progress) {
		last = pr
		p.show(pr.DoneBytes, pr.TotalBytes)
	}})
	p.end()
	report.ReadBytes = read.ReadBytes
	switch {
	case errors.Is(err, lifeboat.ErrDamaged):
		a.rememberReading(ctx, d, r.ID, read)
		return a.ejectDamage(d, read, err)
	case err != nil && ctx.Err() != nil:
		return &lifeboat.Problem{
			What: fmt.Sprintf("stopped after %d %% of reading %s back", 100*last.DoneBytes/max(last.TotalBytes, 1), d.name()),
			Safe: "the drive is mounted as before, and nothing was called read back; do not unplug it yet",
			Next: "run the same command again",
			Err:  context.Cause(ctx),
		}
	case err != nil:
		return err
	}
	disk, derr := blockdev.OfMount(d.found.Path)
	if derr == nil && disk.Transport != "loop" && !disk.System() {
		health := blockdev.CheckHealth(ctx, disk)
		report.Health = &health
		if health.Verdict == blockdev.HealthFailing {
			a.warn("%s: %s; replace it soon", d.name(), health.Why)
		}
	}
	a.compareSpeed(ctx, cat, d, read, report)
	if read.FromMemory != "" {
		report.NotReadBack = read.FromMemory
		return nil
	}
	a.rememberReading(ctx, d, r.ID, read)
	report.ReadBack = true
	a.enter(ctx, cat, custody.Entry{Act: custody.ActReadBack, Item: item(report.Drive), Facts: map[string]string{"run": r.ID, "bytes": fmt.Sprint(read.ReadBytes)}})
	return nil
}

// ejectDamage says that a drive must not go to the bank.
func (a *app) ejectDamage(d *openedDrive, read imagestore.VerifyReport, err error) error {
	damage := a.damageProblem(d, read, err)
	var p *lifeboat.Problem
	if errors.As(damage, &p) {
		p.Safe = "it is mounted as before and was not ejected; do not take it away as a good copy: " + p.Safe
	}
	return damage
}

// compareSpeed remembers how fast the drive reads, and says when that fell.
func (a *app) compareSpeed(ctx context.Context, cat *catalog.Catalog, d *openedDrive, read imagestore.VerifyReport, report *ejectReport) {
	if cat == nil {
		return
	}
	speed := int64(0)
	const enough = 256 << 20 // less says more of the start than of the drive
	if read.ReadBytes >= enough {
		speed = read.BytesPerSecond
	}
	facts, err := cat.Facts(ctx, report.Drive.ID)
	if err == nil {
		if before, slow := slower(facts, speed); slow {
			a.warn("%s reads at %s/s, and read at %s/s before: look at its cable and port, and plan to replace it", d.name(), humanBytes(speed), humanBytes(before))
		}
	}
	a.noteHardware(ctx, cat, d, hardwareFacts{readSpeed: speed, health: report.Health})
}

// letGo unmounts the drive and powers it down. One that is a folder, a share or
// on the disk of this system is only closed.
func (a *app) letGo(ctx context.Context, at string, report *ejectReport) error {
	m, err := blockdev.MountOf(at)
	if err != nil {
		return err
	}
	disk, err := blockdev.OfMount(at)
	if m.Point != at || err != nil || disk.System() {
		report.Note = fmt.Sprintf("%s is a folder here, not a disk of its own: nothing was unmounted", at)
		return nil
	}
	done, err := blockdev.Eject(disk, partUnder(disk, at))
	if err != nil {
		var p *lifeboat.Problem
		if errors.As(err, &p) {
			return err
		}
		return &lifeboat.Problem{
			What: fmt.Sprintf("drive %s could not be unmounted: %v", report.Drive.Label, err),
			Safe: "its restore points are whole; do not unplug it yet",
			Next: "end what uses it and run the command again; or unmount it by hand: umount " + shellWord(at), Err: err,
		}
	}
	report.Hardware, report.Safe = &done, len(done.StillUsed) == 0
	if !report.Safe {
		report.Note = "its part is unmounted, but do not unplug the disk: " + list(done.StillUsed)
	}
	return nil
}

// partUnder is the part of a disk that is mounted at a path.
func partUnder(disk blockdev.Device, at string) string {
	for _, u := range disk.Uses {
		if u.Kind == blockdev.UsedMounted && u.By == at {
			return u.Part
		}
	}
	return disk.Path
}

// refuseStanding refuses to let go of the standing store: every export writes it.
func (a *app) refuseStanding(found rotation.Found) error {
	policy, err := a.policy()
	if err != nil || policy.Standing == "" || !sameMedium(found.Path, policy.Standing) {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("drive %s at %s is the standing store of the rotation, which stays", orNothing(found.Drive.Label), found.Path),
		Safe: "nothing was unmounted",
		Next: "name the drive that goes away; see them: lifeboat drive list", Err: lifeboat.ErrWrongDrive,
	}
}

// letGoOfWrong unmounts a drive that is not what is remembered of it, or a copy of
// another: it may be unplugged, and that is all.
func (a *app) letGoOfWrong(ctx context.Context, at string, report *ejectReport, why error) error {
	if err := a.letGo(ctx, at, report); err != nil || !report.Safe {
		return errors.Join(why, err)
	}
	p := problemOf(why)
	return &lifeboat.Problem{What: p.What, Safe: p.Safe + "; it is unmounted and may be unplugged, and is no good copy to take away", Next: p.Next, Err: why}
}

// afterEject tells the ledger, and asks the rotation who takes the drive.
func (a *app) afterEject(ctx context.Context, r *run, cat *catalog.Catalog, report *ejectReport) {
	if cat == nil {
		return
	}
	facts := map[string]string{"run": r.ID, "readBack": "yes"}
	e := custody.Entry{Act: custody.ActEjected, Item: item(report.Drive)}
	if !report.ReadBack {
		facts["readBack"], e.Note = "no", custody.Clean("not read back: "+report.NotReadBack)
	}
	if !report.Safe {
		facts["unmounted"] = "no"
	}
	e.Facts = facts
	j, err := a.decide(ctx, cat)
	if err == nil {
		for _, s := range j.decision.Steps {
			if s.Kind == rotation.StepEject && s.DriveID == report.Drive.ID && s.Done == nil {
				e.Step = s.ID
			}
		}
	}
	a.enter(ctx, cat, e)
	// The entry itself ticks a step, so the rotation is asked again.
	if j, err = a.decide(ctx, cat); err != nil {
		a.warn("who takes the drive is not known: %v", err)
		return
	}
	report.goesTo(j.decision.Steps)
}

// goesTo takes over who takes the drive and where to, or what comes first: a drive
// that the checklist does not let out yet is given to nobody.
func (r *ejectReport) goesTo(steps []rotation.Step) {
	first := ""
	for _, s := range steps {
		if s.DriveID != r.Drive.ID || s.Done != nil || s.Kind == rotation.StepAttach {
			continue
		}
		if s.Kind != rotation.StepDepart && s.Kind != rotation.StepDeposit {
			if first == "" {
				first = doing(s)
			}
			continue
		}
		if first != "" {
			r.Stays, r.First = true, first
			return
		}
		r.GiveTo, r.Location = s.Person, s.Location
	}
}

// words are the one line that a person needs.
func (r ejectReport) words() string {
	if !r.Safe {
		return fmt.Sprintf("drive %s is closed; %s", r.Drive.Label, r.Note)
	}
	text := fmt.Sprintf("safe to unplug drive %s", r.Drive.Label)
	switch {
	case r.Stays:
		text += fmt.Sprintf("; it does not leave the house yet. First: attach it again, and %s", r.First)
	case r.GiveTo != "" && r.Location != "":
		text += fmt.Sprintf("; give it to %s, for %s", r.GiveTo, r.Location)
	case r.GiveTo != "":
		text += "; give it to " + r.GiveTo
	case r.Location != "":
		text += "; it goes to " + r.Location
	}
	return text
}

func (a *app) showEject(r ejectReport, err error) {
	if a.json {
		a.printJSON(event{Event: "result", Time: a.now().UTC(), Result: struct {
			ejectReport
			Exit int `json:"exit"`
		}{r, exitCode(err)}})
		return
	}
	if err != nil {
		return
	}
	if r.ReadBack {
		a.print("drive %s: %s read back, every block as it was written\n", r.Drive.Label, humanBytes(r.ReadBytes))
	} else {
		a.warn("drive %s was not read back: %s", r.Drive.Label, r.NotReadBack)
	}
	if r.Hardware != nil && len(r.Hardware.Others) > 0 {
		a.note("unmounted as well, though Lifeboat had not mounted it: %s", strings.Join(r.Hardware.Others, ", "))
	}
	if r.Hardware != nil && r.Safe && !r.Hardware.PoweredDown && r.Hardware.Note != "" {
		a.note("it is unmounted, and not powered down: %s", r.Hardware.Note)
	}
	a.print("%s\n", r.words())
}

// ejectPlan says what an eject would do.
func (a *app) ejectPlan(ctx context.Context, want string) error {
	found, err := a.findDrive(ctx, want)
	if err == nil {
		err = a.refuseStanding(found)
	}
	if err != nil {
		return err
	}
	plan := struct {
		Drive   lifeboat.Drive `json:"drive"`
		Unmount []string       `json:"unmount"`
		// Busy are processes that keep it from being unmounted.
		Busy []string `json:"busy,omitempty"`
	}{Drive: found.Drive, Busy: blockdev.Busy(found.Path)}
	if disk, err := blockdev.OfMount(found.Path); err == nil && !disk.System() {
		plan.Unmount = blockdev.EjectUnmounts(disk, partUnder(disk, found.Path))
	}
	if a.json {
		a.printJSON(plan)
		return nil
	}
	a.print("would read back what was written to drive %s, and unmount: %s\n", found.Drive.Label, orNothing(list(plan.Unmount)))
	if len(plan.Busy) > 0 {
		a.print("in use by: %s\n", list(plan.Busy))
	}
	return nil
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}
