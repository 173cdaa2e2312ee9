package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// diskPlan says how one disk is read: whole, or what changed since the base.
type diskPlan struct {
	key      string
	size     int64
	src      Source
	fullRead string // why everything is read, or empty
	base     format.PointDisk
	// baseData is how many bytes of the base are not zeros.
	baseData int64
	changed  []lifeboat.Extent
	// root is the new tree, once the disk is captured.
	root format.ID

	// sinceCheck counts the exports before this one that believed the source's
	// change list; checks says that this one does not believe it unseen, and
	// wrong that it was found out.
	sinceCheck    int
	checks, wrong bool

	data, read, fresh, checked atomic.Int64
	// reread counts what was read although it did not change.
	reread, flanks atomic.Int64
}

// Why a disk is read whole. An operator sees these sentences.
const (
	fullFirst   = "the drive has no restore point of this machine yet"
	fullNewDisk = "the newest restore point does not have this disk"
	fullToken   = "the source cannot tell what changed since the newest restore point on this drive"
	fullShrunk  = "the disk was made smaller"
	fullDamaged = "damaged blocks on the drive are written again"
)

// plan decides how a disk is read.
func (r *captureRun) plan(ctx context.Context, d lifeboat.Disk) (*diskPlan, error) {
	p := &diskPlan{key: d.Key, size: d.SizeBytes, src: r.c.Sources[d.Key]}
	p.fullRead = r.findBase(p)
	if p.fullRead != "" {
		return p, nil
	}
	extents, ok, why := p.src.Changed(ctx)
	if !ok {
		p.fullRead = why
		if why == "" {
			p.fullRead = fullToken
		}
		return p, nil
	}
	if err := checkExtents(extents, lifeboat.Extent{Length: p.size}); err != nil {
		p.fullRead = "the source's change list makes no sense: " + err.Error()
		return p, nil
	}
	p.changed = slices.DeleteFunc(slices.Clone(extents), func(e lifeboat.Extent) bool { return e.Length == 0 })
	damaged, err := r.s.baseDamaged(ctx, p.base)
	if damaged {
		p.fullRead = fullDamaged
	}
	return p, err
}

// findBase looks for the disk in the machine's newest point and says why it
// cannot be used, or nothing.
func (r *captureRun) findBase(p *diskPlan) string {
	since := r.c.Since[p.key]
	switch {
	case !r.hasBase:
		return fullFirst
	case since == "":
		return fullToken
	}
	tree, ok := format.PointDisk{}, false
	for _, d := range r.base.Disks {
		if d.Key == p.key {
			tree, ok = d, true
		}
	}
	if !ok {
		return fullNewDisk
	}
	for _, d := range r.base.point.Disks {
		if d.Key == p.key && d.Token == since {
			if tree.Size > p.size {
				return fullShrunk
			}
			p.base, p.baseData = tree, d.DataBytes
			p.sinceCheck = d.SinceCheck
			p.checks = d.ChangeListWrong || d.SinceCheck+1 >= r.c.checkEvery()
			return ""
		}
	}
	return fullToken
}

// baseDamaged says whether a tree refers to chunks that are only in marked
// places. Those that an export does not read would never be written again.
func (s *Store) baseDamaged(ctx context.Context, d format.PointDisk) (bool, error) {
	if s.marks.empty() {
		return false, nil
	}
	t := s.newTree(d)
	var entries []format.Entry
	for region := range format.Regions(d.Size) {
		id, err := t.leafID(ctx, region)
		if err == nil {
			entries, err = s.leaf(ctx, id, entries[:0])
		}
		if errors.Is(err, lifeboat.ErrDamaged) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			if known, err := s.index.known(e.ID); err != nil || !known {
				return true, err
			}
		}
	}
	return false, nil
}

// checkExtents refuses extents that overlap, go back or leave the range.
func checkExtents(extents []lifeboat.Extent, within lifeboat.Extent) error {
	at := within.Offset
	for _, e := range extents {
		if e.Length < 0 || e.Offset < at || e.Length > within.End()-e.Offset {
			return fmt.Errorf("a run of %d bytes from %d", e.Length, e.Offset)
		}
		at = e.End()
	}
	return nil
}

func (p *diskPlan) totalBytes() int64 {
	if p.fullRead != "" {
		return p.size
	}
	var n int64
	for _, e := range p.changed {
		n += e.Length
	}
	return n
}

// readWhole gives up the base and returns what there is more to do.
func (p *diskPlan) readWhole(why string) int64 {
	before := p.totalBytes()
	p.fullRead = why
	p.changed = nil
	p.data.Store(0)
	return p.totalBytes() - before
}

func (p *diskPlan) result(token string) lifeboat.PointDisk {
	data := p.data.Load()
	if p.fullRead == "" {
		data += p.baseData
	}
	d := lifeboat.PointDisk{Key: p.key, DataBytes: data, ReadBytes: p.read.Load(), NewBytes: p.fresh.Load(),
		Token: token, FullRead: p.fullRead, CheckedBytes: p.checked.Load(), ChangeListWrong: p.wrong}
	if p.fullRead == "" && !p.checks {
		d.SinceCheck = p.sinceCheck + 1
	}
	return d
}

// regionTask is one region to be looked at.
type regionTask struct {
	region int64
	// dirty are the blocks that may differ from the base; nil means all.
	dirty []blockRun
	// extents are the runs to read where all blocks are.
	extents []lifeboat.Extent
	// work is what the region counts for in the progress.
	work int64
}

func regionExtent(region, size int64) lifeboat.Extent {
	offset := region * format.RegionSize
	return lifeboat.Extent{Offset: offset, Length: min(format.RegionSize, size-offset)}
}

// tasks emits the regions of the disk that have to be read, ascending, and
// counts the rest as done.
func (p *diskPlan) tasks(ctx context.Context, m *meter, emit func(regionTask) error) error {
	if p.fullRead != "" {
		return p.allRegions(ctx, m, emit)
	}
	return p.touchedRegions(ctx, emit)
}

// planWindow is how much of a disk the source is asked about at once.
const planWindow = 256 * format.RegionSize

func (p *diskPlan) allRegions(ctx context.Context, m *meter, emit func(regionTask) error) error {
	for offset := int64(0); offset < p.size; offset += planWindow {
		window := lifeboat.Extent{Offset: offset, Length: min(planWindow, p.size-offset)}
		extents, err := p.extents(ctx, window)
		if err != nil {
			return err
		}
		for region := offset / format.RegionSize; region*format.RegionSize < window.End(); region++ {
			within := regionExtent(region, p.size)
			t := regionTask{region: region, work: within.Length}
			t.extents, extents = clip(extents, within)
			if len(t.extents) == 0 {
				m.done.Add(t.work)
				continue
			}
			if err := emit(t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *diskPlan) extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	extents, err := p.src.Extents(ctx, within)
	if err == nil {
		err = checkExtents(extents, within)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the source for its extents: %w", err)
	}
	return extents, nil
}

// clip returns the parts of extents inside a range, and the extents that reach
// beyond it.
func clip(extents []lifeboat.Extent, within lifeboat.Extent) (inside, rest []lifeboat.Extent) {
	for i, e := range extents {
		if e.Offset >= within.End() {
			return inside, extents[i:]
		}
		from, to := max(e.Offset, within.Offset), min(e.End(), within.End())
		if from < to {
			inside = append(inside, lifeboat.Extent{Offset: from, Length: to - from})
		}
		if e.End() > within.End() {
			return inside, extents[i:]
		}
	}
	return inside, nil
}

// touchedRegions emits the regions that the change list touches, and from the
// old end on those of a disk that has grown.
func (p *diskPlan) touchedRegions(ctx context.Context, emit func(regionTask) error) error {
	changed := p.changed
	for next := int64(0); ; next++ {
		region := p.grownFrom()
		if len(changed) > 0 {
			region = min(region, changed[0].Offset/format.RegionSize)
		}
		if next = max(next, region); next >= format.Regions(p.size) {
			return nil
		}
		within := regionExtent(next, p.size)
		var inside []lifeboat.Extent
		inside, changed = clip(changed, within)
		t, err := p.touched(ctx, next, within, inside)
		if err == nil {
			err = emit(t)
		}
		if err != nil {
			return err
		}
	}
}

// grownFrom is the first region that is cut anew because the disk has grown, or
// one beyond the disk.
func (p *diskPlan) grownFrom() int64 {
	if p.size == p.base.Size {
		return format.Regions(p.size)
	}
	return p.base.Size / format.RegionSize
}

func (p *diskPlan) touched(ctx context.Context, region int64, within lifeboat.Extent, inside []lifeboat.Extent) (regionTask, error) {
	t := regionTask{region: region}
	for _, e := range inside {
		t.work += e.Length
	}
	blocks := format.Blocks(int(within.Length))
	if t.dirty = blockRuns(inside, within.Offset); region >= p.grownFrom() || len(t.dirty) == 1 && t.dirty[0] == (blockRun{0, blocks}) {
		t.dirty = nil
	}
	var err error
	t.extents, err = p.extents(ctx, within)
	return t, err
}

// blockRuns widens extents to whole blocks of a region and joins those that
// touch.
func blockRuns(extents []lifeboat.Extent, start int64) []blockRun {
	var runs []blockRun
	for _, e := range extents {
		from := int((e.Offset - start) / format.BlockSize)
		to := int((e.End() - start + format.BlockSize - 1) / format.BlockSize)
		if n := len(runs); n > 0 && from <= runs[n-1].to {
			runs[n-1].to = max(runs[n-1].to, to)
			continue
		}
		if from < to {
			runs = append(runs, blockRun{from, to})
		}
	}
	return runs
}
