package main

import (
	"context"
	"time"

	"lifeboat/blockdev"
	"lifeboat/catalog"
	"lifeboat/rotation"
)

// hardwareFacts are what a run learnt of a drive as hardware. What was not
// measured is 0.
type hardwareFacts struct {
	writtenBytes, writeSpeed, readSpeed int64
	// health is asked of the disk only where there is time for it.
	health *blockdev.Health
}

// noteHardware remembers what an open drive is like now. It is bookkeeping: what
// fails is said, and stops nothing.
func (a *app) noteHardware(ctx context.Context, cat *catalog.Catalog, d *openedDrive, h hardwareFacts) {
	if cat == nil {
		return
	}
	f := catalog.DriveFact{DriveID: d.store.Drive().ID, At: a.now(), WrittenBytes: h.writtenBytes, WriteBytesPerSecond: h.writeSpeed, ReadBytesPerSecond: h.readSpeed}
	f.FreeBytes, f.TotalBytes, _ = d.dir.Space()
	if disk, err := blockdev.OfMount(d.found.Path); err == nil && !disk.System() {
		f.LinkMbit, f.Model, f.Serial = disk.LinkMbit, disk.Model, disk.Serial
	}
	if h.health != nil {
		f.Health, f.HealthWhy = string(h.health.Verdict), h.health.Why
	}
	if err := cat.RecordFact(context.WithoutCancel(ctx), f); err != nil {
		a.warn("%v", err)
	}
}

// warnOfLink says that a drive hangs on a slow link, and what that costs for so
// many bytes.
func (a *app) warnOfLink(d *openedDrive, bytes int64) {
	disk, err := blockdev.OfMount(d.found.Path)
	if err != nil {
		return
	}
	takes, slow := blockdev.SlowLink(disk.LinkMbit, bytes)
	if !slow {
		return
	}
	if bytes == 0 {
		a.warn("%s hangs on a slow USB link (%d Mbit/s): use another port or cable", d.name(), disk.LinkMbit)
		return
	}
	a.warn("%s hangs on a slow USB link (%d Mbit/s): %s take %s; use another port or cable", d.name(), disk.LinkMbit, humanBytes(bytes), humanDuration(takes))
}

// expectedBytes is about what an export will write to a drive: as much as the last
// one of each machine did there, and all of one that the drive does not have yet.
func expectedBytes(ctx context.Context, cat *catalog.Catalog, driveID string, jobs []exportJob) (n int64) {
	if cat == nil {
		return 0
	}
	for _, j := range jobs {
		points, err := cat.Points(ctx, catalog.PointFilter{MachineID: j.id})
		if err != nil {
			return n
		}
		var here, anywhere catalog.Point
		for _, p := range points {
			if p.TakenAt.After(anywhere.TakenAt) {
				anywhere = p
			}
			if p.DriveID == driveID && p.TakenAt.After(here.TakenAt) {
				here = p
			}
		}
		if here.PointID != "" {
			n += here.NewBytes
			continue
		}
		n += anywhere.DataBytes
	}
	return n
}

// writtenBytes is what a run wrote to its drive.
func writtenBytes(results []exportResult) (n int64) {
	for _, r := range results {
		n += r.WrittenBytes
	}
	return n
}

// slower says that a drive reads at less than half of what it did at its
// best before.
func slower(facts []catalog.DriveFact, now int64) (before int64, slow bool) {
	for _, f := range facts {
		before = max(before, f.ReadBytesPerSecond)
	}
	return before, now > 0 && now < before/2
}

// fills are how full a drive was, for its pace.
func fills(facts []catalog.DriveFact) []rotation.Fill {
	var all []rotation.Fill
	for _, f := range facts {
		all = append(all, rotation.Fill{At: f.At, FreeBytes: f.FreeBytes})
	}
	return all
}

// fullIn is the day on which a drive will be full if it goes on as in its own
// past, by the straight line that fits its free room best. It needs a week of it,
// and a drive that fills.
func fullIn(fills []rotation.Fill) (at time.Time, known bool) {
	const least = 7 * 24 * time.Hour
	if len(fills) < 2 || fills[len(fills)-1].At.Sub(fills[0].At) < least {
		return time.Time{}, false
	}
	last := fills[len(fills)-1]
	var n, sumX, sumY, sumXX, sumXY float64
	for _, f := range fills {
		x, y := f.At.Sub(last.At).Hours(), float64(f.FreeBytes)
		n, sumX, sumY, sumXX, sumXY = n+1, sumX+x, sumY+y, sumXX+x*x, sumXY+x*y
	}
	slope := (n*sumXY - sumX*sumY) / (n*sumXX - sumX*sumX) // bytes an hour
	const farAway = 20 * 365 * 24                          // hours: nobody plans for later
	if !(slope < 0) || float64(last.FreeBytes)/-slope > farAway {
		return time.Time{}, false
	}
	return last.At.Add(time.Duration(float64(last.FreeBytes) / -slope * float64(time.Hour))), true
}
