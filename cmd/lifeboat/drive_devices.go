package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"lifeboat/blockdev"
)

// deviceRow is a disk of this computer, as a person looks for it before
// `drive init`.
type deviceRow struct {
	blockdev.Device
	// Holds names what is on it. It is empty for an empty disk, and for one that
	// could not be looked at.
	Holds []string `json:"holds,omitempty"`
	// Usable: `drive init` makes a drive of it as it is, and nothing is erased.
	Usable bool `json:"usable"`
	// Why it is not usable, or only with --erase.
	Why string `json:"why,omitempty"`
}

// driveDevices lists the disks of this computer. It writes to none of them.
func (a *app) driveDevices(ctx context.Context) error {
	disks, err := blockdev.List()
	if err != nil {
		return err
	}
	rows := []deviceRow{}
	for _, d := range disks {
		// Packages of some systems are read-only files that are mounted: no disks.
		if d.Transport == "loop" && d.ReadOnly {
			continue
		}
		rows = append(rows, deviceRowOf(ctx, d))
	}
	if a.json {
		a.printJSON(rows)
		return nil
	}
	if len(rows) == 0 {
		a.print("no disks\n")
		return nil
	}
	var cells [][]string
	for _, r := range rows {
		use, about := "usable", r.Why
		if !r.Usable {
			use = "no"
		}
		if about == "" {
			about = "empty"
		}
		cells = append(cells, []string{r.Path, humanBytes(r.SizeBytes), cmp.Or(linkWords(r.Device), "-"), use, oneLine(plainText(fmt.Sprintf("%s: %s", diskName(r.Device), about)))})
	}
	a.print("%s", remarks(a.columns(), []string{"DISK", "SIZE", "LINK", "USE", ""}, cells))
	return nil
}

// deviceRowOf looks at one disk. It mounts nothing: somebody may be about to use it.
func deviceRowOf(ctx context.Context, d blockdev.Device) deviceRow {
	r := deviceRow{Device: d}
	if d.System() {
		r.Why = "holds the running system"
		return r
	}
	c, err := blockdev.Look(ctx, d)
	r.Holds = c.Found
	switch {
	case len(d.Uses) > 0:
		r.Why = "in use: " + d.Uses[0].String()
	case d.ReadOnly:
		r.Why = "write-protected"
	case errors.Is(err, fs.ErrPermission):
		r.Why = "only root may look what is on it"
	case err != nil:
		r.Why = fmt.Sprintf("cannot be read: %v", err)
	case c.Unfinished:
		r.Usable, r.Why = true, "holds a drive whose making was interrupted"
	case c.LaidOut:
		r.Why = "a Lifeboat drive"
		if len(c.Labels) > 0 {
			r.Why += " named " + c.Labels[0]
		}
	case !c.Empty():
		r.Why = "only with --erase: holds " + list(c.Found)
	default:
		if _, err := blockdev.PlanParts(d.SizeBytes, d.SectorBytes); err != nil {
			r.Why = "too small for a drive"
			break
		}
		r.Usable = true
	}
	return r
}

// diskName is what is printed on a disk: model and serial number.
func diskName(d blockdev.Device) string {
	name := d.Model
	if name == "" {
		name = "unnamed disk"
	}
	if d.Serial != "" {
		name += ", serial number " + d.Serial
	}
	return name
}
