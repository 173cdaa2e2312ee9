package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// shelf puts together everything that is known of the drives: from the catalogue,
// from the ledger, and which of them can be seen now. It reads no drive's store.
func (a *app) shelf(ctx context.Context, cat *catalog.Catalog) (rotation.Shelf, error) {
	drives, err := cat.Drives(ctx)
	if err != nil {
		return rotation.Shelf{}, err
	}
	points, err := cat.Points(ctx, catalog.PointFilter{})
	if err != nil {
		return rotation.Shelf{}, err
	}
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return rotation.Shelf{}, err
	}
	s := rotation.Shelf{Done: map[string]rotation.DoneStep{}}
	for _, d := range drives {
		s.Drives = append(s.Drives, shelfDrive(d, found, points))
	}
	s.Machines = shelfMachines(points)
	for _, p := range points {
		s.LastCommit = later(s.LastCommit, p.CommittedAt)
	}
	return s, nil
}

// shelfDrive is one drive as the catalogue knows it. Nothing says where it is
// until the ledger does: in the house, where it counts for least.
func shelfDrive(d catalog.Drive, found []rotation.Found, points []catalog.Point) rotation.ShelfDrive {
	sd := rotation.ShelfDrive{Drive: d.Drive, Place: custody.Place{State: custody.Onsite}, Since: d.CreatedAt,
		TotalBytes: d.TotalBytes, FreeBytes: d.FreeBytes, SeenAt: d.SeenAt, VerifiedAt: d.VerifiedAt}
	var paths []string
	for _, f := range found {
		if f.Drive.ID == d.ID {
			paths = append(paths, f.Path)
			sd.Attached = true
		}
	}
	if len(paths) > 1 {
		sd.Suspect = fmt.Sprintf("it is attached %d times, at %s: one is a copy of the other", len(paths), strings.Join(paths, " and "))
	}
	for _, p := range points {
		if p.DriveID == d.ID {
			sd.Points = append(sd.Points, shelfPoint(p))
		}
	}
	return sd
}

// shelfPoint is one point. Its date of verification is that of the block that
// was read longest ago, whether one verification read all or several together.
func shelfPoint(p catalog.Point) rotation.ShelfPoint {
	return rotation.ShelfPoint{ID: p.PointID, MachineID: p.MachineID, RunID: p.RunID, Sequence: p.Sequence, TakenAt: p.TakenAt, CommittedAt: p.CommittedAt,
		VerifiedAt: later(p.VerifiedAt, p.ReadSince), DataBytes: p.DataBytes, Copied: p.CopiedFrom != ""}
}

// shelfMachines are the machines that points are of, by name. A machine has the
// name and the size of its newest point.
func shelfMachines(points []catalog.Point) []rotation.ShelfMachine {
	newest := map[string]catalog.Point{}
	for _, p := range points {
		if known, ok := newest[p.MachineID]; !ok || p.TakenAt.After(known.TakenAt) {
			newest[p.MachineID] = p
		}
	}
	var all []rotation.ShelfMachine
	for _, p := range newest {
		all = append(all, rotation.ShelfMachine{ID: p.MachineID, Name: p.MachineName, DataBytes: p.DataBytes})
	}
	slices.SortFunc(all, func(x, y rotation.ShelfMachine) int { return strings.Compare(x.Name+"\x00"+x.ID, y.Name+"\x00"+y.ID) })
	return all
}

func later(x, y time.Time) time.Time {
	if y.After(x) {
		return y
	}
	return x
}
