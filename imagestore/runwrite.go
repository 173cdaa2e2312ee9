package imagestore

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// runMergeRatio keeps the number of runs logarithmic: a new run takes in every
// older one that is not this many times larger than what it has already.
const runMergeRatio = 3

// writeRun makes a run of new entries, together with those of older runs that
// are not much larger, and publishes it. The entries' packs are synced. The new
// run takes the place of those that it merges and of the instead ones, which it
// does not read.
func (x *index) writeRun(entries []format.RunEntry, covered []uint32, instead ...*run) error {
	if len(entries) == 0 {
		return nil
	}
	slices.SortFunc(entries, func(a, b format.RunEntry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	for {
		id := newFileID()
		merge := x.mergeable(uint64(len(entries)))
		err := x.writeRunFile(id, entries, covered, merge, instead)
		var broken *brokenRun
		if errors.As(err, &broken) && !isGone(err) {
			// It is left alone and made anew from its packs.
			x.s.log.Warn("an index run cannot be merged", "run", broken.run.id, "why", err)
			x.distrust(broken.run, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", runName(id), err)
		}
		return x.replace(id, append(merge, instead...))
	}
}

// largeFilters is from when on it is worth asking the runtime to give memory
// back before more is taken.
const largeFilters = 8 << 20

// replace publishes a new run and removes those that it took in. Their filters
// go before its own comes, so that both are never in memory.
func (x *index) replace(id format.ID, old []*run) error {
	freed := 0
	for _, r := range old {
		if f := r.filter.Swap(nil); f != nil {
			freed += len(*f)
		}
	}
	if freed >= largeFilters {
		debug.FreeOSMemory()
	}
	r, err := x.s.openRun(id)
	if err != nil {
		return err
	}
	x.publish(r)
	for _, old := range x.dropReplaced() {
		// The new run is durable; one that stays behind is only in the way.
		if err := x.remove(runName(old)); err != nil {
			return err
		}
	}
	return nil
}

// mergeable chooses the older runs that a new one of n entries takes in.
func (x *index) mergeable(n uint64) []*run {
	if x.frozen.Load() {
		return nil
	}
	runs := slices.DeleteFunc(slices.Clone(*x.runs.Load()), func(r *run) bool { return r.broken.Load() })
	slices.SortFunc(runs, func(a, b *run) int {
		if a.footer.Entries < b.footer.Entries {
			return -1
		}
		return 1
	})
	for i, r := range runs {
		if r.footer.Entries > runMergeRatio*n {
			return runs[:i:i]
		}
		n += r.footer.Entries
	}
	return runs
}

// brokenRun is an error of reading a run that was to be merged.
type brokenRun struct {
	run *run
	why error
}

func (b *brokenRun) Error() string { return fmt.Sprintf("read %s: %v", runName(b.run.id), b.why) }
func (b *brokenRun) Unwrap() error { return b.why }

func (x *index) writeRunFile(id format.ID, entries []format.RunEntry, covered []uint32, merge, instead []*run) error {
	h := format.Header{Kind: format.KindRun, Generation: x.s.super.Generation, Drive: x.s.driveID, File: id}
	master, ok := x.s.masters.Key(h.Generation)
	if !ok {
		return fmt.Errorf("no key of generation %d", h.Generation)
	}
	key, err := format.NewRunKey(h, master)
	if err != nil {
		return err
	}
	temp := runName(id) + ".tmp"
	f, err := x.s.dir.Create(temp)
	if err != nil {
		return err
	}
	w := &runWriter{packs: x.s.packs, file: f, key: key, number: map[uint32]uint32{}, gone: x.s.packs.goneNow()}
	for _, r := range instead {
		w.tail.Replaced = append(w.tail.Replaced, r.id)
	}
	err = w.write(h, entries, covered, merge, x.s.marks)
	if err == nil {
		err = w.writeTail(x.s.dir, temp)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = x.s.dir.Rename(temp, runName(id))
	}
	if err != nil {
		x.s.dir.Remove(temp)
		return err
	}
	return x.s.dir.SyncDir("index")
}

// runWriter writes a run from front to end.
type runWriter struct {
	packs   *packs
	file    durable.WriteFile
	key     *format.RunKey
	buf     []byte
	page    []format.RunEntry
	pages   uint64
	entries uint64
	tail    format.RunTail
	number  map[uint32]uint32
	// gone are packs that were removed; what was in them is left out.
	gone map[uint32]bool
}

// errEmptyRun: nothing was left to write a run of.
var errEmptyRun = errors.New("no chunk is left for this index run")

// runWriteSize is how much of a run is written at once.
const runWriteSize = 1 << 20

func (w *runWriter) write(h format.Header, entries []format.RunEntry, covered []uint32, merge []*run, marks *marks) error {
	w.buf = h.Append(make([]byte, 0, runWriteSize+format.SegmentSize))
	w.buf = w.buf[:format.RunPageSize]
	sources := []*runCursor{{entries: entries}}
	for _, r := range merge {
		sources = append(sources, &runCursor{run: r, left: r.footer.Pages()})
		w.tail.Replaced = append(w.tail.Replaced, r.id)
		// Its packs stay covered, even those whose chunks are elsewhere too.
		covered = append(covered, r.packs...)
	}
	for _, p := range covered {
		if !w.gone[p] {
			w.local(p)
		}
	}
	if err := w.merge(sources, marks); err != nil {
		return err
	}
	if w.entries == 0 {
		return errEmptyRun
	}
	if err := w.flushPage(); err != nil {
		return err
	}
	return w.flush()
}

// merge writes the entries of all sources in order, each id once: where there
// are several places, one that is not marked.
func (w *runWriter) merge(sources []*runCursor, marks *marks) error {
	var best format.RunEntry
	have := false
	for {
		var next *runCursor
		for _, c := range sources {
			ok, err := c.fill()
			if err != nil {
				return err
			}
			if ok && (next == nil || bytes.Compare(c.entries[0].ID[:], next.entries[0].ID[:]) < 0) {
				next = c
			}
		}
		if next == nil {
			break
		}
		e := next.entries[0]
		next.entries = next.entries[1:]
		if w.gone[e.Place.Pack] {
			continue
		}
		if have && e.ID == best.ID {
			if marks.has(best.Place, best.ID) {
				best = e
			}
			continue
		}
		if have {
			if err := w.add(best); err != nil {
				return err
			}
		}
		best, have = e, true
	}
	if have {
		return w.add(best)
	}
	return nil
}

func (w *runWriter) add(e format.RunEntry) error {
	if len(w.page) == 0 {
		w.tail.First = append(w.tail.First, format.Prefix(e.ID))
	}
	e.Place.Pack = w.local(e.Place.Pack)
	w.page = append(w.page, e)
	w.entries++
	if len(w.page) == format.RunPageEntries {
		return w.flushPage()
	}
	return nil
}

// local turns the store's number of a pack into the run's.
func (w *runWriter) local(pack uint32) uint32 {
	n, ok := w.number[pack]
	if !ok {
		n = uint32(len(w.tail.Packs))
		w.number[pack] = n
		p := w.packs.pack(pack)
		p.Torn = w.packs.isTorn(pack)
		w.tail.Packs = append(w.tail.Packs, p)
	}
	return n
}

func (w *runWriter) flushPage() error {
	if len(w.page) == 0 {
		return nil
	}
	w.buf = w.key.AppendPage(w.buf, w.pages, w.page)
	w.pages++
	w.page = w.page[:0]
	if len(w.buf) >= runWriteSize {
		return w.flush()
	}
	return nil
}

func (w *runWriter) flush() error {
	_, err := w.file.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// runCursor walks the entries of a run, or of a list, in order.
type runCursor struct {
	entries []format.RunEntry
	run     *run
	page    int64
	left    int64
	buf     [format.RunPageSize]byte
	store   [format.RunPageEntries]format.RunEntry
}

// fill makes sure that there is a next entry and says whether there is. A page
// that cannot be read ends the merge of that run: nothing is dropped silently.
func (c *runCursor) fill() (bool, error) {
	if len(c.entries) > 0 {
		return true, nil
	}
	if c.left == 0 {
		return false, nil
	}
	page, err := c.run.readPage(c.page, c.buf[:])
	if err != nil {
		return false, &brokenRun{c.run, err}
	}
	n := c.run.footer.PageEntries(c.page)
	for i := range n {
		e := page.Entry(i)
		if e.Place, err = c.run.local(e.Place); err != nil {
			return false, &brokenRun{c.run, err}
		}
		c.store[i] = e
	}
	c.entries = c.store[:n]
	c.page++
	c.left--
	return true, nil
}
