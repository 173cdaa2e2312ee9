package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/rotation"
)

// placeReserve is what the store on a drive needs beside its points: room for a
// prune, for the pack that is being written, and for what belongs to it.
const placeReserve = 256 << 20

// placement spreads the machines of the site, and those that are exported now,
// over the drives of a set. The shelf has to be that of the moment: what is free
// on the drives decides.
func (a *app) placement(ctx context.Context, j judgement, set rotation.Set, jobs []exportJob) (rotation.Placement, error) {
	machines := slices.Clone(j.shelf.Machines)
	for _, job := range jobs {
		i := slices.IndexFunc(machines, func(m rotation.ShelfMachine) bool { return m.ID == job.id })
		if i < 0 {
			machines = append(machines, rotation.ShelfMachine{ID: job.id, Name: job.name})
			i = len(machines) - 1
		}
		disks, err := job.size(ctx)
		if err != nil {
			return rotation.Placement{}, fmt.Errorf("%s: how large is it: %w", job.name, err)
		}
		machines[i] = withDisks(machines[i], disks, job.exclude)
	}
	return rotation.Place(rotation.Placing{Set: set, Drives: j.shelf.Drives, Machines: machines, Reserve: placeReserve}), nil
}

// withDisks gives a machine the disks that it has now. What a disk holds is known
// from its newest point; of a new one only how large it is at most.
func withDisks(m rotation.ShelfMachine, disks []rotation.ShelfDisk, exclude map[string]string) rotation.ShelfMachine {
	known := map[string]int64{}
	for _, d := range m.Disks {
		known[d.Key] = d.DataBytes
	}
	m.Disks, m.DataBytes, m.Retired = nil, 0, false
	for _, d := range disks {
		if exclude[d.Key] != "" {
			continue
		}
		if data, ok := known[d.Key]; ok {
			d.DataBytes = data
		}
		m.Disks = append(m.Disks, d)
		m.DataBytes += d.DataBytes
	}
	home := map[string]map[string]string{}
	for set, drives := range m.Home {
		home[set] = maps.Clone(drives)
		// A point of before disks were remembered has all of them.
		if all, ok := drives[""]; ok {
			for _, d := range m.Disks {
				home[set][d.Key] = all
			}
		}
	}
	m.Home = home
	return m
}

// addHomes says for each machine of the shelf which disks it has, and on which
// drives of each set they lie.
func addHomes(s *rotation.Shelf, sets []rotation.Set, points []catalog.Point) {
	byMachine := map[string][]catalog.Point{}
	for _, p := range points {
		byMachine[p.MachineID] = append(byMachine[p.MachineID], p)
	}
	for i := range s.Machines {
		m := &s.Machines[i]
		own := byMachine[m.ID]
		slices.SortStableFunc(own, func(a, b catalog.Point) int { return b.TakenAt.Compare(a.TakenAt) })
		if len(own) == 0 {
			continue
		}
		m.Disks, m.DataBytes = disksOfInstant(own)
		m.Home = map[string]map[string]string{}
		for _, set := range sets {
			m.Home[set.Name] = homeIn(set, s.Drives, own)
		}
	}
}

// disksOfInstant are the disks of a machine at the moment of its newest point, the
// parts of it together.
func disksOfInstant(newestFirst []catalog.Point) (disks []rotation.ShelfDisk, data int64) {
	newest, seen := newestFirst[0], map[string]bool{}
	for _, p := range newestFirst {
		of := p.PointID == newest.PointID || slices.ContainsFunc(newest.Together, func(part lifeboat.Part) bool { return part.PointID == p.PointID })
		if !of || seen[p.PointID] {
			continue
		}
		seen[p.PointID] = true
		data += p.DataBytes
		for _, d := range p.Disks {
			disks = append(disks, rotation.ShelfDisk{Key: d.Key, DataBytes: d.DataBytes})
		}
	}
	slices.SortFunc(disks, func(a, b rotation.ShelfDisk) int { return strings.Compare(a.Key, b.Key) })
	return disks, data
}

// homeIn is, by the keys of its disks, the drive of a set that has the newest
// point with each.
func homeIn(set rotation.Set, drives []rotation.ShelfDrive, newestFirst []catalog.Point) map[string]string {
	home := map[string]string{}
	for _, p := range newestFirst {
		if !slices.ContainsFunc(drives, func(d rotation.ShelfDrive) bool { return d.ID == p.DriveID && slices.Contains(set.Drives, d.Label) }) {
			continue
		}
		keys := []string{""}
		if p.Disks != nil {
			keys = keys[:0]
			for _, d := range p.Disks {
				keys = append(keys, d.Key)
			}
		}
		for _, key := range keys {
			if home[key] == "" {
				home[key] = p.DriveID
			}
		}
	}
	return home
}

// partsOf are the drives and the points of a part, as a shelf says them.
func partsOf(p catalog.Point) (drives, points []string) {
	for _, part := range p.Together {
		drives, points = append(drives, part.DriveID), append(points, part.PointID)
	}
	return drives, points
}

// partsVerified is when the whole machine of a point was verified: where it is a
// part, the date of the part that was read longest ago; zero while one was not.
func partsVerified(p catalog.Point, all []catalog.Point) time.Time {
	verified := p.WholeAt()
	for _, part := range p.Together {
		if part.PointID == p.PointID {
			continue
		}
		var best time.Time
		for _, o := range all {
			if o.PointID == part.PointID {
				best = later(best, o.WholeAt())
			}
		}
		if best.Before(verified) {
			verified = best
		}
	}
	return verified
}
