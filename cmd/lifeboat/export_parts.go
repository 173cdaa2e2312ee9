package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/imagestore"
)

// A machine that is larger than any drive has its disks on several: one still, and
// of it a part on each drive. All parts are stored before the first is committed.

// exportPart is what goes to one drive of a machine that is exported: all of it,
// or some disks.
type exportPart struct {
	run *exportRun
	// keys are its disks; nil means all.
	keys []string
	// newest is the machine's newest point on the drive, without an id if it has none.
	newest lifeboat.RestorePoint
	// capture is set once the machine is held still.
	capture imagestore.Capture
}

// parts says what goes to which drive, and how the machine is to be held still for
// that.
func (e *exportRun) parts(ctx context.Context, j exportJob) ([]*exportPart, hypervisor.FreezeOptions, error) {
	o := hypervisor.FreezeOptions{Method: e.method, Since: map[string]string{}, Exclude: map[string]bool{}}
	for key := range j.exclude {
		o.Exclude[key] = true
	}
	var parts []*exportPart
	drives := slices.Compact(slices.Sorted(maps.Values(j.on)))
	if len(drives) < 2 {
		parts = []*exportPart{{run: e}}
		o.DriveID = e.drive.store.Drive().ID
	} else {
		o.DriveID = togetherID(drives)
		byDrive := map[string]*exportPart{}
		for _, key := range slices.Sorted(maps.Keys(j.on)) {
			id := j.on[key]
			if byDrive[id] == nil {
				byDrive[id] = &exportPart{run: e.beside[id]}
				parts = append(parts, byDrive[id])
			}
			byDrive[id].keys = append(byDrive[id].keys, key)
		}
	}
	for _, p := range parts {
		newest, err := p.run.drive.store.Newest(ctx, j.id)
		if err != nil && !errors.Is(err, imagestore.ErrNoPoint) {
			return nil, o, err
		}
		p.newest = newest
		for _, d := range newest.Disks {
			if d.Token != "" && (p.keys == nil || slices.Contains(p.keys, d.Key)) {
				o.Since[d.Key] = d.Token
			}
		}
	}
	return parts, o, nil
}

// togetherID stands for several drives where a host keeps one base of its change
// tracking for each drive: the drives of a part are always written together.
func togetherID(drives []string) string {
	sum := sha256.Sum256([]byte(strings.Join(drives, " ")))
	return hex.EncodeToString(sum[:16])
}

// divide gives each part its disks of the machine that is held still.
func divide(parts []*exportPart, c imagestore.Capture) error {
	c.Machine.NICs = withAddresses(c.Machine.NICs, newestOf(parts).Machine.NICs)
	if len(parts) == 1 {
		parts[0].capture = c
		return nil
	}
	var together []lifeboat.Part
	placed := map[string]bool{}
	for _, p := range parts {
		drive := p.run.drive.store.Drive()
		part := lifeboat.Part{PointID: newID(), DriveID: drive.ID, Label: drive.Label}
		for _, key := range p.keys {
			if c.Sources[key] != nil {
				part.Disks = append(part.Disks, key)
				placed[key] = true
			}
		}
		together = append(together, part)
	}
	for key := range c.Sources {
		if !placed[key] {
			return fmt.Errorf("disk %s came to the machine after its disks were given their drives; the next export places it", key)
		}
	}
	for i, p := range parts {
		if len(together[i].Disks) == 0 {
			return fmt.Errorf("the disks that were to go to %s are not in the machine any more; the next export places them anew", p.run.drive.name())
		}
		p.capture = c
		p.capture.Together, p.capture.PointID = together, together[i].PointID
		p.capture.Sources = map[string]imagestore.Source{}
		for _, key := range together[i].Disks {
			p.capture.Sources[key] = c.Sources[key]
		}
	}
	return nil
}

// newestOf is the newest of the points that the drives of the parts have.
func newestOf(parts []*exportPart) lifeboat.RestorePoint {
	return slices.MaxFunc(parts, func(a, b *exportPart) int { return a.newest.TakenAt.Compare(b.newest.TakenAt) }).newest
}

// store writes all parts, and then commits them, one after the other.
func (e *exportRun) store(ctx context.Context, j exportJob, parts []*exportPart, r *exportResult) ([]lifeboat.RestorePoint, error) {
	prepared := make([]*imagestore.Prepared, len(parts))
	defer func() {
		for _, p := range prepared {
			if p != nil {
				p.Drop()
			}
		}
	}()
	progress := partProgress{e: e, machine: j.name, r: r, by: make([]imagestore.Progress, len(parts))}
	writing, writingCtx := errgroup.WithContext(ctx)
	for i, p := range parts {
		p.capture.Progress = func(now imagestore.Progress) { progress.show(i, now) }
		p.run.estimate(ctx, j, p.newest.ID == "", p.capture)
		if p.newest.ID == "" {
			p.capture.WholeDensity = e.densityElsewhere(ctx, j.id)
		}
		writing.Go(func() (err error) {
			prepared[i], err = p.run.drive.store.Prepare(writingCtx, p.capture)
			return p.run.failed(err)
		})
	}
	if err := writing.Wait(); err != nil {
		return nil, err
	}
	var points []lifeboat.RestorePoint
	for i, p := range parts {
		// Between two commits nothing stops us that need not: the parts before
		// would be without their others.
		commitCtx := ctx
		if i > 0 {
			commitCtx = context.WithoutCancel(ctx)
		}
		point, err := prepared[i].Commit(commitCtx)
		if err != nil {
			return nil, p.run.failed(err)
		}
		points = append(points, point)
	}
	return points, nil
}

// partProgress adds up what the parts of one machine report.
type partProgress struct {
	e       *exportRun
	machine string
	mu      sync.Mutex
	r       *exportResult
	by      []imagestore.Progress
}

func (p *partProgress) show(i int, now imagestore.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.by[i] = now
	var sum imagestore.Progress
	for _, one := range p.by {
		sum.DoneBytes += one.DoneBytes
		sum.TotalBytes += one.TotalBytes
		sum.ReadBytes += one.ReadBytes
		sum.NewBytes += one.NewBytes
		sum.WrittenBytes += one.WrittenBytes
	}
	p.r.ReadBytes, p.r.NewBytes, p.r.WrittenBytes = sum.ReadBytes, sum.NewBytes, sum.WrittenBytes
	p.e.progress.show(p.machine, sum)
}

// onDrive is an error together with the drive that it came from.
type onDrive struct {
	run *exportRun
	error
}

func (o onDrive) Unwrap() error { return o.error }

func (e *exportRun) failed(err error) error {
	if err == nil {
		return nil
	}
	return onDrive{e, err}
}

// failedBy is the run of the drive that an error came from.
func (e *exportRun) failedBy(err error) *exportRun {
	var on onDrive
	if errors.As(err, &on) {
		return on.run
	}
	return e
}

// togetherWords says which disks are on which drive.
func togetherWords(parts []lifeboat.Part) string {
	var words []string
	for _, p := range parts {
		words = append(words, fmt.Sprintf("%s has %s", p.Label, strings.Join(p.Disks, ", ")))
	}
	return strings.Join(words, "; ")
}
