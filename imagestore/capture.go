package imagestore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// Source is one disk, held at one moment. hypervisor.StillDisk is one.
type Source interface {
	// SizeBytes is the exact size of the disk.
	SizeBytes() int64
	// Changed returns a superset of what differs from the point whose token the
	// source was asked for, ascending and without overlaps; or ok false and why.
	Changed(ctx context.Context) (extents []lifeboat.Extent, ok bool, why string)
	// Extents returns the runs inside the given one that may hold anything but
	// zeros, ascending and without overlaps.
	Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error)
	// ReadAt fills p from offset or fails. Many reads may be in flight.
	ReadAt(ctx context.Context, p []byte, offset int64) error
}

// Capture is one machine, held still, to be stored as a restore point.
type Capture struct {
	Machine lifeboat.Machine
	RunID   string
	// Together lists the parts of a machine whose disks go to several drives, and
	// PointID which of them this one is; both are empty for a whole machine.
	Together    []lifeboat.Part
	PointID     string
	TakenAt     time.Time
	Consistency lifeboat.Consistency
	// Host is the host the machine runs on; Program the version of Lifeboat.
	Host, Program string
	// Sources holds the disks by their keys. Each disk of the machine has one,
	// unless it is excluded or in another part.
	Sources map[string]Source
	// Tokens are the sources' own names for this moment, kept in the point.
	Tokens map[string]string
	// Since holds, by disk key, the token that the source's change list counts
	// from. A list is used only if the machine's newest point on this drive
	// carries that very token.
	Since map[string]string
	// CheckEvery says how often change lists are not believed unseen: with every
	// so many exports of a disk a sample of what its list calls unchanged is read
	// and compared with the older point. 0 means [DefaultCheckEvery].
	CheckEvery int
	// WholeDensity is how dense all the machine's data was on another drive, as
	// [lifeboat.Change] says it, or 0: what a first export is compared with.
	WholeDensity float64
	// Workers is the number of goroutines that read, hash and compress each disk;
	// 0 means two more than there are processors.
	Workers int
	// DisksAtOnce is how many disks are captured at the same time; 0 means 2. A
	// source that gives a disk as one stream is then not alone to wait for.
	DisksAtOnce int
	// Progress, if set, is called about every tenth of a second and at the end,
	// never twice at a time.
	Progress func(Progress)
}

// Capture stores a machine and returns the new restore point once it is
// committed: from then on it survives a power cut. Until then the store lists
// what it listed before; on error or cancel nothing needs cleaning, and blocks
// that were already written are reused by the next try. Several captures may
// run at once.
//
// Errors wrap lifeboat.ErrDriveFull, lifeboat.ErrDriveGone, the context's error
// or the source's.
func (s *Store) Capture(ctx context.Context, c Capture) (lifeboat.RestorePoint, error) {
	p, err := s.Prepare(ctx, c)
	if err != nil {
		return lifeboat.RestorePoint{}, err
	}
	return p.Commit(ctx)
}

// store brings what c has onto the drive, durably.
func (s *Store) store(ctx context.Context, c Capture) (lifeboat.RestorePoint, []format.PointDisk, error) {
	var none lifeboat.RestorePoint
	if err := s.writable(); err != nil {
		return none, nil, err
	}
	if err := c.check(); err != nil {
		return none, nil, err
	}
	if err := errors.Join(s.writer.err(), s.checkRoom()); err != nil {
		return none, nil, err
	}
	run, err := s.newCaptureRun(ctx, c)
	if err != nil {
		return none, nil, err
	}
	stop := run.meter.report(c.Progress)
	trees, disks, err := run.disks(ctx)
	if closeErr := run.close(); err == nil {
		err = closeErr
	}
	// The last report counts what the sync writes: the frames not yet full.
	if err == nil {
		err = s.writer.sync()
	}
	stop()
	if err != nil {
		return none, nil, err
	}
	return run.point(disks), trees, nil
}

// check refuses what could not be restored.
func (c Capture) check() error {
	if c.Machine.ID == "" {
		return errors.New("the machine has no id")
	}
	seen := map[string]bool{}
	for _, d := range c.Machine.Disks {
		src := c.Sources[d.Key]
		switch {
		case d.Key == "" || seen[d.Key]:
			return fmt.Errorf("the machine has two disks with the key %q", d.Key)
		case d.SizeBytes < 0 || d.SizeBytes > format.MaxDiskSize:
			return fmt.Errorf("disk %s has a size of %d bytes", d.Key, d.SizeBytes)
		case d.Excluded != "" && src != nil:
			return fmt.Errorf("disk %s is excluded (%s) and given all the same", d.Key, d.Excluded)
		case c.elsewhere(d.Key) && src != nil:
			return fmt.Errorf("disk %s is in another part and given all the same", d.Key)
		case d.Excluded == "" && src == nil && !c.elsewhere(d.Key):
			return fmt.Errorf("disk %s is neither given nor excluded", d.Key)
		case src != nil && src.SizeBytes() != d.SizeBytes:
			return fmt.Errorf("disk %s has %d bytes, but its description says %d", d.Key, src.SizeBytes(), d.SizeBytes)
		}
		seen[d.Key] = true
	}
	for key := range c.Sources {
		if !seen[key] {
			return fmt.Errorf("the machine has no disk %q", key)
		}
	}
	return nil
}

// captureRun is one machine on its way onto the drive.
type captureRun struct {
	s       *Store
	c       Capture
	base    record
	hasBase bool
	meter   *meter
	trees   *frameBuilder
	// crews hold the workers, one crew for each disk that is captured at once.
	crews chan []*captureWorker
}

func (s *Store) newCaptureRun(ctx context.Context, c Capture) (*captureRun, error) {
	r := &captureRun{s: s, c: c, meter: &meter{}}
	var err error
	if r.base, r.hasBase, err = s.newest(ctx, c.Machine.ID); err != nil {
		return nil, err
	}
	n := c.Workers
	if n <= 0 {
		// While some wait for the source, the others keep the processors busy.
		n = runtime.GOMAXPROCS(0) + 2
	}
	r.trees = s.writer.newBuilder(true, &r.meter.trees)
	r.crews = make(chan []*captureWorker, c.disksAtOnce())
	for range cap(r.crews) {
		var crew []*captureWorker
		for range n {
			crew = append(crew, r.newWorker())
		}
		r.crews <- crew
	}
	return r, nil
}

func (c Capture) disksAtOnce() int {
	if c.DisksAtOnce <= 0 {
		return min(2, max(1, len(c.Sources)))
	}
	return c.DisksAtOnce
}

// close hands on what was claimed; it must be called whatever happened.
func (r *captureRun) close() error {
	err := r.trees.close()
	for range cap(r.crews) {
		for _, w := range <-r.crews {
			err = errors.Join(err, w.chunks.close())
		}
	}
	return err
}

// disks captures every disk that is not excluded and returns their trees and what
// the point says of them.
func (r *captureRun) disks(ctx context.Context) ([]format.PointDisk, []lifeboat.PointDisk, error) {
	var plans []*diskPlan
	for _, d := range r.c.Machine.Disks {
		if d.Excluded != "" || r.c.elsewhere(d.Key) {
			continue
		}
		p, err := r.plan(ctx, d)
		if err != nil {
			return nil, nil, fmt.Errorf("disk %s: %w", d.Key, err)
		}
		r.meter.total.Add(p.totalBytes())
		plans = append(plans, p)
	}
	if err := r.captureAll(ctx, plans); err != nil {
		return nil, nil, err
	}
	if again := doubtful(plans); len(again) > 0 {
		if err := r.captureAll(ctx, again); err != nil {
			return nil, nil, err
		}
	}
	var trees []format.PointDisk
	var done []lifeboat.PointDisk
	for _, p := range plans {
		trees = append(trees, format.PointDisk{Key: p.key, Size: p.size, Root: p.root})
		done = append(done, p.result(r.c.Tokens[p.key]))
	}
	slices.SortFunc(trees, func(a, b format.PointDisk) int { return strings.Compare(a.Key, b.Key) })
	return trees, done, nil
}

// doubtful returns the disks whose change lists were believed although that of
// another disk of the machine was found to be wrong: the same host keeps them.
// They are to be captured again, with a check.
func doubtful(plans []*diskPlan) []*diskPlan {
	if !slices.ContainsFunc(plans, func(p *diskPlan) bool { return p.wrong }) {
		return nil
	}
	var again []*diskPlan
	for _, p := range plans {
		if p.fullRead == "" && !p.checks {
			p.checks = true
			p.data.Store(0)
			again = append(again, p)
		}
	}
	return again
}

// captureAll captures disks, a few at a time.
func (r *captureRun) captureAll(ctx context.Context, plans []*diskPlan) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cap(r.crews))
	for _, p := range plans {
		group.Go(func() error {
			crew := <-r.crews
			root, err := r.disk(ctx, crew, p)
			r.crews <- crew
			if err != nil {
				return fmt.Errorf("disk %s: %w", p.key, err)
			}
			p.root = root
			return nil
		})
	}
	return group.Wait()
}

// disk captures one disk. When its change list turns out to be useless, it is
// read whole after all.
func (r *captureRun) disk(ctx context.Context, crew []*captureWorker, p *diskPlan) (format.ID, error) {
	var root format.ID
	err := r.checkUnchanged(ctx, crew, p)
	if err == nil {
		root, err = r.readDisk(ctx, crew, p)
	}
	if err == nil || p.fullRead != "" {
		return root, err
	}
	why := "the older restore point cannot be read whole"
	if errors.Is(err, errMapWrong) {
		why, p.wrong = "the source's change list was wrong", true
	} else if !errors.Is(err, lifeboat.ErrDamaged) {
		return root, err
	}
	r.s.log.Warn("reading a disk whole after all", "machine", r.c.Machine.Name, "disk", p.key, "why", err)
	r.meter.total.Add(p.readWhole(why))
	return r.readDisk(ctx, crew, p)
}

func (r *captureRun) point(disks []lifeboat.PointDisk) lifeboat.RestorePoint {
	return lifeboat.RestorePoint{
		ID: r.c.PointID, Together: r.c.Together, RunID: r.c.RunID, TakenAt: r.c.TakenAt, Consistency: r.c.Consistency, Host: r.c.Host,
		Machine: r.c.Machine, Disks: disks, Program: r.c.Program, Change: r.change(disks),
	}
}

// change compares what this capture stored with the machine's older points. It
// is asked when everything was written.
func (r *captureRun) change(disks []lifeboat.PointDisk) *lifeboat.Change {
	n := newData{stored: r.meter.written.Load()}
	for _, d := range disks {
		n.data += d.DataBytes
		n.fresh += d.NewBytes
	}
	if !r.hasBase {
		return judgeFirst(n, r.c.WholeDensity)
	}
	return judgeChange(n, r.base.point.Change)
}
