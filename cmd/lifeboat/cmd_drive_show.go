package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

func (a *app) driveShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [LABEL|PATH]", Short: "Show a drive: what is on it, who opens it, whether its programs are whole",
		Long: "Of a drive that is attached it shows what is on it, who opens it, and the disk that it is. Of one\n" +
			"that is away it shows what is remembered: where it is, who has it, and the points on it.",
		Example:     "  lifeboat drive show A\n  lifeboat drive show /media/usb1 --json",
		Annotations: exits(exitNoDrive, exitDamage), Args: oneArgAtMost("the label or path of a drive"),
		ValidArgsFunction: a.completeDrives,
		RunE: func(c *cobra.Command, args []string) error {
			want := ""
			if len(args) == 1 {
				want = args[0]
			}
			return a.driveShow(c.Context(), want)
		},
	}
}

func (a *app) driveShow(ctx context.Context, want string) error {
	d, err := a.openDrive(ctx, want, imagestore.Read)
	if errors.Is(err, lifeboat.ErrNoDrive) {
		if shown, aerr := a.showAway(ctx, want); shown || aerr != nil {
			return aerr
		}
	}
	if err != nil {
		return err
	}
	defer d.Close()
	points, faults, err := d.store.Points(ctx)
	if err != nil {
		return err
	}
	usage, err := d.store.Usage(ctx)
	if err != nil {
		return err
	}
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return err
	}
	checked, err := d.store.Checked(ctx)
	if err != nil {
		return err
	}
	coverage, err := d.store.Coverage(ctx)
	if err != nil {
		return err
	}
	programs, err := a.checkPrograms(d)
	if err != nil {
		return err
	}
	newest := newestPoints(points)
	if a.json {
		var known *knownDrive
		if k, ok := a.knownFacts(ctx, d.store.Drive().ID); ok {
			known = &k
		}
		a.printJSON(struct {
			Drive       lifeboat.Drive     `json:"drive"`
			Path        string             `json:"path"`
			Site        string             `json:"site"`
			Fingerprint string             `json:"fingerprint"`
			Head        imagestore.Head    `json:"head"`
			Points      int                `json:"points"`
			Machines    int                `json:"machines"`
			Usage       imagestore.Usage   `json:"usage"`
			Slots       []imagestore.Slot  `json:"slots"`
			Faults      []imagestore.Fault `json:"faults,omitempty"`
			// Programs compares those on the drive with this version's.
			Programs []rotation.ProgramFinding `json:"programs"`
			Checked  imagestore.Checked        `json:"checked"`
			Coverage imagestore.Coverage       `json:"coverage"`
			// Known is what is remembered of it beside what can be seen.
			Known *knownDrive `json:"known,omitempty"`
		}{d.store.Drive(), d.found.Path, d.store.Site().Name, d.store.Fingerprint(), d.store.Head(), len(points), len(newest), usage, slots, faults, programs, checked, coverage, known})
		return lostPoints(d, faults)
	}
	var names []string
	for _, s := range slots {
		names = append(names, s.Name)
	}
	a.print("drive %s at %s\n", d.found.Drive.Label, d.found.Path)
	a.print("  id          %s\n  site        %s\n  key         %s\n  opened by   %s\n", d.store.Drive().ID, d.store.Site().Name, d.store.Fingerprint(), list(names))
	a.print("%s", a.hardwareLines(ctx, d))
	a.print("  points      %d of %d machines\n", len(points), len(newest))
	a.print("  store       %s in %d packs, %s free\n", humanBytes(usage.StoredBytes), usage.Packs, humanBytes(usage.FreeBytes))
	a.print("  verified    %s\n  read back   %s\n", driveVerifiedWords(a.now(), checked.VerifiedAt), coverageWords(a.now(), coverage))
	if coverage.DamagedBytes > 0 {
		a.print("  damaged     damage is known in files of %s; heal what can be healed: lifeboat repair %s\n", humanBytes(coverage.DamagedBytes), shellWord(d.found.Drive.Label))
	}
	if !checked.UnfinishedFrom.IsZero() {
		a.print("  unfinished  a verification of %s; it goes on with: lifeboat verify %s\n", stamp(checked.UnfinishedFrom), shellWord(d.found.Drive.Label))
	}
	a.print("  programs    %s\n", programWords(programs))
	for _, p := range newest {
		a.print("  newest      %s  %s, %s\n", p.Machine.Name, stamp(p.TakenAt), humanAge(a.now(), p.TakenAt))
	}
	return lostPoints(d, faults)
}
