package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/diskfile"
	"lifeboat/imagestore"
)

// restoreFlags are the answers that `restore` takes.
type restoreFlags struct {
	drive  string
	to     string
	format string
	disk   string
	yes    bool
	dryRun bool
	// damaged goes on where something cannot be read.
	damaged bool
}

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	c := &cobra.Command{
		Use: "restore POINT|MACHINE --to FILE|FOLDER|BLOCKDEVICE", Short: "Write a machine's disks to files or a block device", GroupID: "back",
		Long: "Writes disks out whole. To a folder: every disk, the machine's description in Lifeboat's and in\n" +
			"its hypervisor's words, and a script that starts it with plain QEMU; this is the way out that\n" +
			"needs no Lifeboat. To a file or block device: one disk.",
		Example:     "  lifeboat restore db --to /srv/restored/db/\n  lifeboat restore 3f2a91c0 --disk root --to root.vmdk --format vmdk",
		Annotations: exits(exitNoDrive, exitDamage, exitPerson, exitStopped), Args: exactArgs("a point or a machine"),
		ValidArgsFunction: a.completePoints,
		RunE: func(c *cobra.Command, args []string) error {
			if f.to == "" {
				return usagef("say where to: --to FILE, FOLDER/ or BLOCKDEVICE")
			}
			return a.restore(c.Context(), f, args[0])
		},
	}
	c.Flags().StringVar(&f.to, "to", "", "file, folder (ends with /) or block device to write")
	c.Flags().StringVar(&f.format, "format", "raw", "raw, qcow2, vmdk or vhdx")
	c.Flags().StringVar(&f.disk, "disk", "", "only this disk, by its key")
	c.Flags().BoolVar(&f.yes, "yes", false, "overwrite without asking, block devices too")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be written")
	c.Flags().BoolVar(&f.damaged, "allow-damaged", false, "leave zeros where the drive is damaged, and list the byte ranges; ends with code 12 then")
	a.driveFlag(c, &f.drive)
	return c
}

// restoreFile is one disk and where it goes.
type restoreFile struct {
	Disk      string `json:"disk"`
	Path      string `json:"path"`
	SizeBytes int64  `json:"sizeBytes"`
	DataBytes int64  `json:"dataBytes"`
	// Overwrites says what is there now, or is empty.
	Overwrites string `json:"overwrites,omitempty"`
	// Device says that it is a block device.
	Device bool `json:"device,omitempty"`
}

// restorePlan is what a restore is going to write.
type restorePlan struct {
	Point  pickedPoint     `json:"-"`
	Folder string          `json:"folder,omitempty"`
	Format diskfile.Format `json:"format"`
	Files  []restoreFile   `json:"files"`
	// AllowDamaged leaves zeros where the drive is damaged. Damaged says then what
	// of which file that is.
	AllowDamaged bool          `json:"allowDamaged,omitempty"`
	Damaged      []damagedFile `json:"damaged,omitempty"`

	// hurt is where the last disk that could not be read well lies.
	hurt diskSource
}

// readFrom is the drive and the point that something is to be said of: those that
// could not be read well, or else the ones that were chosen.
func (p *restorePlan) readFrom(d *openedDrive) (*openedDrive, string) {
	if p.hurt.drive != nil {
		return p.hurt.drive, p.hurt.point
	}
	return d, p.Point.ID
}

// damagedFile is a file with zeros in place of what is lost.
type damagedFile struct {
	Path string `json:"path"`
	imagestore.Hurt
}

func (a *app) restore(ctx context.Context, f restoreFlags, name string) error {
	format, err := restoreFormat(f.format)
	if err != nil {
		return err
	}
	d, err := a.openDrive(ctx, f.drive, imagestore.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	points, faults, err := d.store.Points(ctx)
	if err != nil {
		return err
	}
	a.warnFaults(d, faults)
	reader := a.newPointReader(d)
	defer reader.Close()
	point, err := reader.pickForRestore(ctx, points, name, f.disk)
	if err != nil {
		return err
	}
	plan, err := planRestore(point, f, format)
	if err != nil {
		return err
	}
	plan.AllowDamaged = f.damaged
	if f.dryRun {
		a.showRestorePlan(plan)
		return nil
	}
	if text := plan.overwrites(); text != "" {
		if err := a.confirmWord(ctx, f.yes, text, plan.word()); err != nil {
			return err
		}
	}
	return a.runRestore(ctx, d, plan)
}

func restoreFormat(text string) (diskfile.Format, error) {
	f := diskfile.Format(text)
	switch f {
	case diskfile.Raw, diskfile.QCOW2, diskfile.VMDK, diskfile.VHDX:
		return f, nil
	}
	return "", usagef("--format takes raw, qcow2, vmdk or vhdx, not %q", text)
}

// planRestore decides what is written where.
func planRestore(p pickedPoint, f restoreFlags, format diskfile.Format) (*restorePlan, error) {
	plan := &restorePlan{Point: p, Format: format}
	var keys []lifeboat.PointDisk
	for _, d := range p.Disks {
		if m, _ := p.Machine.Disk(d.Key); m.Excluded == "" && (f.disk == "" || f.disk == d.Key) {
			keys = append(keys, d)
		}
	}
	if len(keys) == 0 {
		return nil, usagef("point %s has no disk %q; it has: %s", short(p.ID), f.disk, diskWords(p.Machine.Disks))
	}
	info, err := os.Stat(f.to)
	folder := strings.HasSuffix(f.to, "/") || (err == nil && info.IsDir())
	if !folder && len(keys) > 1 {
		return nil, usagef("%s has %d disks: restore to a folder (--to %s/), or one of them with --disk", p.Machine.Name, len(keys), f.to)
	}
	if folder {
		plan.Folder = f.to
	}
	for _, d := range keys {
		m, _ := p.Machine.Disk(d.Key)
		file := restoreFile{Disk: d.Key, Path: f.to, SizeBytes: m.SizeBytes, DataBytes: d.DataBytes}
		if folder {
			file.Path = filepath.Join(f.to, d.Key+"."+string(format))
		}
		if file.Overwrites, file.Device, err = whatIsThere(file.Path); err != nil {
			return nil, err
		}
		plan.Files = append(plan.Files, file)
	}
	return plan, nil
}

// whatIsThere says what a restore to path would overwrite, or "".
func whatIsThere(path string) (what string, device bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, err
	case info.Mode()&fs.ModeDevice != 0:
		return "the block device " + path + " " + deviceWords(path), true, diskfile.CheckFree(path)
	case !info.Mode().IsRegular():
		return "", false, usagef("%s is neither a file nor a block device", path)
	default:
		return fmt.Sprintf("the file %s of %s", path, humanBytes(info.Size())), false, diskfile.CheckFree(path)
	}
}

func (p *restorePlan) overwrites() string {
	text := ""
	for _, f := range p.Files {
		if f.Overwrites != "" {
			text += "This overwrites " + f.Overwrites + ".\n"
		}
	}
	return text
}

// word is what a person has to type: the name of a device that is erased.
func (p *restorePlan) word() string {
	for _, f := range p.Files {
		if f.Device {
			return f.Path
		}
	}
	return "yes"
}

func (a *app) showRestorePlan(p *restorePlan) {
	if a.json {
		a.printJSON(p)
		return
	}
	var rows [][]string
	for _, f := range p.Files {
		rows = append(rows, []string{f.Disk, f.Path, string(p.Format), humanBytes(f.SizeBytes), humanBytes(f.DataBytes), f.Overwrites})
	}
	a.print("%s", table([]string{"DISK", "TO", "FORMAT", "SIZE", "DATA", "OVERWRITES"}, rows))
}

func (a *app) runRestore(ctx context.Context, d *openedDrive, plan *restorePlan) error {
	r, err := a.beginRun("restore", os.Args[1:])
	if err != nil {
		return err
	}
	err = a.writeRestore(ctx, r, plan)
	d, point := plan.readFrom(d)
	if err == nil && len(plan.Damaged) > 0 {
		err = leftDamaged(d, plan)
	}
	if errors.Is(err, lifeboat.ErrDamaged) {
		a.damaged(ctx, d.store.Drive(), catalog.Fault{PointID: point, RunID: r.ID, What: fmt.Sprintf("a restore of %s met damage: %v", plan.Point.Machine.Name, damageOf(err))})
	}
	summary := fmt.Sprintf("%s, point %s", plan.Point.Machine.Name, short(plan.Point.ID))
	r.end(summary, err)
	if err != nil && len(plan.Damaged) == 0 {
		return restoreProblem(d, plan, err)
	}
	if a.json {
		a.printJSON(event{Event: "result", Run: r.ID, Time: a.now().UTC(), Result: plan})
		return err
	}
	for _, f := range plan.Damaged {
		for _, e := range f.Extents {
			a.print("lost: %s  disk %s  %s at byte %d\n", f.Path, f.Disk, humanBytes(e.Length), e.Offset)
		}
	}
	for _, f := range plan.Files {
		a.print("%s\n", f.Path)
	}
	if plan.Folder != "" {
		a.note("start it without Lifeboat: sh %s", shellWord(filepath.Join(plan.Folder, startScript)))
	}
	return err
}

// leftDamaged says that what was restored has holes.
func leftDamaged(d *openedDrive, plan *restorePlan) error {
	var bytes int64
	for _, f := range plan.Damaged {
		for _, e := range f.Extents {
			bytes += e.Length
		}
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: %s of point %s are lost on %s; zeros are in their place", plan.Point.Machine.Name, humanBytes(bytes), short(plan.hurt.point), d.name()),
		Safe: "everything else was restored, and each block of it was checked; the lost ranges are listed",
		Next: "check the file systems in what was restored; attach another drive of the site to heal this one with: lifeboat repair " + shellWord(d.found.Drive.Label),
		Err:  lifeboat.ErrDamaged,
	}
}

func (a *app) writeRestore(ctx context.Context, r *run, plan *restorePlan) error {
	if plan.Folder != "" {
		if err := os.MkdirAll(plan.Folder, 0o755); err != nil {
			return err
		}
	}
	for _, f := range plan.Files {
		if err := a.restoreDisk(ctx, r, plan, f); err != nil {
			return err
		}
	}
	if plan.Folder == "" {
		return nil
	}
	return writeDescriptions(plan)
}

// restoreDisk writes a file under another name until it is whole: what had the
// name before is there until then. A block device is written in place.
func (a *app) restoreDisk(ctx context.Context, r *run, plan *restorePlan, f restoreFile) error {
	if f.Device {
		return a.writeDisk(ctx, r, plan, f, f.Path)
	}
	partial := f.Path + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer os.Remove(partial)
	if err := a.writeDisk(ctx, r, plan, f, partial); err != nil {
		return err
	}
	// A machine may have been started from the old file meanwhile.
	if f.Overwrites != "" {
		if err := diskfile.CheckFree(f.Path); err != nil {
			return err
		}
	}
	return os.Rename(partial, f.Path)
}

func (a *app) writeDisk(ctx context.Context, r *run, plan *restorePlan, f restoreFile, path string) (err error) {
	target, err := diskfile.Create(ctx, path, plan.Format, f.SizeBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	p := a.newProgress(r, f.Disk)
	defer p.end()
	var w imagestore.RestoreTarget = diskWriter{ctx, target}
	if f.Device {
		w = diskOverwriter{diskWriter{ctx, target}}
	}
	source := plan.Point.source(f.Disk)
	err = source.drive.store.Restore(ctx, source.point, f.Disk, w, imagestore.RestoreOptions{
		AllowDamaged: plan.AllowDamaged,
		Progress:     func(pr imagestore.Progress) { p.show(pr.DoneBytes, pr.TotalBytes) }})
	if err != nil {
		plan.hurt = source
	}
	var damaged *imagestore.DamagedRestore
	if errors.As(err, &damaged) {
		plan.Damaged = append(plan.Damaged, damagedFile{f.Path, damaged.Hurt})
	} else if err != nil {
		return err
	}
	return target.Sync(ctx)
}

// diskWriter writes to a disk that reads as zeros wherever it was not written.
type diskWriter struct {
	ctx    context.Context
	target diskfile.Target
}

func (w diskWriter) WriteAt(p []byte, off int64) (int, error) {
	if err := w.target.WriteAt(w.ctx, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// diskOverwriter writes to a block device, which holds something already.
type diskOverwriter struct{ diskWriter }

func (w diskOverwriter) PunchHole(off, length int64) error {
	return w.target.ZeroAt(w.ctx, off, length)
}

// restoreProblem says what a failed restore left at its target. Files are
// written under another name, so only a device can be half old and half new.
func restoreProblem(d *openedDrive, plan *restorePlan, err error) error {
	var p *lifeboat.Problem
	if errors.As(err, &p) && !errors.Is(err, lifeboat.ErrDamaged) {
		return err
	}
	m := plan.Point.Machine.Name
	problem := &lifeboat.Problem{
		What: fmt.Sprintf("%s: the restore from %s failed: %v", m, d.name(), err),
		Safe: "the drive is only read; what stood at the target before is still there",
		Next: "choose another target, or run the command again",
		Err:  err,
	}
	for _, f := range plan.Files {
		if f.Device {
			problem.Safe = "the drive is only read; " + f.Path + " may be overwritten in part"
		}
	}
	switch {
	case errors.Is(err, lifeboat.ErrDamaged):
		problem.What = fmt.Sprintf("%s: point %s on %s is damaged: %v", m, short(plan.hurt.point), d.name(), damageOf(err))
		problem.Next = "take another point or another drive, or heal this one: lifeboat repair " + shellWord(d.found.Drive.Label) + "; what is whole of it comes with: --allow-damaged"
	case errors.Is(err, unix.ENOSPC):
		problem.What = fmt.Sprintf("%s: there is no room for its disks at %s", m, plan.Files[0].Path)
		problem.Next = "make room there or choose another target, and run the command again"
	}
	return problem
}

// damageOf is the place of a damage in the words of the store, without what was
// being done when it was met.
func damageOf(err error) error {
	var damage *imagestore.Damage
	if errors.As(err, &damage) {
		return fmt.Errorf("disk %s, %s from byte %d: %w", damage.Disk, humanBytes(damage.Length), damage.Offset, damage.Why)
	}
	return err
}
