package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
)

func (a *app) driveCommand() *cobra.Command {
	return group("drive", "Prepare and look at drives",
		"  lifeboat drive init /media/usb1 --label A\n  lifeboat drive list", "set",
		a.driveInitCommand(), a.driveLabelCommand(), a.driveEjectCommand(), a.driveListCommand(), a.driveShowCommand(),
		a.driveDocumentsCommand(), a.driveAttachDocumentCommand(), a.driveRemoveDocumentCommand(),
		a.driveQuarantineCommand(), a.driveReleaseCommand(), a.driveRetireCommand(), a.driveLostCommand(), a.driveFoundCommand())
}

func (a *app) driveListCommand() *cobra.Command {
	var devices bool
	c := &cobra.Command{
		Use: "list", Short: "List the drives that are attached, and those that were seen before",
		Long: "Lists the drives that are attached, and those that were seen before, with where they are.\n" +
			"With --devices it lists the disks of this computer instead, for drive init: their model and\n" +
			"serial number, what is on them, and whether a drive can be made of them. It writes to none.",
		Example:     "  lifeboat drive list\n  lifeboat drive list --devices\n  lifeboat drive list --json",
		Annotations: exits(), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if devices {
				return a.driveDevices(c.Context())
			}
			return a.driveList(c.Context())
		},
	}
	c.Flags().BoolVar(&devices, "devices", false, "list the disks of this computer, whatever is on them")
	return c
}

type driveRow struct {
	lifeboat.Drive
	Path       string    `json:"path,omitempty"`
	Attached   bool      `json:"attached"`
	SeenAt     time.Time `json:"seenAt,omitzero"`
	FreeBytes  int64     `json:"freeBytes,omitempty"`
	TotalBytes int64     `json:"totalBytes,omitempty"`
	// VerifiedAt is when everything on it was last verified, as far as this
	// computer knows.
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	Note       string    `json:"note,omitempty"`
	// Known is what is remembered of it, where anything is.
	Known *knownDrive `json:"known,omitempty"`
}

func (a *app) driveList(ctx context.Context) error {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return err
	}
	rows := []driveRow{}
	for _, f := range found {
		rows = append(rows, driveRow{Drive: f.Drive, Path: f.Path, Attached: true, FreeBytes: f.FreeBytes, TotalBytes: f.TotalBytes, SeenAt: a.now().UTC(), Note: f.Note})
	}
	if a.hasState() {
		if rows, err = a.addKnownDrives(ctx, rows); err != nil {
			return err
		}
	}
	if a.json {
		a.printJSON(rows)
		return nil
	}
	a.print("%s", remarks(a.columns(), []string{"DRIVE", "WHERE", "SPACE", "VERIFIED", "ID", ""}, a.driveCells(rows)))
	return nil
}

func (a *app) driveCells(rows []driveRow) (cells [][]string) {
	for _, r := range rows {
		where, space, verified, notes := "not attached, seen "+humanAge(a.now(), r.SeenAt), "-", "-", []string{}
		if r.Note != "" {
			notes = append(notes, r.Note)
		}
		if r.Known != nil {
			where = r.Known.away(humanAge(a.now(), r.SeenAt))
			if note := r.Known.remarks(a.now()); note != "" {
				notes = append(notes, note)
			}
		}
		if r.Attached {
			where = r.Path
		}
		if r.TotalBytes > 0 {
			space = fmt.Sprintf("%s of %s free", humanBytes(r.FreeBytes), humanBytes(r.TotalBytes))
		}
		if !r.VerifiedAt.IsZero() {
			verified = r.VerifiedAt.Local().Format(time.DateOnly)
		}
		if r.Label != "" && sameLabel(rows, r.Label) {
			notes = append(notes, "two have this label: go by the id")
		}
		cells = append(cells, []string{r.Label, where, space, verified, short(r.ID), strings.Join(notes, "; ")})
	}
	return cells
}

// addKnownDrives adds the drives that the catalogue remembers and that are not here.
func (a *app) addKnownDrives(ctx context.Context, rows []driveRow) ([]driveRow, error) {
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return nil, err
	}
	defer cat.Close()
	known, err := cat.Drives(ctx)
	if err != nil {
		return nil, err
	}
	facts, err := a.knownDrives(ctx, cat)
	if err != nil {
		a.warn("where the drives are is not known: %v", err)
	}
	for _, k := range known {
		if i := slices.IndexFunc(rows, func(r driveRow) bool { return r.ID == k.ID }); i >= 0 {
			rows[i].VerifiedAt = k.VerifiedAt
			continue
		}
		rows = append(rows, driveRow{Drive: k.Drive, SeenAt: k.SeenAt, FreeBytes: k.FreeBytes, TotalBytes: k.TotalBytes, VerifiedAt: k.VerifiedAt})
	}
	for i, r := range rows {
		if k, ok := facts[r.ID]; ok {
			rows[i].Known = &k
		}
	}
	return rows, nil
}
