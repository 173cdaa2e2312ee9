package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// PruneReport is what a prune did.
type PruneReport struct {
	// Forgotten are the points that are no longer listed.
	Forgotten int `json:"forgotten"`
	// RemovedPacks and RemovedBytes count all packs that went, with their parity,
	// RewrittenPacks those of them of which something was written anew.
	RemovedPacks   int   `json:"removedPacks"`
	RewrittenPacks int   `json:"rewrittenPacks"`
	RemovedBytes   int64 `json:"removedBytes"`
	// WrittenBytes are the new packs, with their parity.
	WrittenBytes int64 `json:"writtenBytes"`
	// FreedBytes is by how much packs, parity and index are smaller now; less than
	// 0 if they grew.
	FreedBytes int64 `json:"freedBytes"`
	// NoRoom counts the packs that stayed because the drive had no room to move
	// what is needed of them; a later prune goes on with them.
	NoRoom int `json:"noRoom"`
	// Untouched counts the packs that stayed as they are because they hold
	// something of a point that asked for it: [PruneOptions].
	Untouched int `json:"untouched,omitempty"`
	// Kept are packs that stayed because something of them cannot be read and
	// is nowhere else: they may hold the last good copy.
	Kept []Fault `json:"kept,omitempty"`
}

// Prune forgets the points that are not kept and gives back the room of what no
// kept point needs. The store was opened Alone. It may be stopped at any moment,
// by the context as by a power cut: every kept point is whole then, and the next
// prune goes on.
//
// It refuses, with an error that wraps lifeboat.ErrDamaged and before anything
// is removed, when it cannot read what says what the kept points need. A pack
// that cannot be read whole is kept; that is an error too, after the rest was
// done.
func (s *Store) Prune(ctx context.Context, o PruneOptions, progress func(Progress)) (PruneReport, error) {
	if err := s.beginMoving(); err != nil {
		return PruneReport{}, err
	}
	defer s.endMoving()
	keep, gone, err := s.recordsOf(ctx, o.Keep)
	if err != nil {
		return PruneReport{}, s.explain(err)
	}
	untouched, err := s.untouched(keep, o.Untouched)
	if err != nil {
		return PruneReport{}, err
	}
	live, uses, err := s.survey(ctx, keep, untouched)
	if err != nil {
		return PruneReport{}, s.explain(err)
	}
	p := s.newPruning(live)
	p.careful = len(untouched) > 0
	if err := p.forget(keep, gone); err != nil {
		return p.report, err
	}
	return p.finish(ctx, decidePrune(uses, o), progress)
}

// rewritePacks moves what the listed points need of the chosen packs, data and
// trees, to new packs that are sealed with the current master key, and removes
// the chosen ones, by the steps of a prune. When one of them had to be kept
// because it is damaged, the error wraps lifeboat.ErrDamaged.
func (s *Store) rewritePacks(ctx context.Context, choose func(format.RunPack, format.Header) bool, progress func(Progress)) error {
	if err := s.beginMoving(); err != nil {
		return err
	}
	defer s.endMoving()
	keep, _, err := s.recordsOf(ctx, nil)
	if err != nil {
		return s.explain(err)
	}
	live, uses, err := s.survey(ctx, keep, nil)
	if err != nil {
		return s.explain(err)
	}
	p := s.newPruning(live)
	uses = slices.DeleteFunc(uses, func(u *packUse) bool { return u.present && !p.chosen(u, choose) })
	report, err := p.finish(ctx, decidePacks(uses, func(*packUse) bool { return true }), progress)
	if err == nil && report.NoRoom > 0 {
		err = fmt.Errorf("%w: %d packs could not be written anew", lifeboat.ErrDriveFull, report.NoRoom)
	}
	return s.explain(err)
}

// chosen asks about a pack whose header can be read; one that cannot is kept,
// and told.
func (p *pruning) chosen(u *packUse, choose func(format.RunPack, format.Header) bool) bool {
	o, err := p.s.packs.acquire(u.number)
	if err != nil {
		p.keep(u, err)
		return false
	}
	defer p.s.packs.release(o)
	return choose(u.pack, o.key.Header())
}

// beginMoving keeps the store open and captures away until endMoving.
func (s *Store) beginMoving() error {
	if err := s.begin(); err != nil {
		return err
	}
	if s.mode != Alone {
		s.end()
		return fmt.Errorf("the store at %s was not opened alone", s.dir)
	}
	if err := s.writer.err(); err != nil {
		s.end()
		return err
	}
	s.moving.Lock()
	s.index.frozen.Store(true)
	return nil
}

func (s *Store) endMoving() {
	s.index.frozen.Store(false)
	s.moving.Unlock()
	s.end()
}

// pruning is one prune under way.
type pruning struct {
	s      *Store
	live   *liveness
	meter  *meter
	report PruneReport
	// leaving are the packs that are to go: what is only there is moved.
	leaving map[uint32]bool
	// careful: some points' packs stay as they are, so a pack of which the index
	// does not tell everything stays too.
	careful bool
	// fresh are packs of which no memory holds what was read before this prune.
	fresh map[uint32]bool
	// folders hold the names of removed packs, until they are synced.
	folders map[string]bool
	changed bool
}

func (s *Store) newPruning(l *liveness) *pruning {
	return &pruning{s: s, live: l, meter: &meter{}, leaving: map[uint32]bool{}, fresh: map[uint32]bool{}, folders: map[string]bool{}}
}

// forget takes the points off the list that are not kept. What may be removed
// was worked out for the kept ones: nobody may have added one since.
func (p *pruning) forget(keep []record, gone []format.HeadPoint) error {
	p.s.commitMu.Lock()
	defer p.s.commitMu.Unlock()
	if len(p.s.state.points) != len(keep)+len(gone) {
		return errors.New("the list of restore points changed meanwhile")
	}
	kept := make([]format.HeadPoint, len(keep))
	for i, r := range keep {
		kept[i] = format.HeadPoint{ID: r.ID, Sequence: r.Sequence, Hash: r.hash}
	}
	if err := p.s.forget(kept); err != nil {
		return err
	}
	p.report.Forgotten = len(gone)
	return nil
}

// finish removes, moves, and brings the index up to date.
func (p *pruning) finish(ctx context.Context, d pruneDecision, progress func(Progress)) (PruneReport, error) {
	packs, index, err := p.s.storedBytes(ctx)
	if err != nil {
		return p.report, p.s.explain(err)
	}
	p.report.Untouched = len(d.untouched)
	for _, u := range slices.Concat(d.dead, d.sparse) {
		p.leaving[u.number] = true
		p.meter.total.Add(u.bytes())
	}
	stop := p.meter.report(progress)
	err = p.run(ctx, d)
	stop()
	p.report.WrittenBytes = p.meter.written.Load()
	if packsNow, indexNow, failed := p.s.storedBytes(context.WithoutCancel(ctx)); failed == nil {
		p.report.WrittenBytes = packsNow - packs + p.report.RemovedBytes
		p.report.FreedBytes = packs + index - packsNow - indexNow
	}
	if err != nil {
		return p.report, p.s.explain(fmt.Errorf("prune %s: %w", p.s.label(), err))
	}
	return p.report, p.verdict()
}

func (p *pruning) run(ctx context.Context, d pruneDecision) error {
	if err := p.noteAbsent(ctx, d.absent); err != nil {
		return err
	}
	revived, err := p.removeDead(ctx, d.dead)
	if err == nil {
		err = p.rewrite(ctx, append(revived, d.sparse...))
	}
	if err != nil {
		return err
	}
	if err := p.syncFolders(); err != nil {
		return err
	}
	return p.tidyIndex()
}

// storedBytes is what the packs with their parity, and the index, take up.
func (s *Store) storedBytes(ctx context.Context) (packs, index int64, err error) {
	err = s.walkPacks(ctx, func(_ string, e fs.DirEntry) {
		if !e.IsDir() {
			packs += fileSize(e)
		}
	})
	if err != nil {
		return 0, 0, err
	}
	runs, err := s.dir.List("index")
	if err != nil {
		return 0, 0, fmt.Errorf("list the index: %w", err)
	}
	for _, e := range runs {
		index += fileSize(e)
	}
	return packs, index, nil
}

// keep notes a pack that stays though it should have gone.
func (p *pruning) keep(u *packUse, why error) {
	delete(p.leaving, u.number)
	p.meter.done.Add(u.bytes())
	p.s.log.Warn("a pack is kept because it cannot be read whole", "pack", packName(u.pack), "why", why)
	p.report.Kept = append(p.report.Kept, Fault{File: packName(u.pack), Lost: true, Why: why.Error()})
}

// verdict is the error for packs that had to be kept, or nil.
func (p *pruning) verdict() error {
	if len(p.report.Kept) == 0 {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%d packs on %s are damaged and were kept", len(p.report.Kept), p.s.label()),
		Safe: "nothing that a kept restore point needs was removed; all other packs were pruned",
		Next: "see what is hurt with: lifeboat verify; then heal it with: lifeboat repair",
		Err:  lifeboat.ErrDamaged,
	}
}
