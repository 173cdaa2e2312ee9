package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/blockdev"
	"lifeboat/catalog"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// attendFlags are the answers that `rotate attend` takes.
type attendFlags struct {
	device, console, page string
	wait                  bool
}

func (a *app) rotateAttendCommand() *cobra.Command {
	var f attendFlags
	c := &cobra.Command{
		Use: "attend [--device DEVICE | --wait]", Short: "Do what is due with a drive that was plugged in, and say when to unplug it",
		Long: "For the person who plugs a drive in and has no login. It mounts a drive that the catalogue knows,\n" +
			"opens it with this computer's identity, runs the steps of the checklist that the program can do\n" +
			"(export, verify, eject with reading back) and writes in big letters to a console and on a page\n" +
			"what it does, and who takes the drive. A disk that is not a known drive is not touched.\n\n" +
			"lifeboat rotate install-unit has the system run it by itself whenever a disk is plugged in.",
		Example:     "  lifeboat rotate attend --device /dev/sdb\n  lifeboat rotate attend --wait --console /dev/tty1",
		Annotations: exits(exitPartial, exitNoDrive, exitHeld, exitDamage, exitStopped), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if (f.device == "") == !f.wait {
				return usagef("say which disk was plugged in, --device DEVICE, or that it should --wait for any")
			}
			return a.attend(c.Context(), f)
		},
	}
	c.Flags().StringVar(&f.device, "device", "", "the disk that was plugged in, or a part of it")
	c.Flags().BoolVar(&f.wait, "wait", false, "wait for disks that are plugged in, until stopped")
	c.Flags().StringVar(&f.console, "console", "/dev/tty1", "write the big letters there")
	c.Flags().StringVar(&f.page, "page", "", "write the page there (default "+attendPage+" for root, else STATE/page/index.html)")
	c.RegisterFlagCompletionFunc("device", completeDisks)
	return c
}

func (a *app) attend(ctx context.Context, f attendFlags) error {
	if _, err := a.loadSite(); err != nil {
		return err
	}
	if f.page == "" {
		f.page = a.defaultPage()
	}
	board := a.newBoard(f)
	if !f.wait {
		return a.attendDevice(ctx, board, f.device)
	}
	return a.attendAll(ctx, board)
}

// attendPage is outside of the state folder, which others may not look into, and
// in memory: nothing of it outlives the computer's run.
const attendPage = "/run/lifeboat-page/index.html"

func (a *app) defaultPage() string {
	if os.Geteuid() == 0 {
		return attendPage
	}
	return filepath.Join(a.stateDir, "page", "index.html")
}

// attendAll attends to one disk after another as they are plugged in. What goes
// wrong with one is on the board, and the next is waited for.
func (a *app) attendAll(ctx context.Context, board *board) error {
	events, err := blockdev.Watch(ctx)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	before, err := blockdev.List()
	if err != nil {
		return err
	}
	for _, d := range before {
		seen[d.Path] = true
	}
	board.say(boardIdle, "Plug in a drive.") // after the look: what comes from now on is attended to
	for e := range events {
		// To look at a disk mounts it for a moment, which is an event as well.
		if e.Kind == blockdev.EventMounts {
			continue
		}
		now, err := blockdev.List()
		if err != nil {
			return err
		}
		there := map[string]bool{}
		for _, d := range now {
			there[d.Path] = true
			// A disk that is being laid out or unlocked has nothing on it yet; the next event tells.
			if seen[d.Path] || !tellsOf(e, d) || len(drivesOn(ctx, d)) == 0 {
				continue
			}
			seen[d.Path] = true
			if err := a.attendDevice(ctx, board, d.Path); err != nil && ctx.Err() == nil {
				a.printProblem(a.command, err)
			}
		}
		for path := range seen {
			if !there[path] {
				delete(seen, path)
			}
		}
	}
	return context.Cause(ctx)
}

// tellsOf says that an event is of a disk, of a part of it, or of any.
func tellsOf(e blockdev.Event, d blockdev.Device) bool {
	return e.Name == "" || e.Name == d.Name || slices.ContainsFunc(d.Partitions, func(p blockdev.Partition) bool { return p.Name == e.Name })
}

// attendDevice does what is due with the drive on one disk, and leaves on the
// board how it ended.
func (a *app) attendDevice(ctx context.Context, board *board, device string) error {
	board.drive = ""
	err := a.attendDrive(ctx, board, device)
	if err != nil {
		board.problem(problemOf(err), a.whomToCall())
	}
	return err
}

func (a *app) attendDrive(ctx context.Context, board *board, device string) error {
	d, err := blockdev.Of(device)
	if err != nil {
		return err
	}
	found, part, err := a.knownOn(ctx, d)
	if err != nil {
		return err
	}
	board.drive = found.Drive.Label
	board.say(boardWorking, fmt.Sprintf("Drive %s is here. Do not unplug it.", found.Drive.Label))
	if _, err := blockdev.MountPartition(ctx, part, driveName(found.Drive), false); err != nil {
		return err
	}
	a.watched = board.progress
	defer func() { a.watched = nil }()
	return a.doDue(ctx, board, found.Drive)
}

// whatIsOn is a drive on a part of a disk.
type whatIsOn struct {
	part  string
	found rotation.Found
}

// drivesOn looks for drives on a disk, for reading only.
func drivesOn(ctx context.Context, d blockdev.Device) (all []whatIsOn) {
	parts := partitionsOf(d)
	if len(parts) == 0 {
		parts = []string{d.Path}
	}
	for _, part := range parts {
		var found rotation.Found
		look := func(at string) (err error) { found, err = rotation.Identify(at); return err }
		var err error
		if at, mounted := blockdev.MountedAt(part); mounted {
			err = look(at)
		} else {
			err = blockdev.Peek(ctx, part, look)
		}
		if err == nil && found.Kind != rotation.KindNone && found.Kind != rotation.KindUnfinished {
			all = append(all, whatIsOn{part, found})
		}
	}
	return all
}

// knownOn finds the one drive on a disk that the catalogue knows. Nothing else is
// touched.
func (a *app) knownOn(ctx context.Context, d blockdev.Device) (found rotation.Found, part string, err error) {
	unknown := &lifeboat.Problem{Safe: "it was not touched", Next: "if it should be a drive of this site, ask the person who looks after the drives", Err: lifeboat.ErrWrongDrive}
	on := drivesOn(ctx, d)
	if len(on) != 1 {
		unknown.What = fmt.Sprintf("the disk that was plugged in (%s, %s) is not a Lifeboat drive", d.Path, hardwareWords(d))
		if len(on) > 1 {
			unknown.What = fmt.Sprintf("the disk that was plugged in (%s, %s) has %d drives on it", d.Path, hardwareWords(d), len(on))
		}
		return found, "", unknown
	}
	found, part = on[0].found, on[0].part
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return found, part, err
	}
	defer cat.Close()
	known, err := cat.Drive(ctx, found.Drive.ID)
	if errors.Is(err, catalog.ErrUnknown) {
		unknown.What = fmt.Sprintf("the drive that was plugged in (%s, %s) is unknown here: it belongs to another site, or was made elsewhere", orNothing(found.Drive.Label), short(found.Drive.ID))
		return found, part, unknown
	}
	if err != nil {
		return found, part, err
	}
	// The label that people know is the one that was sealed, not what the file says.
	found.Drive = known.Drive
	return found, part, nil
}

// doDue runs the steps of the checklist that are the program's and that are due
// with this drive, in their order, each judged anew after the one before.
func (a *app) doDue(ctx context.Context, board *board, drive lifeboat.Drive) error {
	if err := a.writeDrive(ctx, drive.ID, drive.ID, false, func(*catalog.Catalog, *openedDrive) error { return nil }); err != nil {
		return err
	}
	done := map[rotation.StepKind]bool{}
	for {
		j, err := a.judged(ctx)
		if err != nil {
			return err
		}
		step, due := dueStep(j, drive.ID, done)
		if !due {
			if !done[rotation.StepEject] {
				board.say(boardIdle, a.nothingDue(j, drive))
			}
			return nil
		}
		done[step.Kind] = true
		// After an export in part the drive stays: it must not be called safe to
		// take away and no good copy in one breath.
		if err := a.doStep(ctx, board, drive, step.Kind); err != nil {
			return err
		}
	}
}

// dueStep is the first of the program's steps with a drive that can be done now.
func dueStep(j judgement, driveID string, done map[rotation.StepKind]bool) (rotation.Step, bool) {
	open := map[string]bool{}
	for _, s := range j.decision.Steps {
		open[s.ID] = s.Done == nil
	}
	for _, s := range j.decision.Steps {
		if slices.ContainsFunc(s.Needs, func(id string) bool { return open[id] }) {
			continue
		}
		mine := s.Kind == rotation.StepExport || s.Kind == rotation.StepVerify || s.Kind == rotation.StepEject
		if mine && s.DriveID == driveID && s.Done == nil && !done[s.Kind] && s.Waits == "" && !j.decision.Day.Before(s.Due) {
			return s, true
		}
	}
	return rotation.Step{}, false
}

func (a *app) doStep(ctx context.Context, board *board, drive lifeboat.Drive, kind rotation.StepKind) error {
	switch kind {
	case rotation.StepExport:
		board.say(boardWorking, fmt.Sprintf("Writing to drive %s. Do not unplug it.", drive.Label))
		return a.export(ctx, exportFlags{all: true, drive: drive.ID}, nil)
	case rotation.StepVerify:
		board.say(boardWorking, fmt.Sprintf("Checking drive %s. Do not unplug it.", drive.Label))
		return a.verify(ctx, verifyFlags{drive: drive.ID}, imagestore.VerifyOptions{Resume: true})
	}
	board.say(boardWorking, fmt.Sprintf("Reading drive %s back. Do not unplug it.", drive.Label))
	report, err := a.driveEject(ctx, drive.ID, ejectFlags{})
	if err == nil {
		words := report.words()
		board.say(boardSafe, strings.ToUpper(words[:1])+words[1:]+".")
	}
	return err
}

// nothingDue tells the person that the drive may stay, and which one is wanted.
func (a *app) nothingDue(j judgement, drive lifeboat.Drive) string {
	text := fmt.Sprintf("Drive %s is here, and nothing is due with it. Leave it plugged in.", drive.Label)
	for _, s := range j.decision.Steps {
		if s.Kind == rotation.StepExport && s.Done == nil && s.DriveID != drive.ID {
			return fmt.Sprintf("This is drive %s, and nothing is due with it. The drive that is wanted now is %s: plug that one in as well.", drive.Label, s.Label)
		}
	}
	return text
}

// whomToCall is the site's contact.
func (a *app) whomToCall() string {
	site, err := a.siteOrNone()
	if err != nil || site == nil {
		return ""
	}
	return site.Site.Contact
}

// openConsole opens what the big letters go to; a computer without one goes
// without.
func openConsole(path string) *os.File {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil
	}
	return f
}
