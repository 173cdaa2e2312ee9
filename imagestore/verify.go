package imagestore

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// VerifyOptions narrow a verification. The zero value reads everything.
type VerifyOptions struct {
	// Points limits the verification to these points: their trees are walked,
	// and the packs are read that hold something of them.
	Points []string
	// Sample, between 0 and 1, is the share of the packs' bytes to read: those
	// that were read longest ago. 0 reads all. It goes with no Points.
	Sample float64
	// Unread reads only the packs that were never read back whole and good: what
	// was written since the last verification, and what was cut off by then. It
	// goes with no Points and no Sample, and goes on by itself where one was cut
	// off. A point of which every other pack was read before is read since the
	// oldest of those dates, see [CheckedPoint].
	Unread bool
	// Resume goes on with the same verification if it was interrupted less than
	// a week after it began: what it has read by then keeps its own date.
	Resume bool
	// Planned, if set, is called once, before the packs are read.
	Planned  func(VerifyPlan)
	Progress func(Progress)
}

// part says that some packs are not read, and that for them the record speaks.
func (o VerifyOptions) part() bool { return o.Sample > 0 || o.Unread }

// VerifyReport is what a verification found.
type VerifyReport struct {
	Points    int   `json:"points"`
	Packs     int   `json:"packs"`
	Frames    int64 `json:"frames"`
	Chunks    int64 `json:"chunks"`
	ReadBytes int64 `json:"readBytes"`
	// Faults are files or parts of files that are not what was written,
	// whether or not a point is hurt. Damage that an earlier verification
	// found and an export has healed since is not repeated.
	Faults []Fault `json:"faults,omitempty"`
	// Hurt lists what of which points cannot be restored, point by point.
	Hurt []Hurt `json:"hurt,omitempty"`

	// WithoutParity counts the packs that have none yet; the next writers make it.
	WithoutParity int `json:"withoutParity,omitempty"`

	// Sample is the share that was asked for; 0 means everything.
	Sample float64 `json:"sample,omitempty"`
	// Unread: only what was never read before was read.
	Unread bool       `json:"unread,omitempty"`
	Plan   VerifyPlan `json:"plan"`
	// Seconds and BytesPerSecond are those of reading the packs.
	Seconds        float64 `json:"seconds"`
	BytesPerSecond int64   `json:"bytesPerSecond"`
	// Slow says that the drive was more than twice as fast before, or is empty.
	Slow     string   `json:"slow,omitempty"`
	Coverage Coverage `json:"coverage"`
	// VerifiedAt is when this verification began, if it read everything and found
	// nothing lost.
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	// Checked says of each point what is known after this verification.
	Checked []CheckedPoint `json:"checked,omitempty"`
	// FromMemory says why what was read may have come from a memory and not from
	// the medium, or is empty. Then nothing counts as verified.
	FromMemory string `json:"fromMemory,omitempty"`
	// NotRecorded says why the drive does not remember this verification, or is
	// empty.
	NotRecorded string `json:"notRecorded,omitempty"`
}

// Lost says that something of the drive has no good copy on it.
func (r VerifyReport) Lost() bool {
	return len(r.Hurt) > 0 || slices.ContainsFunc(r.Faults, func(f Fault) bool { return f.Lost })
}

// Hurt is a part of a point that cannot be restored from this drive.
type Hurt struct {
	PointID string `json:"pointId"`
	Machine string `json:"machine"`
	Disk    string `json:"disk"`
	// Extents are the ranges of the disk, merged and ascending.
	Extents []lifeboat.Extent `json:"extents"`
}

// Verify reads every byte of the store from the medium, past the page cache,
// and recomputes every id. When it finds damage it returns the report and an
// error that wraps lifeboat.ErrDamaged; on a drive that can be written it also
// marks the damaged chunks, so that the next export writes them again, and
// records there when each pack was read and good. A verification that was
// interrupted, by the context or by the drive, can be gone on with: see Resume.
//
// A sample reads all small files and the whole index, some of the packs, and
// all trees: so it says what the packs hurt that it found damaged. So does a
// reading of what is unread.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	if err := s.begin(); err != nil {
		return VerifyReport{}, err
	}
	defer s.end()
	if o.Sample < 0 || o.Sample > 1 || o.part() && len(o.Points) > 0 || o.Sample > 0 && o.Unread {
		return VerifyReport{}, fmt.Errorf("a sample of %v of %d points, unread only: %v", o.Sample, len(o.Points), o.Unread)
	}
	v := s.newVerification(o)
	err := v.run(ctx)
	v.report.ReadBytes = v.meter.read.Load()
	if err != nil {
		return v.report, s.explain(fmt.Errorf("verify %s: %w", s.label(), err))
	}
	return v.report, v.verdict()
}

func (s *Store) newVerification(o VerifyOptions) *verification {
	v := &verification{s: s, o: o, meter: &meter{}, packs: map[uint32]*packState{}, marked: map[format.MarkEntry]bool{}, knownMarks: s.marks.packNumbers(),
		badLeaves: map[format.ID][]blockRun{}, badNodes: map[format.ID]bool{}, missing: map[format.ID]bool{}}
	v.report.Sample, v.report.Unread = o.Sample, o.Unread
	v.report.FromMemory = s.dir.Cached()
	v.late.v = v
	return v
}

// verification is one run of Verify.
type verification struct {
	s       *Store
	o       VerifyOptions
	meter   *meter
	records []record
	// listed are all points there are, whichever are verified.
	listed map[format.ShortID]bool
	// present are the packs on the drive with their sizes.
	present map[format.ID]int64
	checks  *checks
	// began is when this verification began, the part before an interruption
	// included, in seconds.
	began uint64

	mu     sync.Mutex
	report VerifyReport
	marks  format.Mark
	// marked are those that are noted on the drive already; notMarked says why
	// the last try failed, or is empty.
	marked    map[format.MarkEntry]bool
	notMarked string
	// knownMarks are the packs with marks that are no news, doubted those that
	// others have marked after this verification had read them.
	knownMarks map[uint32]bool
	doubted    []uint32
	packs      map[uint32]*packState

	// reading is held by whoever reads from the drive, see packWindow.
	reading sync.Mutex
	// late reads what turns out to be needed only when the points are walked.
	late packReader

	badLeaves map[format.ID][]blockRun
	badNodes  map[format.ID]bool

	// badParity are the packs whose parity is missing or rotten. missing is what
	// was found in no good place: true for a leaf or node.
	badParity []format.RunPack
	missing   map[format.ID]bool
	// unsaved: nothing of this is noted on the drive.
	unsaved bool
}

// packState is what the reading of a pack found.
type packState struct {
	// lost: nothing of it can be read.
	lost bool
	// at is when it was read, in seconds.
	at uint64
	// good holds the offsets of the frames that opened; only for a pack whose
	// directory cannot be read. Otherwise bad holds those that did not.
	good, bad map[uint32]bool
}

// damaged says that something of the pack is not as it was written.
func (p *packState) damaged() bool { return p.lost || len(p.bad) > 0 || p.good != nil }

func (v *verification) run(ctx context.Context) error {
	// The points are listed before the packs: what a capture commits meanwhile
	// is not this verification's business.
	records, faults, err := v.s.records(ctx)
	if err != nil {
		return err
	}
	v.report.Faults = faults
	v.listed = map[format.ShortID]bool{}
	for _, r := range records {
		v.listed[r.ID] = true
	}
	v.records = slices.DeleteFunc(records, func(r record) bool {
		return len(v.o.Points) > 0 && !slices.Contains(v.o.Points, r.point.ID)
	})
	for _, id := range v.o.Points {
		if !slices.ContainsFunc(v.records, func(r record) bool { return r.point.ID == id }) {
			return fmt.Errorf("%w: %s", ErrNoPoint, id)
		}
	}
	v.report.Points = len(v.records)
	if v.s.mode == Read {
		if err := v.s.index.load(ctx); err != nil {
			return err
		}
	}
	if err := v.smallFiles(ctx); err != nil {
		return err
	}
	if err := v.readIndex(ctx); err != nil {
		return err
	}
	if v.checks, err = v.s.loadChecks(); err != nil {
		return err
	}
	if v.report.FromMemory != "" {
		v.checks.unsaved = v.report.FromMemory
	}
	list, err := v.plan(ctx)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(p planned) bool { return v.packs[v.s.packs.add(p.RunPack)] != nil })
	if v.o.Planned != nil {
		v.o.Planned(v.report.Plan)
	}
	err = v.readPacks(ctx, list)
	if err == nil {
		err = v.walkPoints(ctx)
	}
	return v.finish(err)
}

func (v *verification) fault(f Fault) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, known := range v.report.Faults {
		if known.File == f.File && known.Why == f.Why {
			return
		}
	}
	v.report.Faults = append(v.report.Faults, f)
}

// readPacks reads the packs of a list, several at a time.
func (v *verification) readPacks(ctx context.Context, list []planned) error {
	v.meter.total.Store(v.report.Plan.TotalBytes)
	v.meter.done.Store(v.report.Plan.ResumedBytes)
	stop := v.meter.report(v.o.Progress)
	defer stop()
	defer v.timed(time.Now(), v.meter.read.Load())
	work := make(chan planned)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(work)
		for _, p := range list {
			select {
			case work <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	// One reads while the others keep the processors busy.
	for range runtime.GOMAXPROCS(0) + 1 {
		group.Go(func() error {
			r := packReader{v: v}
			for p := range work {
				if err := v.readPack(ctx, &r, p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// readPack reads a pack and notes what it is.
func (v *verification) readPack(ctx context.Context, r *packReader, p planned) error {
	at := seconds(v.s.now())
	if err := r.read(ctx, p.RunPack); err != nil {
		return err
	}
	if err := v.readParity(ctx, p.RunPack); err != nil {
		return err
	}
	number := v.s.packs.add(p.RunPack)
	v.mu.Lock()
	state := v.packs[number]
	state.at = at
	v.mu.Unlock()
	switch {
	case state.lost || len(state.bad) > 0 || state.good != nil && !v.s.packs.isTorn(number):
		v.checks.revoke(p.ID)
	case state.good == nil && v.report.FromMemory == "":
		v.checks.good(p.ID, at)
	}
	if !v.checks.due() {
		return nil
	}
	return v.save()
}

func (v *verification) lostPack(p format.RunPack, why error) {
	number := v.s.packs.add(p)
	v.mu.Lock()
	v.packs[number] = &packState{lost: true}
	v.mu.Unlock()
	v.damaged(p, 0, fmt.Errorf("nothing of it can be read: %w", why))
}

// damaged notes a frame, or with offset 0 a whole pack, that failed.
func (v *verification) damaged(p format.RunPack, offset uint32, why error) {
	v.checks.revoke(p.ID)
	place := format.NewPlace(v.s.packs.add(p), offset, 0, 0, 1)
	if v.s.marks.has(place, format.ID{}) {
		return // known, and either healed or told with the points it hurts
	}
	name := packName(p)
	if offset != 0 {
		name = fmt.Sprintf("%s at %d", name, offset)
	}
	v.fault(Fault{File: name, Lost: true, Why: why.Error()})
	v.checks.foundDamage()
	v.mu.Lock()
	v.marks = append(v.marks, format.MarkEntry{Pack: p.ID, Offset: offset})
	v.mu.Unlock()
}

// bad says whether a place was found to be damaged. A pack that was not read
// tells nothing good.
func (v *verification) bad(p format.Place) bool {
	state := v.packs[p.Pack]
	switch {
	case state == nil || state.lost:
		return true
	case state.good != nil:
		return !state.good[p.Offset]
	}
	return state.bad[p.Offset]
}

// verdict is the error for what was found, or nil.
func (v *verification) verdict() error {
	if len(v.report.Faults) == 0 && len(v.report.Hurt) == 0 {
		return nil
	}
	hurt := map[string]bool{}
	for _, h := range v.report.Hurt {
		hurt[h.PointID] = true
	}
	lost := 0
	for _, f := range v.report.Faults {
		if f.PointID != "" && f.Lost && !hurt[f.PointID] {
			lost++
		}
	}
	p := &lifeboat.Problem{
		What: fmt.Sprintf("%s is damaged in %d places; %d restore points cannot be restored whole", v.s.label(), len(v.report.Faults)+len(v.report.Hurt), len(hurt)+lost),
		Safe: v.whole(len(v.records) - len(hurt)),
		Next: "attach another drive of this site if there is one, and run: lifeboat repair --drive " + v.s.nameOnSticker(),
		Err:  lifeboat.ErrDamaged,
	}
	return p
}

// whole says what is known of the points that are not hurt.
func (v *verification) whole(others int) string {
	if v.o.part() {
		return fmt.Sprintf("nothing that was read hurts the other %d restore points on it", others)
	}
	return fmt.Sprintf("the other %d restore points on it are whole", others)
}
