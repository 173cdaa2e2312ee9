package imagestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// PruneOptions say what a prune keeps. The zero value keeps every listed point.
type PruneOptions struct {
	// Keep are the ids of the points that stay; all others are forgotten. Nil
	// means that all stay, and an empty list none.
	Keep []string
	// RewriteBelow is the share of a pack that is still needed below which what
	// is left of it is moved to a new one; 0 means a half. Then each byte that is
	// written gives back at least one, and a store never takes more than twice
	// what its points need.
	RewriteBelow float64
	// Untouched are ids of kept points: packs that hold anything of them are
	// neither removed nor written anew, however little of a pack that is. For the
	// points of which no other drive holds a good copy: what was read back of them
	// stays where it was read.
	Untouched []string
}

const defaultRewriteBelow = 0.5

// PrunePlan is what a prune would do. Sizes are bytes on the drive; those that
// end in Estimate are worked out from plain sizes.
type PrunePlan struct {
	// Forget are the ids of the points that go, Keep those that stay.
	Forget []string `json:"forget"`
	Keep   []string `json:"keep"`
	// PackBytes is what all packs take up now, here and below with their parity.
	PackBytes int64 `json:"packBytes"`
	// RemovePacks hold nothing that is needed, as the index has it, and go whole.
	// One that turns out to hold something after all is written anew instead.
	RemovePacks int   `json:"removePacks"`
	RemoveBytes int64 `json:"removeBytes"`
	// RewritePacks go too, once what is needed of them was written anew.
	RewritePacks         int   `json:"rewritePacks"`
	RewriteBytes         int64 `json:"rewriteBytes"`
	RewriteEstimateBytes int64 `json:"rewriteEstimateBytes"`
	// UntouchedPacks would be written anew if nothing untouched needed them;
	// UntouchedBytes is the room that stays taken because of it.
	UntouchedPacks int   `json:"untouchedPacks,omitempty"`
	UntouchedBytes int64 `json:"untouchedBytes,omitempty"`
	// FreeEstimateBytes is what the drive gets back.
	FreeEstimateBytes int64 `json:"freeEstimateBytes"`
}

// PlanPrune says what Prune would do with the same options. It reads trees and
// index, removes nothing, and works on a store opened in any mode; one that is
// open for writing finishes its captures first. It fails, as Prune does, when
// anything cannot be read that says what the kept points need.
func (s *Store) PlanPrune(ctx context.Context, o PruneOptions) (PrunePlan, error) {
	if err := s.begin(); err != nil {
		return PrunePlan{}, err
	}
	defer s.end()
	if s.mode.writes() {
		// A damaged run of the index is made anew, which no capture may meet.
		s.moving.Lock()
		defer s.moving.Unlock()
	}
	keep, gone, err := s.recordsOf(ctx, o.Keep)
	if err != nil {
		return PrunePlan{}, s.explain(err)
	}
	if s.mode == Read {
		if err := s.index.load(ctx); err != nil {
			return PrunePlan{}, s.explain(err)
		}
	}
	untouched, err := s.untouched(keep, o.Untouched)
	if err != nil {
		return PrunePlan{}, err
	}
	_, uses, err := s.survey(ctx, keep, untouched)
	if err != nil {
		return PrunePlan{}, s.explain(err)
	}
	p := decidePrune(uses, o).plan()
	for _, u := range uses {
		p.PackBytes += u.bytes()
	}
	for _, r := range keep {
		p.Keep = append(p.Keep, r.point.ID)
	}
	for _, g := range gone {
		p.Forget = append(p.Forget, g.ID.String())
	}
	return p, nil
}

// untouched picks the records whose packs stay as they are from those that are
// kept.
func (s *Store) untouched(keep []record, ids []string) (picked []record, err error) {
	for _, id := range ids {
		i := slices.IndexFunc(keep, func(r record) bool { return r.point.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("%w that stays on %s: %s", ErrNoPoint, s.label(), id)
		}
		picked = append(picked, keep[i])
	}
	return picked, nil
}

// survey finds out what points need, how much of each pack that is, and which
// packs hold something of the untouched ones. A writer makes a run of the index
// anew that turns out to be damaged, and begins again.
func (s *Store) survey(ctx context.Context, keep, untouched []record) (*liveness, []*packUse, error) {
	for {
		if s.mode.writes() {
			if err := s.healIndex(); err != nil {
				return nil, nil, s.wrote(err)
			}
		}
		var uses []*packUse
		l, err := s.liveOf(ctx, keep)
		if err == nil {
			uses, err = s.packUses(ctx, l)
		}
		if err == nil && len(untouched) > 0 {
			err = s.markUntouched(ctx, untouched, uses)
		}
		var broken *brokenRun
		if !errors.As(err, &broken) || isGone(err) || !s.mode.writes() {
			return l, uses, s.unknownNeeds(err)
		}
		s.index.distrust(broken.run, broken.why)
	}
}

// liveOf marks what points need.
func (s *Store) liveOf(ctx context.Context, keep []record) (*liveness, error) {
	l := s.newLiveness()
	for _, r := range keep {
		if err := l.add(ctx, r); err != nil {
			return nil, err
		}
	}
	return l, l.finish(ctx)
}

// markUntouched notes which packs hold something of some points, in whichever
// places.
func (s *Store) markUntouched(ctx context.Context, records []record, uses []*packUse) error {
	l, err := s.liveOf(ctx, records)
	if err != nil {
		return err
	}
	holds := map[uint32]bool{}
	err = l.each(ctx, l.bits, func(e format.RunEntry, _ int64) { holds[e.Place.Pack] = true })
	for _, u := range uses {
		u.untouched = holds[u.number]
	}
	return err
}

// unknownNeeds is the refusal to remove anything while nobody knows what is
// needed.
func (s *Store) unknownNeeds(err error) error {
	var broken *brokenRun
	if err == nil || isGone(err) || !errors.Is(err, lifeboat.ErrDamaged) && !errors.As(err, &broken) {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("it cannot be read on %s what the restore points need", s.label()),
		Safe: "nothing was removed",
		Next: "heal the drive with: lifeboat repair; or forget the points that are hurt, which lifeboat verify names",
		Err:  fmt.Errorf("%w: %w", lifeboat.ErrDamaged, err),
	}
}

// packUse is what is known of a pack before it is looked at.
type packUse struct {
	pack   format.RunPack
	number uint32
	// size is that of the file, parity that of the one which heals it; present
	// says that there is a pack.
	size, parity int64
	present      bool
	// tables counts the index runs that name the pack, entries what they say is
	// in it, and live what of that is needed.
	tables        int
	entries, live int
	// plain and needed are the bytes of those chunks, decoded. A chunk at a marked
	// place that is also elsewhere counts as live and not as needed: whether the
	// other place is good is found out when the pack is rewritten.
	plain, needed int64
	// untouched: it holds something of a point whose packs stay as they are.
	untouched bool
}

// share is how much of the pack is needed.
func (u *packUse) share() float64 { return float64(u.needed) / float64(max(u.plain, 1)) }

// bytes is what the pack takes up, with its parity.
func (u *packUse) bytes() int64 { return u.size + u.parity }

// estimate is what the needed chunks will take up.
func (u *packUse) estimate() int64 { return int64(u.share() * float64(u.bytes())) }

// packUses counts what of each pack that the index names is needed.
func (s *Store) packUses(ctx context.Context, l *liveness) ([]*packUse, error) {
	files, err := s.listPacks(ctx)
	if err != nil {
		return nil, err
	}
	var all []packUse
	at := func(n uint32) *packUse {
		for int(n) >= len(all) {
			all = append(all, packUse{number: uint32(len(all))})
		}
		return &all[n]
	}
	for _, r := range l.runs {
		for _, n := range r.packs {
			u := at(n)
			u.pack = s.packs.pack(n)
			u.tables++
		}
	}
	for _, f := range files {
		u := at(s.packs.add(f.RunPack))
		u.pack, u.present, u.size = f.RunPack, true, fileSize(f.entry)
	}
	err = s.walkPacks(ctx, func(folder string, e fs.DirEntry) {
		stem, isParity := strings.CutSuffix(e.Name(), ".par")
		if p, ok := parsePackName(folder, stem); ok && isParity {
			if u := at(s.packs.add(p)); u.present {
				u.parity = fileSize(e)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var marked []format.RunEntry
	err = l.each(ctx, nil, func(e format.RunEntry, bit int64) {
		u := &all[e.Place.Pack]
		u.entries++
		u.plain += int64(e.Place.Length())
		if l.bits.has(bit) {
			u.live++
			u.needed += int64(e.Place.Length())
			// A pack that is marked as a whole may hold more than anybody knows.
			if len(marked) < maxLiveChunks && !s.marks.hasFile(u.pack.ID) && s.marks.has(e.Place, e.ID) {
				marked = append(marked, e)
			}
		}
	})
	for _, e := range marked {
		good := func(at format.Place) bool { return all[at.Pack].present && !s.marks.has(at, e.ID) }
		if _, ok, err := s.index.searchRuns(e.ID, good); err != nil {
			return nil, err
		} else if ok {
			all[e.Place.Pack].needed -= int64(e.Place.Length())
		}
	}
	var uses []*packUse
	for i := range all {
		if all[i].tables > 0 {
			uses = append(uses, &all[i])
		}
	}
	return uses, err
}

// pruneDecision is what becomes of the packs.
type pruneDecision struct {
	dead, sparse []*packUse
	// untouched packs would be written anew, and stay as they are.
	untouched []*packUse
	// absent packs are named by the index and are not on the drive.
	absent []*packUse
}

// decidePrune sorts the packs. Those that give back most for what has to be
// written come first.
func decidePrune(uses []*packUse, o PruneOptions) pruneDecision {
	below := cmp.Or(o.RewriteBelow, defaultRewriteBelow)
	return decidePacks(uses, func(u *packUse) bool { return u.share() < below })
}

func decidePacks(uses []*packUse, rewrite func(*packUse) bool) pruneDecision {
	var d pruneDecision
	for _, u := range uses {
		switch {
		case !u.present:
			d.absent = append(d.absent, u)
		case u.live == 0:
			d.dead = append(d.dead, u)
		case u.untouched && rewrite(u):
			d.untouched = append(d.untouched, u)
		case rewrite(u):
			d.sparse = append(d.sparse, u)
		}
	}
	slices.SortStableFunc(d.sparse, func(a, b *packUse) int { return cmp.Compare(a.share(), b.share()) })
	return d
}

func (d pruneDecision) plan() PrunePlan {
	p := PrunePlan{Forget: []string{}, Keep: []string{}, RemovePacks: len(d.dead), RewritePacks: len(d.sparse)}
	for _, u := range d.dead {
		p.RemoveBytes += u.bytes()
	}
	for _, u := range d.sparse {
		p.RewriteBytes += u.bytes()
		p.RewriteEstimateBytes += u.estimate()
	}
	for _, u := range d.untouched {
		p.UntouchedPacks++
		p.UntouchedBytes += u.bytes() - u.estimate()
	}
	p.FreeEstimateBytes = p.RemoveBytes + p.RewriteBytes - p.RewriteEstimateBytes
	return p
}
