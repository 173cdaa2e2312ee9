package imagestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// DefaultCheckEvery is how often a list of changed blocks is checked against the
// disk. Change maps lie: more than one product has shipped restore points that
// were silently wrong because it read only the first page of the map.
const DefaultCheckEvery = 10

// A check reads one region in sampleShare of a disk, but sampleLeast at least.
// Of those, sampleLeast are read even where the source says that there is
// nothing but zeros: that list may be the one that lies.
const (
	sampleShare = 64
	sampleLeast = 32
)

func (c Capture) checkEvery() int {
	if c.CheckEvery <= 0 {
		return DefaultCheckEvery
	}
	return c.CheckEvery
}

// sampledRegion is a region whose unchanged blocks are looked at.
type sampledRegion struct {
	region int64
	// all: also what the source calls zeros.
	all bool
}

// sample picks regions at random, one from each stretch of the disk, so that
// neither a part of the disk nor a pattern can be missed for ever.
func (p *diskPlan) sample() []sampledRegion {
	regions := p.grownFrom()
	n := min(max(regions/sampleShare, sampleLeast), regions)
	every := max(n/sampleLeast, 1)
	picked := make([]sampledRegion, 0, n)
	for i := range n {
		from, to := i*regions/n, (i+1)*regions/n
		picked = append(picked, sampledRegion{region: from + rand.Int64N(to-from), all: i%every == 0})
	}
	return picked
}

// checkUnchanged reads a sample of what the change list leaves out, when it is
// time to, and returns errMapWrong where the disk holds something else than the
// older point.
func (r *captureRun) checkUnchanged(ctx context.Context, crew []*captureWorker, p *diskPlan) error {
	if p.fullRead != "" || !p.checks {
		return nil
	}
	sample := p.sample()
	// It takes its time like the reading of what changed, and counts like it.
	var left atomic.Int64
	for _, t := range sample {
		left.Add(regionExtent(t.region, p.size).Length)
	}
	r.meter.total.Add(left.Load())
	defer func() { r.meter.done.Add(left.Load()) }()
	tasks := make(chan sampledRegion)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(tasks)
		for _, t := range sample {
			select {
			case tasks <- t:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for _, w := range crew {
		group.Go(func() error {
			for t := range tasks {
				if err := w.unchanged(ctx, p, t); err != nil {
					return fmt.Errorf("check region %d: %w", t.region, err)
				}
				n := regionExtent(t.region, p.size).Length
				left.Add(-n)
				r.meter.done.Add(n)
			}
			return nil
		})
	}
	return group.Wait()
}

// unchanged compares the blocks of a region that did not change, as the source
// says, with the older point.
func (w *captureWorker) unchanged(ctx context.Context, p *diskPlan, t sampledRegion) error {
	buffer, err := w.r.s.takeBuffer(ctx)
	if err != nil {
		return err
	}
	defer w.r.s.giveBuffer(buffer)
	in := &regionReader{w: w, p: p, within: regionExtent(t.region, p.size)}
	in.buf = buffer[:in.within.Length]
	in.task.extents = []lifeboat.Extent{in.within}
	if !t.all {
		if in.task.extents, err = p.extents(ctx, in.within); err != nil {
			return err
		}
	}
	if err := w.oldLeaf(ctx, p, t.region); err != nil {
		return err
	}
	if err := in.load(ctx, 0, format.Blocks(len(in.buf))); err != nil {
		return err
	}
	p.checked.Add(in.loaded)
	s := &splicer{cutter: w.cutter, region: in, old: w.old, dirty: blockRuns(p.changedIn(in.within), in.within.Offset), blocks: format.Blocks(len(in.buf))}
	return s.compare(w.namer)
}

// changedIn returns the changed runs inside an extent.
func (p *diskPlan) changedIn(within lifeboat.Extent) []lifeboat.Extent {
	first := sort.Search(len(p.changed), func(i int) bool { return p.changed[i].End() > within.Offset })
	inside, _ := clip(p.changed[first:], within)
	return inside
}

// compare says whether the clean blocks of a region that was loaded whole are
// those of the older point. Chunks that changed in part are left to the cutting,
// which compares their flanks.
func (p *splicer) compare(namer *format.Namer) error {
	b := p.region.bytes()
	for _, e := range p.old {
		if slices.ContainsFunc(p.dirty, func(d blockRun) bool { return d.from < e.End() && e.Start < d.to }) {
			continue
		}
		if namer.Chunk(b[e.Start*format.BlockSize:min(e.End()*format.BlockSize, len(b))]) != e.ID {
			return errMapWrong
		}
	}
	for block := range p.blocks {
		if _, inChunk := p.oldChunk(block); !inChunk && !p.isDirty(block) && !p.cutter.IsZero(b, block) {
			return errMapWrong
		}
	}
	return nil
}
