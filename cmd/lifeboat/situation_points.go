package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/runbook"
)

// remembered adds a point that the catalogue knows and whose drive was not read.
// What its machine is like is found out later.
func (g *gathering) remembered(p catalog.Point) {
	kp := runbook.KnownPoint{DriveIDs: []string{p.DriveID}, VerifiedAt: p.WholeAt(), ProvenAt: p.ProvenAt, DataBytes: p.DataBytes,
		StoredBytes: int64(float64(p.DataBytes) * p.WholeDensity)}
	kp.RestorePoint = lifeboat.RestorePoint{ID: p.PointID, Sequence: p.Sequence, RunID: p.RunID, TakenAt: p.TakenAt, CommittedAt: p.CommittedAt,
		Consistency: p.Consistency, CopiedFrom: p.CopiedFrom, Together: p.Together}
	kp.Machine.ID, kp.Machine.Name = p.MachineID, p.MachineName
	for _, d := range p.Disks {
		kp.Disks = append(kp.Disks, lifeboat.PointDisk{Key: d.Key, DataBytes: d.DataBytes})
	}
	g.found = append(g.found, foundPoint{kp, p.DriveID})
	if old, ok := g.described[p.MachineID]; !ok || len(old.machine.Disks) == 0 && p.TakenAt.After(old.point.TakenAt) {
		g.described[p.MachineID] = described{kp.Machine, kp.RestorePoint}
	}
}

// damage marks the points in which damage was found that nothing has settled since.
func (g *gathering) damage(ctx context.Context, cat *catalog.Catalog) error {
	faults, err := cat.Faults(ctx, "")
	if err != nil {
		return err
	}
	for _, f := range faults {
		for i := range g.found {
			p := &g.found[i]
			if p.driveID == f.DriveID && p.ID == f.PointID && f.At.After(p.VerifiedAt) {
				p.Damage = fmt.Sprintf("damage was found on %s: %s", stamp(f.At), f.What)
			}
		}
	}
	return nil
}

// describe finds out what the machines are like whose points are only on drives
// that are away: as the hosts of the site have them now.
func (g *gathering) describe(ctx context.Context, site *siteFile) {
	bare := func() bool {
		for id, d := range g.described {
			if d.machine.MemoryBytes == 0 && !g.retired[id] {
				return true
			}
		}
		return false
	}
	if bare() && site != nil {
		listed, err := g.a.machines(ctx, site)
		if err != nil {
			g.a.warn("%v", err)
		}
		for _, m := range listed {
			d, known := g.described[m.Machine.ID]
			if known && d.machine.MemoryBytes == 0 && m.Recovery == "" {
				d.machine = m.Machine
				g.described[m.Machine.ID] = d
			}
		}
	}
	for id, d := range g.described {
		if !g.retired[id] {
			g.s.Machines[id] = d.machine
		}
	}
	for i := range g.found {
		if p := &g.found[i]; p.Machine.MemoryBytes == 0 {
			name := p.Machine.Name
			p.Machine = g.described[p.Machine.ID].machine
			p.Machine.Name = name
		}
	}
}

// points makes whole points of what was found: of a machine whose disks lie on
// several drives one, with a drive for each part.
func (g *gathering) points(onlyDrive string) {
	attached := map[string]bool{}
	for _, d := range g.s.Drives {
		attached[d.ID] = d.Attached
	}
	for _, p := range g.found {
		p.Failed = g.failed[p.RunID]
		if onlyDrive != "" && p.driveID != onlyDrive {
			continue
		}
		switch {
		case !p.IsPart():
			g.s.Points = append(g.s.Points, p.KnownPoint)
		case onlyDrive != "" || p.Together[0].PointID == p.ID:
			if whole, ok := g.whole(p, attached); ok {
				g.s.Points = append(g.s.Points, whole)
			}
		}
	}
	slices.SortStableFunc(g.s.Points, func(x, y runbook.KnownPoint) int {
		return strings.Compare(x.Machine.ID+x.ID+strings.Join(x.DriveIDs, " "), y.Machine.ID+y.ID+strings.Join(y.DriveIDs, " "))
	})
}

// whole puts the parts of a point together; ok is false while one is on no drive.
// Of copies of a part one that is at hand is taken.
func (g *gathering) whole(p foundPoint, attached map[string]bool) (runbook.KnownPoint, bool) {
	whole := p.KnownPoint
	whole.Disks, whole.DriveIDs = slices.Clone(p.Disks), slices.Clone(p.DriveIDs)
	for _, part := range p.Together {
		if part.PointID == p.ID {
			continue
		}
		var best *foundPoint
		for i := range g.found {
			o := &g.found[i]
			if o.ID == part.PointID && (best == nil || attached[o.driveID] && !attached[best.driveID]) {
				best = o
			}
		}
		if best == nil {
			return whole, false
		}
		whole.Disks = append(whole.Disks, best.Disks...)
		if !slices.Contains(whole.DriveIDs, best.driveID) {
			whole.DriveIDs = append(whole.DriveIDs, best.driveID)
		}
		whole.DataBytes += best.DataBytes
		whole.StoredBytes += best.StoredBytes
		if whole.Damage == "" {
			whole.Damage = best.Damage
		}
		if best.VerifiedAt.Before(whole.VerifiedAt) {
			whole.VerifiedAt = best.VerifiedAt
		}
	}
	return whole, true
}
