package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// index tells where chunks are: in the runs on the drive, in what this process
// has written since the last run, and in what it found by scanning packs that
// no run covers.
type index struct {
	s       *Store
	namers  *namers
	runs    atomic.Pointer[[]*run]
	pending *pending
	// found holds what a reader found by scanning; it is no deduplication hit,
	// because nobody knows whether those packs were ever synced.
	found *pending
	pages pageCache

	// frozen: no run is merged for now. A prune first makes room for that.
	frozen atomic.Bool

	// loading: one load at a time, or two would publish the same run.
	loading sync.Mutex

	mu sync.Mutex
	// retired files belong to runs that were merged into others; a look-up may
	// still be reading them.
	retired []durable.ReadFile
	faults  []Fault
	covered map[format.RunPack]bool
}

func newIndex(s *Store) *index {
	x := &index{s: s, pending: newPending(), found: newPending(), pages: pageCache{used: pageCacheSlots}, covered: map[format.RunPack]bool{}}
	x.runs.Store(&[]*run{})
	return x
}

// load opens every run that can be opened and is not open yet. One that cannot
// is a fault, and its packs count as covered by no run.
func (x *index) load(ctx context.Context) error {
	x.loading.Lock()
	defer x.loading.Unlock()
	// A writer may merge runs away while they are being opened; then the run
	// that took them in is in the next listing.
	for range 10 {
		vanished, err := x.loadListed(ctx)
		if err != nil || !vanished {
			return err
		}
	}
	return nil
}

func (x *index) loadListed(ctx context.Context) (vanished bool, err error) {
	names, err := x.s.dir.List("index")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // a lost index is found again by scanning packs
	}
	if err != nil {
		return false, fmt.Errorf("list the index: %w", err)
	}
	for _, e := range names {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		text, ok := strings.CutSuffix(e.Name(), ".run")
		id, err := format.ParseID(text)
		if !ok || err != nil || x.has(id) {
			continue
		}
		err = x.open(id)
		if errors.Is(err, fs.ErrNotExist) {
			vanished = true
		} else if err != nil {
			return false, err
		}
	}
	for _, old := range x.dropReplaced() {
		if !x.s.mode.writes() {
			continue
		}
		// A power cut left it behind. Once its successor is replaced as well,
		// nothing would say any more that it is not to be read.
		if err := x.remove(runName(old)); err != nil {
			return false, err
		}
	}
	return vanished, nil
}

func (x *index) has(id format.ID) bool {
	for _, r := range *x.runs.Load() {
		if r.id == id {
			return true
		}
	}
	return false
}

func (x *index) open(id format.ID) error {
	r, err := x.s.openRun(id)
	switch {
	case err == nil:
		x.publish(r)
		return nil
	case isGone(err), errors.Is(err, fs.ErrNotExist):
		return err
	case errors.Is(err, format.ErrNewer):
		return x.s.newer()
	}
	x.s.log.Warn("an index run cannot be read", "run", id, "why", err)
	x.fault(runName(id), err)
	return nil
}

func (x *index) fault(file string, why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.faults {
		if f.File == file {
			return
		}
	}
	x.faults = append(x.faults, Fault{File: file, Lost: true, Why: why.Error()})
}

// distrust notes that a page of a run cannot be read: its packs have to be
// scanned for what it does not tell any more.
func (x *index) distrust(r *run, why error) {
	if isGone(why) || r.broken.Swap(true) {
		return
	}
	x.fault(runName(r.id), why)
	x.mu.Lock()
	for _, p := range r.packs {
		delete(x.covered, x.s.packs.pack(p))
	}
	x.mu.Unlock()
	x.s.scanned.Store(false)
}

// distrustMarked distrusts the runs in which a verification found damage.
func (x *index) distrustMarked() {
	for _, r := range *x.runs.Load() {
		if x.s.marks.hasFile(r.id) {
			x.distrust(r, errMarked)
		}
	}
}

var errMarked = errors.New("a verification found it damaged")

// brokenRuns are those that have to be made anew.
func (x *index) brokenRuns() (broken []*run) {
	for _, r := range *x.runs.Load() {
		if r.broken.Load() {
			broken = append(broken, r)
		}
	}
	return broken
}

// healed forgets the faults of files that are no longer part of the index.
func (x *index) healed(names ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.faults = slices.DeleteFunc(x.faults, func(f Fault) bool { return slices.Contains(names, f.File) })
}

// unreadable are the names of runs that could not be opened.
func (x *index) unreadable() (names []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.faults {
		names = append(names, f.File)
	}
	return names
}

// publish adds a run and takes out those that it replaces.
func (x *index) publish(r *run) {
	x.mu.Lock()
	defer x.mu.Unlock()
	runs := append([]*run{r}, *x.runs.Load()...)
	for _, p := range r.packs {
		x.covered[x.s.packs.pack(p)] = true
	}
	x.runs.Store(&runs)
}

// dropReplaced takes runs out that another one replaces.
func (x *index) dropReplaced() (dropped []format.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	replaced := map[format.ID]bool{}
	for _, r := range *x.runs.Load() {
		for _, id := range r.replaced {
			replaced[id] = true
		}
	}
	var kept []*run
	for _, r := range *x.runs.Load() {
		if !replaced[r.id] {
			kept = append(kept, r)
			continue
		}
		x.retired = append(x.retired, r.file)
		dropped = append(dropped, r.id)
	}
	x.runs.Store(&kept)
	x.coverAgain()
	return dropped
}

// coverAgain works out which packs the runs cover: one that was taken out may
// have named packs that are gone. The caller holds mu.
func (x *index) coverAgain() {
	clear(x.covered)
	for _, r := range *x.runs.Load() {
		for _, p := range r.packs {
			if !r.broken.Load() {
				x.covered[x.s.packs.pack(p)] = true
			}
		}
	}
}

// noteMissing marks the packs that runs cover and the drive does not have any
// more: what was in them is no deduplication hit.
func (x *index) noteMissing(present map[format.RunPack]bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for p := range x.covered {
		if !present[p] {
			x.s.log.Warn("a pack is missing", "pack", packName(p))
			x.s.marks.addPack(x.s.packs.add(p))
		}
	}
}

// coveredNow returns the packs that runs cover at this moment.
func (x *index) coveredNow() map[format.RunPack]bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.covered)
}

func (x *index) isCovered(p format.RunPack) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.covered[p]
}

// find returns where a chunk is, if there is a place that is not marked.
func (x *index) find(id format.ID) (format.Place, bool, error) {
	return x.search(id, func(p format.Place) bool { return !x.s.marks.has(p, id) })
}

// known says whether a chunk is, or is about to be, on the drive in a place
// that is not marked.
func (x *index) known(id format.ID) (bool, error) {
	if x.pending.has(id) {
		return true, nil
	}
	_, ok, err := x.find(id)
	return ok, err
}

// search returns the first place of a chunk that is good enough.
func (x *index) search(id format.ID, good func(format.Place) bool) (format.Place, bool, error) {
	// Pending first: an entry leaves it only after its run was published.
	if p, ok := x.pending.place(id); ok && good(p) {
		return p, true, nil
	}
	return x.searchRuns(id, good)
}

// searchRuns is search among what is durable.
func (x *index) searchRuns(id format.ID, good func(format.Place) bool) (format.Place, bool, error) {
	var failed error
	for _, r := range *x.runs.Load() {
		if !r.may(id) {
			continue
		}
		p, ok, err := x.findIn(r, id)
		if err != nil {
			failed = err
			continue
		}
		if ok && good(p) {
			return p, true, nil
		}
	}
	if isGone(failed) {
		return format.Place{}, false, failed
	}
	return format.Place{}, false, nil
}

// searchFound is search among the chunks of packs that no run covers.
func (x *index) searchFound(id format.ID, good func(format.Place) bool) (format.Place, bool) {
	p, ok := x.found.place(id)
	return p, ok && good(p)
}

// findIn looks an id up in one run. A page that cannot be read is a fault of
// the run; the packs can still tell where its chunks are.
func (x *index) findIn(r *run, id format.ID) (format.Place, bool, error) {
	first, last := r.pagesOf(id)
	for n := first; n <= last; n++ {
		p, ok, err := x.pages.find(r, n, id)
		if err != nil {
			x.distrust(r, err)
			return p, false, err
		}
		if ok {
			return p, true, nil
		}
	}
	return format.Place{}, false, nil
}

func (x *index) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range *x.runs.Load() {
		r.file.Close()
	}
	for _, f := range x.retired {
		f.Close()
	}
	x.runs.Store(&[]*run{})
	x.retired = nil
}
