package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/blockdev"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// diskPlan is what `drive init` would do to a disk.
type diskPlan struct {
	Device   blockdev.Device   `json:"device"`
	Contents blockdev.Contents `json:"contents"`
	Parts    blockdev.Parts    `json:"parts"`
	Label    string            `json:"label"`
	Programs int               `json:"programs"`
	// Erases: something is on the disk, and is lost.
	Erases bool `json:"erases"`
}

func completeDisks(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	disks, err := blockdev.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, d := range disks {
		if len(d.Uses) == 0 {
			names = append(names, d.Path+"\t"+hardwareWords(d))
		}
	}
	return names, cobra.ShellCompDirectiveDefault
}

// driveInitDisk makes a drive of a whole disk.
func (a *app) driveInitDisk(ctx context.Context, path string, f driveInitFlags, n *newDrive) error {
	plan, err := a.planDisk(ctx, path, n)
	if err != nil {
		return err
	}
	made, err := a.interrupted(ctx, &plan, n)
	if err != nil {
		return err
	}
	if err := a.mayErase(ctx, plan, f); err != nil {
		return err
	}
	if f.dryRun {
		a.showDiskPlan(plan)
		return nil
	}
	if made.Kind == rotation.KindDrive {
		return a.finishInterrupted(ctx, plan, made, n)
	}
	if !a.json {
		a.note("%s", strings.TrimSuffix(plan.String(), "\n"))
	}
	if plan.Erases {
		if err := a.confirmErase(ctx, plan); err != nil {
			return err
		}
	}
	if err := a.stillPlanned(ctx, plan, f, n); err != nil {
		return err
	}
	drive, at, err := a.makeOfDisk(ctx, plan, n)
	if err != nil {
		return err
	}
	return a.driveIsMade(ctx, drive, at, n)
}

// stillPlanned looks again right before the disk is written to: while a person
// reads and types, another disk may have been plugged in under the same name, or
// somebody may have put something on this one.
func (a *app) stillPlanned(ctx context.Context, plan diskPlan, f driveInitFlags, n *newDrive) error {
	changed := &lifeboat.Problem{
		What: fmt.Sprintf("%s is not what it was when it was shown", plan.Device.Path),
		Safe: "nothing was changed on it",
		Next: "look which disk is plugged in, and run the command again", Err: lifeboat.ErrWrongDrive,
	}
	now, err := a.planDisk(ctx, plan.Device.Path, n)
	if err != nil {
		return err
	}
	if _, err := a.interrupted(ctx, &now, n); err != nil {
		return err
	}
	if !now.Device.Same(plan.Device) || now.Erases != plan.Erases || !reflect.DeepEqual(now.Contents, plan.Contents) {
		return changed
	}
	return a.mayErase(ctx, now, f)
}

// planDisk looks at a disk and refuses one that must not be written to.
func (a *app) planDisk(ctx context.Context, path string, n *newDrive) (diskPlan, error) {
	plan := diskPlan{Label: n.options.Label, Programs: len(n.options.Programs)}
	if err := checkLabelOf(plan.Label); err != nil {
		return plan, err
	}
	d, err := blockdev.Of(path)
	if errors.Is(err, blockdev.ErrNotDevice) {
		return plan, usagef("%v: name a disk such as /dev/sdb, or a folder", err)
	}
	if err != nil {
		return plan, err
	}
	if real, err := filepath.EvalSymlinks(path); err != nil || real != d.Path {
		return plan, usagef("%s is a part of the disk %s: name the whole disk, or mount the part and name its folder", path, d.Path)
	}
	if plan.Contents, err = blockdev.Look(ctx, d); err != nil {
		return plan, err
	}
	plan.Device, plan.Erases = d, !plan.Contents.Empty()
	if err := blockdev.CheckWritable(d); err != nil {
		return plan, err
	}
	plan.Parts, err = blockdev.PlanParts(d.SizeBytes, d.SectorBytes)
	return plan, err
}

func checkLabelOf(label string) error {
	if err := rotation.CheckLabel(label); err != nil {
		return &lifeboat.Problem{What: err.Error(), Safe: "nothing was changed", Next: "choose another label, such as A or 2026-1", Err: err}
	}
	return nil
}

// releaseInterrupted unmounts a disk whose making was killed: only where this
// program mounted it.
func releaseInterrupted(ctx context.Context, path string) error {
	d, err := blockdev.Of(path)
	if err != nil || len(d.Uses) == 0 {
		return nil // whatever is wrong with it is said later
	}
	contents, err := blockdev.Look(ctx, d)
	if err != nil || !contents.Unfinished {
		return nil
	}
	for _, at := range d.Mounted() {
		if blockdev.OurMount(at) {
			if err := blockdev.Unmount(at); err != nil {
				return err
			}
		}
	}
	return nil
}

// interrupted looks at what a making left that was cut off. Killed in its very last
// step it left a drive, which is returned. If a person put files there since, they
// are erased only as any others are.
func (a *app) interrupted(ctx context.Context, plan *diskPlan, n *newDrive) (found rotation.Found, err error) {
	if !plan.Contents.Unfinished || len(plan.Device.Partitions) != 2 {
		return found, nil
	}
	part := plan.Device.Partitions[1].Path
	foreign := false
	err = blockdev.Peek(ctx, part, func(at string) error {
		if found, err = rotation.Identify(at); err != nil {
			return err
		}
		foreign, err = holdsForeign(at)
		return err
	})
	if err != nil && ctx.Err() != nil {
		return found, context.Cause(ctx)
	}
	if err != nil {
		return found, maybeDrive(plan.Device, fmt.Sprintf("%s was being made a drive, and what is on it by now cannot be read: %v", plan.Device.Path, err))
	}
	switch {
	case found.Kind == rotation.KindNone || found.Kind == rotation.KindUnfinished:
		if foreign {
			plan.Erases = true
			plan.Contents.Unfinished = false
			plan.Contents.Found = append(plan.Contents.Found, "files that Lifeboat did not put there")
		}
	case found.Kind != rotation.KindDrive || found.Drive.Label != n.options.Label || found.Drive.SiteID != n.options.SiteID:
		return found, isDrive(plan.Device, found)
	}
	return found, nil
}

// holdsForeign says that a file system holds what neither it nor the making of a
// drive puts there.
func holdsForeign(at string) (bool, error) {
	entries, err := os.ReadDir(at)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return !slices.Contains([]string{"lost+found", rotation.Folder, rotation.StartHere}, e.Name())
	}), nil
}

// finishInterrupted ends a making that was cut off in its very last step: the drive
// exists, and is not made again.
func (a *app) finishInterrupted(ctx context.Context, plan diskPlan, made rotation.Found, n *newDrive) error {
	if err := blockdev.Finish(plan.Device); err != nil {
		return err
	}
	at, err := blockdev.MountPartition(ctx, plan.Device.Partitions[1].Path, driveName(made.Drive), false)
	if err != nil {
		return err
	}
	return a.driveIsMade(ctx, made.Drive, at, n)
}

func isDrive(d blockdev.Device, found rotation.Found) error {
	name := found.Drive.Label
	if name == "" {
		name = "one without a readable label"
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s is a Lifeboat drive already: %s (%s)", d.Path, name, short(found.Drive.ID)),
		Safe: "it was not touched",
		Next: "mount it to use it; to give it up for good: lifeboat drive retire " + shellWord(found.Drive.Label),
		Err:  rotation.ErrIsDrive,
	}
}

// mayErase refuses to erase without having been told, and a Lifeboat drive that
// was not retired always: its points may be the last good copy of a machine. What
// may be one, and cannot be looked at, is refused as well.
func (a *app) mayErase(ctx context.Context, plan diskPlan, f driveInitFlags) error {
	if !plan.Erases {
		return nil
	}
	retired, doubt := false, ""
	for _, p := range append([]string{plan.Device.Path}, partitionsOf(plan.Device)...) {
		var found rotation.Found
		err := blockdev.Peek(ctx, p, func(at string) (err error) { found, err = rotation.Identify(at); return err })
		switch {
		case errors.Is(err, blockdev.ErrNoFilesystem) || err != nil && isStartPart(ctx, plan.Device, p):
			continue
		case err != nil:
			doubt = fmt.Sprintf("%s cannot be looked at, and may be a Lifeboat drive: %v", p, err)
			continue
		case found.Kind == rotation.KindNone || found.Kind == rotation.KindUnfinished:
			continue
		}
		if retired, err = a.isRetired(ctx, found.Drive.ID); err != nil || !retired {
			return errors.Join(isDrive(plan.Device, found), err)
		}
	}
	ours, err := blockdev.Ours(plan.Device)
	if err != nil {
		return err
	}
	if ours && !retired {
		return maybeDrive(plan.Device, fmt.Sprintf("%s is a Lifeboat drive already, and which one cannot be read: it is damaged", plan.Device.Path))
	}
	if doubt != "" && !retired {
		return maybeDrive(plan.Device, doubt)
	}
	if f.erase {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s (%s) is not empty: it holds %s", plan.Device.Path, hardwareWords(plan.Device), list(plan.Contents.Found)),
		Safe: "nothing was changed on it",
		Next: "look whether it is the right disk; to erase it, add --erase and type its name when asked",
		Err:  rotation.ErrNotEmpty,
	}
}

// isStartPart says that a part is the small one of our layout, which is read
// without the kernel's help: not every kernel knows FAT.
func isStartPart(ctx context.Context, d blockdev.Device, part string) bool {
	if len(d.Partitions) != 2 || d.Partitions[0].Path != part || blockdev.LabelOn(ctx, part) != blockdev.StartLabel {
		return false
	}
	_, err := blockdev.ReadStartHere(d)
	return err == nil
}

// maybeDrive refuses what only a person can judge, and says how they give it up.
func maybeDrive(d blockdev.Device, what string) error {
	return &lifeboat.Problem{
		What: what, Safe: "it was not touched; a damaged drive can hold whole restore points",
		Next: "look for the label on its sticker and try to read it on another port or computer; if nothing on it is needed, empty it first: wipefs --all " + strings.Join(append(partitionsOf(d), d.Path), " "),
		Err:  rotation.ErrIsDrive,
	}
}

func partitionsOf(d blockdev.Device) []string {
	var paths []string
	for _, p := range d.Partitions {
		paths = append(paths, p.Path)
	}
	return paths
}

func (a *app) isRetired(ctx context.Context, id string) (bool, error) {
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return false, err
	}
	defer cat.Close()
	entries, err := cat.Ledger(ctx)
	if err != nil {
		return false, err
	}
	kept := custody.Replay(entries)
	k, known := kept.Of(id)
	return known && k.Place.State == custody.Retired, nil
}

// confirmErase has a person type what the disk is called.
func (a *app) confirmErase(ctx context.Context, plan diskPlan) error {
	word := a.nameToType(ctx, plan)
	if !isTerminal(a.stdin) {
		return &lifeboat.Problem{
			What: fmt.Sprintf("a person has to type the name of what is erased, and none is here: %s, which holds %s", plan.Device.Path, list(plan.Contents.Found)),
			Safe: "nothing was changed on it",
			Next: "run the same command at a terminal, or empty the disk first: wipefs --all " + plan.Device.Path,
			Err:  errNeedsPerson,
		}
	}
	return a.confirmWord(ctx, false, "Everything on "+plan.Device.Path+" is lost.\n", word)
}

// nameToType tells one disk from another: the label of the drive that it is, else
// the name of its largest file system, else model and serial number, else its path.
// The small part that all drives have is not asked: it has one name on all.
func (a *app) nameToType(ctx context.Context, plan diskPlan) string {
	parts := slices.Clone(plan.Device.Partitions)
	slices.SortStableFunc(parts, func(x, y blockdev.Partition) int { return cmp.Compare(y.SizeBytes, x.SizeBytes) })
	paths := []string{plan.Device.Path}
	for _, p := range parts {
		paths = append(paths, p.Path)
	}
	for _, p := range paths {
		var found rotation.Found
		err := blockdev.Peek(ctx, p, func(at string) (err error) { found, err = rotation.Identify(at); return err })
		if label := oneLine(plainText(found.Drive.Label)); err == nil && label != "" {
			return label
		}
	}
	for _, p := range paths {
		if label := blockdev.LabelOn(ctx, p); label != "" && label != blockdev.StartLabel {
			return label
		}
	}
	if name := strings.TrimSpace(plan.Device.Model + " " + plan.Device.Serial); name != "" {
		return name
	}
	return plan.Device.Path
}

// makeOfDisk lays a disk out, makes the drive and mounts it under its name.
func (a *app) makeOfDisk(ctx context.Context, plan diskPlan, n *newDrive) (drive lifeboat.Drive, at string, err error) {
	free, err := blockdev.Hold(ctx, plan.Device)
	if err != nil {
		return drive, "", err
	}
	defer free()
	laid, err := blockdev.LayOut(ctx, plan.Device, n.options.Label)
	if err != nil {
		return drive, "", err
	}
	part := laid.Partitions[1].Path
	if at, err = blockdev.MountPartition(ctx, part, "new-"+laid.Name, false); err != nil {
		return drive, "", notMade(laid, err)
	}
	n.options.LeaveStartHere = func(text []byte) error { return blockdev.WriteStartHere(laid, startHereForPC(text)) }
	drive, err = rotation.Init(ctx, at, n.options)
	if err := errors.Join(err, blockdev.Unmount(at)); err != nil {
		return drive, "", notMade(laid, err)
	}
	if err := blockdev.Finish(laid); err != nil {
		return drive, "", fmt.Errorf("finish drive %s: %w", drive.Label, err)
	}
	at, err = blockdev.MountPartition(ctx, part, driveName(drive), false)
	return drive, at, err
}

// notMade: the disk failed, or was pulled out, after it was laid out.
func notMade(d blockdev.Device, err error) error {
	var p *lifeboat.Problem
	if errors.As(err, &p) {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("no drive could be made of %s: %v", d.Path, err),
		Safe: "it is not taken for a drive, and no restore point was on it",
		Next: "run the same command again; if it fails again, use another disk or cable",
		Err:  err,
	}
}

// startHereForPC is START-HERE.txt with the line ends that every PC shows.
func startHereForPC(text []byte) []byte {
	const where = "This small part of the drive is for reading this page on any computer. The copies are in its other, larger part.\n\n"
	return bytes.ReplaceAll(append([]byte(where), text...), []byte("\n"), []byte("\r\n"))
}

func (a *app) showDiskPlan(plan diskPlan) {
	if a.json {
		a.printJSON(plan)
		return
	}
	a.print("%s", plan.String())
}

// String shows a person which disk it is and what becomes of it.
func (p diskPlan) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %s\n", p.Device.Path, hardwareWords(p.Device))
	switch {
	case p.Contents.Unfinished:
		fmt.Fprintf(&out, "  on it now   a drive whose making was interrupted\n")
	case p.Erases:
		fmt.Fprintf(&out, "  on it now   %s: ALL OF IT IS ERASED\n", list(p.Contents.Found))
	default:
		fmt.Fprintf(&out, "  on it now   nothing\n")
	}
	fmt.Fprintf(&out, "  becomes     drive %s: %s FAT with START-HERE.txt, %s ext4, %d programs for a recovery\n",
		p.Label, humanBytes(p.Parts.StartBytes), humanBytes(p.Parts.DriveBytes), p.Programs)
	return out.String()
}
