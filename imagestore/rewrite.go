package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"lifeboat"
	"lifeboat/imagestore/format"
)

const (
	// rewriteChunks is how many chunks are looked up together: the index is read
	// once for each group of packs that hold so many, which takes 32 MiB.
	rewriteChunks = 1 << 20
	// rewriteBatch is how much is written before packs are removed: a few packs
	// that are nearly full, so that small ones do not add up.
	rewriteBatch = 256 << 20
	// pruneSlack is the room that folders, small files and a new index run take.
	pruneSlack = 2 << 20
)

// leavingPack is a pack whose needed chunks are to be moved.
type leavingPack struct {
	*packUse
	directory format.Directory
}

// rewrite moves what is needed of packs, group by group, and removes them.
func (p *pruning) rewrite(ctx context.Context, sparse []*packUse) error {
	for len(sparse) > 0 {
		var group []leavingPack
		chunks := 0
		for len(sparse) > 0 && chunks < rewriteChunks {
			u := sparse[0]
			sparse = sparse[1:]
			d, err := p.directoryOf(ctx, u)
			if isGone(err) || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			if err != nil {
				p.keep(u, err)
				continue
			}
			for _, f := range d {
				chunks += len(f.Chunks)
			}
			group = append(group, leavingPack{u, d})
		}
		if err := p.moveGroup(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

func (p *pruning) directoryOf(ctx context.Context, u *packUse) (format.Directory, error) {
	o, err := p.s.openPack(u.pack)
	if err != nil {
		return nil, err
	}
	defer o.file.Close()
	return p.contents(ctx, o, u.number)
}

// groupNeeds says which chunks of a group of packs are needed, and which of
// those have a place in a pack that stays.
type groupNeeds struct {
	ids             []format.ID
	live, elsewhere bitmap
}

func (p *pruning) needsOf(ctx context.Context, group []leavingPack) (*groupNeeds, error) {
	n := &groupNeeds{}
	for _, u := range group {
		for _, f := range u.directory {
			for _, c := range f.Chunks {
				n.ids = append(n.ids, c.ID)
			}
		}
	}
	slices.SortFunc(n.ids, compareIDs)
	n.ids = slices.Compact(n.ids)
	n.live, n.elsewhere = make(bitmap, len(n.ids)/64+1), make(bitmap, len(n.ids)/64+1)
	for i, id := range n.ids {
		if p.live.missing[id] {
			n.live.set(int64(i))
		}
	}
	gone := p.s.packs.goneNow()
	err := p.live.join(ctx, n.ids, func(i int, e format.RunEntry, bit int64) {
		if p.live.bits.has(bit) {
			n.live.set(int64(i))
		}
		if !p.leaving[e.Place.Pack] && !gone[e.Place.Pack] && !p.s.marks.has(e.Place, e.ID) {
			n.elsewhere.set(int64(i))
		}
	})
	return n, err
}

func (n *groupNeeds) has(b bitmap, id format.ID) bool {
	i, ok := slices.BinarySearchFunc(n.ids, id, compareIDs)
	return ok && b.has(int64(i))
}

// packMover moves what is needed of a group of packs.
type packMover struct {
	p     *pruning
	needs *groupNeeds
	mover *frameMover
	// moved are packs of which everything was sent on and nothing synced yet,
	// and ids what was sent of them.
	moved   []*packUse
	ids     []format.ID
	covered map[format.RunPack]bool
	written int64
}

func (p *pruning) moveGroup(ctx context.Context, group []leavingPack) error {
	if len(group) == 0 {
		return nil
	}
	needs, err := p.needsOf(ctx, group)
	if err != nil {
		return err
	}
	m := &packMover{p: p, needs: needs, mover: p.s.newFrameMover(p.s, p.meter), covered: p.s.index.coveredNow()}
	for _, u := range group {
		if err = m.pack(ctx, u); err != nil {
			break
		}
	}
	if err == nil {
		err = m.settle(ctx)
	}
	return errors.Join(err, m.mover.close())
}

// pack moves what is needed of one pack, if there is room for it.
func (m *packMover) pack(ctx context.Context, u leavingPack) error {
	moved := min(u.needed+64*int64(u.live), u.size)
	room := moved + parityRoom(moved) + m.p.s.limits.packBytes + parityRoom(m.p.s.limits.packBytes) + pruneSlack
	if m.written >= rewriteBatch || !m.p.roomFor(room) {
		if err := m.settle(ctx); err != nil {
			return err
		}
	}
	if !m.p.roomFor(room) {
		m.p.report.NoRoom++
		delete(m.p.leaving, u.number)
		m.p.meter.done.Add(u.bytes())
		return nil
	}
	err := m.frames(ctx, u)
	if errors.Is(err, errKept) {
		m.p.keep(u.packUse, err)
		return nil
	}
	if err == nil {
		m.moved = append(m.moved, u.packUse)
		m.written += u.estimate()
	}
	return err
}

func (m *packMover) frames(ctx context.Context, u leavingPack) error {
	o, err := m.p.s.openPack(u.pack)
	if isDamage(err) && err != nil {
		return fmt.Errorf("%w: %w", errKept, err)
	}
	if err != nil {
		return err
	}
	defer o.file.Close()
	if m.p.s.packs.isTorn(u.number) && m.countNeeded(u) < u.live {
		return fmt.Errorf("%w: not all of its frames can be found", errKept)
	}
	var wanted []bool
	for _, f := range u.directory {
		if err := ctx.Err(); err != nil {
			return err
		}
		if wanted, err = m.wanted(ctx, u, f, wanted[:0]); err != nil {
			return err
		}
		if !slices.Contains(wanted, true) {
			continue
		}
		err := m.mover.move(o, f, u.pack.Tree, func(i int) bool { return wanted[i] })
		if dead := m.p.s.writer.err(); dead != nil {
			return dead
		}
		if err != nil && isDamage(err) {
			return fmt.Errorf("%w: frame at %d: %w", errKept, f.Offset, err)
		}
		if err != nil {
			return err
		}
		for i, c := range f.Chunks {
			if wanted[i] {
				m.ids = append(m.ids, c.ID)
			}
		}
	}
	return nil
}

// countNeeded counts the chunks that are needed of what was found in a pack.
func (m *packMover) countNeeded(u leavingPack) int {
	n := 0
	for _, f := range u.directory {
		for _, c := range f.Chunks {
			if m.needs.has(m.needs.live, c.ID) {
				n++
			}
		}
	}
	return n
}

// wanted says which chunks of a frame have to be moved: those that are needed
// and that no other pack gives back unharmed.
func (m *packMover) wanted(ctx context.Context, u leavingPack, f format.DirectoryFrame, wanted []bool) ([]bool, error) {
	for _, c := range f.Chunks {
		need := m.needs.has(m.needs.live, c.ID)
		if need && (m.needs.has(m.needs.elsewhere, c.ID) || m.p.newPlace(c.ID)) {
			good, err := m.p.goodElsewhere(ctx, c.ID, u.pack.Tree)
			if err != nil {
				return wanted, err
			}
			need = !good
		}
		wanted = append(wanted, need)
	}
	return wanted, nil
}

// newPlace says whether a chunk was moved already in this prune.
func (p *pruning) newPlace(id format.ID) bool {
	for _, r := range *p.s.index.runs.Load() {
		if slices.Contains(p.live.runs, r) || !r.may(id) {
			continue
		}
		if at, ok, err := p.s.index.findIn(r, id); ok && err == nil && !p.leaving[at.Pack] {
			return true
		}
	}
	return false
}

// goodElsewhere reads a chunk from the medium, from a place in a pack that stays.
func (p *pruning) goodElsewhere(ctx context.Context, id format.ID, tree bool) (bool, error) {
	gone := p.s.packs.goneNow()
	var bad []format.Place
	for {
		place, ok, err := p.s.index.searchRuns(id, func(at format.Place) bool {
			return !p.leaving[at.Pack] && !gone[at.Pack] && !slices.Contains(bad, at)
		})
		if err != nil || !ok {
			return false, err
		}
		err = p.freshen(place.Pack)
		if err == nil {
			err = p.s.useChunk(ctx, id, tree, place, func([]byte) error { return nil })
		}
		if err == nil || !isDamage(err) {
			return err == nil, err
		}
		bad = append(bad, place)
	}
}

// freshen sees to it that a pack is read from the medium: what a memory still
// holds of it does not count when another copy is to go.
func (p *pruning) freshen(number uint32) error {
	if p.fresh[number] {
		return nil
	}
	o, err := p.s.packs.acquire(number)
	if err != nil {
		return err
	}
	defer p.s.packs.release(o)
	if err := o.file.DropCache(0, o.size); err != nil {
		return err
	}
	p.s.frames.forget(number)
	p.fresh[number] = true
	return nil
}

// settle makes what was moved durable, reads it back from the medium, and only
// then removes the packs that it came from.
func (m *packMover) settle(ctx context.Context) error {
	if len(m.moved) == 0 {
		return nil
	}
	s := m.p.s
	if err := s.writer.sync(); err != nil {
		return err
	}
	now := s.index.coveredNow()
	for pack := range now {
		if m.covered[pack] {
			continue
		}
		if err := s.checkPack(ctx, pack); err != nil {
			return fmt.Errorf("read back what was moved: %w", err)
		}
	}
	for _, id := range m.ids {
		if !m.p.newPlace(id) {
			return fmt.Errorf("%w: the index does not have chunk %s, which was moved", lifeboat.ErrDamaged, id)
		}
	}
	m.covered = now
	m.p.report.RewrittenPacks += len(m.moved)
	err := m.p.retire(m.moved)
	m.moved, m.ids, m.written = nil, nil, 0
	return err
}
