package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lifeboat"
	"lifeboat/imagestore"
)

// exportProgress adds up what the machines of one run report.
type exportProgress struct {
	p *progress
	// machines are to be exported, ended of them are done.
	machines, ended int
	mu              sync.Mutex
	by              map[string]imagestore.Progress
}

func (a *app) newExportProgress(r *run, machines int) *exportProgress {
	return &exportProgress{p: a.newProgress(r, "export"), machines: machines, by: map[string]imagestore.Progress{}}
}

func (e *exportProgress) show(machine string, p imagestore.Progress) {
	e.mu.Lock()
	e.by[machine] = p
	var done, total int64
	for _, one := range e.by {
		done += one.DoneBytes
		total += one.TotalBytes
	}
	e.mu.Unlock()
	e.p.show(done, total)
}

// done counts a machine as finished, however it ended.
func (e *exportProgress) done(machine string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.by[machine]
	p.DoneBytes = p.TotalBytes
	e.by[machine] = p
	if e.ended++; e.machines > 1 {
		e.p.name(fmt.Sprintf("export, %d of %d machines done,", e.ended, e.machines))
	}
}

// measure learns how fast the drive writes, if any machine is exported to it for
// the first time: before the first still is held, because it takes a while.
func (e *exportRun) measure(ctx context.Context, jobs []exportJob) {
	e.a.warnOfLink(e.drive, expectedBytes(ctx, e.cat, e.drive.store.Drive().ID, jobs))
	if e.a.quiet {
		return
	}
	for _, j := range jobs {
		if _, err := e.drive.store.Newest(ctx, j.id); errors.Is(err, imagestore.ErrNoPoint) {
			e.writeSpeed = e.drive.measureWriting(ctx)
			return
		}
	}
}

// estimate says before a first full export what it will cost. Speed and space
// are those of this drive, measured; the saving by compression is not known
// before, so the space is an upper bound.
func (e *exportRun) estimate(ctx context.Context, j exportJob, first bool, c imagestore.Capture) {
	if !first || e.writeSpeed <= 0 {
		return
	}
	var data int64
	for _, src := range c.Sources {
		runs, err := src.Extents(ctx, lifeboat.Extent{Length: src.SizeBytes()})
		if err != nil {
			return
		}
		for _, r := range runs {
			data += r.Length
		}
	}
	speed := e.writeSpeed
	seconds := float64(data) / speed
	text := fmt.Sprintf("%s: first export to %s: at most %s to write, at least %s at the %s/s that the drive writes",
		j.name, e.drive.name(), humanBytes(data), humanDuration(time.Duration(seconds*float64(time.Second))), humanBytes(int64(speed)))
	e.run.log(event{Event: "estimate", Machine: j.name, Text: text, TotalBytes: data, BytesPerSecond: speed, RemainingSeconds: seconds})
	if e.a.json {
		e.a.printJSON(event{Event: "estimate", Time: e.a.now().UTC(), Machine: j.name, Text: text, TotalBytes: data, BytesPerSecond: speed, RemainingSeconds: seconds})
		return
	}
	e.progress.p.end()
	e.a.note("%s", text)
}
