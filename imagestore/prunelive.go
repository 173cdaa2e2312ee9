package imagestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// liveness knows which entries of the index are needed by some points: one bit
// for each entry, in the order of the runs, so that 100 million chunks take
// 12 MiB. Ids are collected in lists, sorted, and compared with the index from
// its front to its end: no look-up seeks.
//
// Every place of an id counts as needed, in whichever pack. Only tree packs are
// read.
type liveness struct {
	s    *Store
	runs []*run
	// base is the number of the first bit of each run.
	base []int64
	bits bitmap

	nodes  [format.MaxLevel + 1][]format.ID // by level; 0 are leaves
	chunks []format.ID
	// missing are ids that no run has.
	missing map[format.ID]bool
	// missingTrees are those of them that are leaves or nodes.
	missingTrees map[format.ID]bool
	entries      []format.Entry
	window       []byte
}

// The lists of ids that are sorted at once: 128 MiB of chunks and 16 MiB of
// leaves and nodes at most.
const (
	maxLiveChunks = 4 << 20
	maxLiveTrees  = 512 << 10
	// maxMissing bounds what is remembered of a store that lost much.
	maxMissing = 1 << 20
)

type bitmap []uint64

func (b bitmap) has(n int64) bool { return b[n>>6]&(1<<(n&63)) != 0 }
func (b bitmap) set(n int64)      { b[n>>6] |= 1 << (n & 63) }

// any says whether a bit from from to to is set.
func (b bitmap) any(from, to int64) bool {
	for ; from < to; from++ {
		if from&63 == 0 && to-from >= 64 && b[from>>6] == 0 {
			from += 63
			continue
		}
		if b.has(from) {
			return true
		}
	}
	return false
}

func (s *Store) newLiveness() *liveness {
	l := &liveness{s: s, missing: map[format.ID]bool{}, missingTrees: map[format.ID]bool{}}
	for _, r := range *s.index.runs.Load() {
		if !r.broken.Load() {
			l.runs = append(l.runs, r)
		}
	}
	total := int64(0)
	for _, r := range l.runs {
		l.base = append(l.base, total)
		total += int64(r.footer.Entries)
	}
	l.bits = make(bitmap, total/64+1)
	return l
}

// add marks everything that a point needs. The error wraps lifeboat.ErrDamaged
// when a part of its trees cannot be read.
func (l *liveness) add(ctx context.Context, r record) error {
	for _, d := range r.Disks {
		if !d.Root.IsZero() {
			level := format.RootLevel(d.Size)
			l.nodes[level] = append(l.nodes[level], d.Root)
		}
		if err := l.drain(ctx, maxLiveTrees); err != nil {
			return fmt.Errorf("read the tree of point %s, disk %s: %w", r.point.ID, d.Key, err)
		}
	}
	return nil
}

// finish marks what is still in the lists.
func (l *liveness) finish(ctx context.Context) error {
	if err := l.drain(ctx, 0); err != nil {
		return err
	}
	return l.markChunks(ctx)
}

// drain visits leaves and nodes while a list of them is longer than that, the
// lowest level first: it gives the most.
func (l *liveness) drain(ctx context.Context, longest int) error {
	for level := 0; level < len(l.nodes); {
		if len(l.nodes[level]) <= longest {
			level++
			continue
		}
		if err := l.visit(ctx, level); err != nil {
			return err
		}
		level = 0
	}
	return nil
}

// object is a leaf or node that was not visited before.
type object struct {
	id    format.ID
	place format.Place
}

// visit marks the listed leaves, or nodes of a level, and lists what they refer
// to. Those that were marked already were visited already.
func (l *liveness) visit(ctx context.Context, level int) error {
	ids := l.nodes[level]
	l.nodes[level] = nil
	slices.SortFunc(ids, compareIDs)
	ids = slices.Compact(ids)
	fresh := make([]object, len(ids))
	old := make([]bool, len(ids))
	err := l.join(ctx, ids, func(i int, e format.RunEntry, bit int64) {
		old[i] = old[i] || l.bits.has(bit)
		l.bits.set(bit)
		fresh[i] = object{e.ID, e.Place}
	})
	if err != nil {
		return err
	}
	for i, id := range ids {
		if !fresh[i].id.IsZero() {
			continue
		}
		fresh[i].id = id
		old[i] = l.missing[id]
		l.missingTrees[id] = true
		if err := l.miss(id); err != nil {
			return err
		}
	}
	n := 0
	for i, o := range fresh {
		if !old[i] {
			fresh[n] = o
			n++
		}
	}
	fresh = fresh[:n]
	// In the order of the drive, so that each frame is read once.
	slices.SortFunc(fresh, func(a, b object) int { return comparePlaces(a.place, b.place) })
	for i, o := range fresh {
		if err := errors.Join(ctx.Err(), l.open(ctx, o.id, level)); err != nil {
			return err
		}
		// A leaf lists up to 1024 chunks, a node as many children: what is below
		// is visited before its list grows long.
		if len(l.chunks) >= maxLiveChunks {
			if err := l.markChunks(ctx); err != nil {
				return err
			}
		}
		if level > 0 && len(l.nodes[level-1]) > maxLiveTrees && i < len(fresh)-1 {
			if err := l.drainBelow(ctx, level); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *liveness) drainBelow(ctx context.Context, level int) error {
	for below := range level {
		for len(l.nodes[below]) > maxLiveTrees {
			if err := l.visit(ctx, below); err != nil {
				return err
			}
		}
	}
	return nil
}

// open lists what a leaf or node refers to.
func (l *liveness) open(ctx context.Context, id format.ID, level int) error {
	if level == 0 {
		var err error
		l.entries, err = l.s.leaf(ctx, id, l.entries[:0])
		for _, e := range l.entries {
			l.chunks = append(l.chunks, e.ID)
		}
		return err
	}
	children, err := l.s.node(ctx, id, level)
	for _, child := range children {
		if err == nil && !child.IsZero() {
			l.nodes[level-1] = append(l.nodes[level-1], child)
		}
	}
	return err
}

func (l *liveness) markChunks(ctx context.Context) error {
	slices.SortFunc(l.chunks, compareIDs)
	ids := slices.Compact(l.chunks)
	found := make(bitmap, len(ids)/64+1)
	err := l.join(ctx, ids, func(i int, _ format.RunEntry, bit int64) {
		l.bits.set(bit)
		found.set(int64(i))
	})
	if err != nil {
		return err
	}
	for i, id := range ids {
		if !found.has(int64(i)) {
			if err := l.miss(id); err != nil {
				return err
			}
		}
	}
	l.chunks = l.chunks[:0]
	return nil
}

func (l *liveness) miss(id format.ID) error {
	if l.missing[id] = true; len(l.missing) > l.s.limits.missing {
		return fmt.Errorf("%w: the index lacks more than %d chunks", lifeboat.ErrDamaged, l.s.limits.missing)
	}
	return nil
}

// join calls f for each entry of the index that has one of the ids, which
// ascend, each once.
func (l *liveness) join(ctx context.Context, ids []format.ID, f func(i int, e format.RunEntry, bit int64)) error {
	if len(ids) == 0 {
		return nil
	}
	for n, r := range l.runs {
		at := 0
		want := func(page int64) bool {
			// A page holds ids from its first number to that of the next page.
			for at < len(ids) && format.Prefix(ids[at]) < r.first[page] {
				at++
			}
			return at < len(ids) && (page+1 == int64(len(r.first)) || format.Prefix(ids[at]) <= r.first[page+1])
		}
		err := l.pages(ctx, n, want, func(e format.RunEntry, bit int64) {
			i := at
			for i < len(ids) && bytes.Compare(ids[i][:], e.ID[:]) < 0 {
				i++
			}
			at = i
			if i < len(ids) && ids[i] == e.ID {
				f(i, e, bit)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// each calls f for every entry of the index of which a bit says so; with none,
// for every entry. Packs in the places are the store's numbers.
func (l *liveness) each(ctx context.Context, only bitmap, f func(e format.RunEntry, bit int64)) error {
	for n := range l.runs {
		want := func(page int64) bool {
			first := l.base[n] + page*format.RunPageEntries
			return only == nil || only.any(first, first+int64(l.runs[n].footer.PageEntries(page)))
		}
		err := l.pages(ctx, n, want, func(e format.RunEntry, bit int64) {
			if only == nil || only.has(bit) {
				f(e, bit)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// liveWindow is how many pages are read at once: 256 KiB.
const liveWindow = 64

// pages reads the wanted pages of a run in order. A page that cannot be read is
// a *brokenRun.
func (l *liveness) pages(ctx context.Context, n int, want func(page int64) bool, f func(e format.RunEntry, bit int64)) error {
	if l.window == nil {
		l.window = make([]byte, liveWindow*format.RunPageSize)
	}
	r := l.runs[n]
	total := r.footer.Pages()
	from, to := int64(0), int64(0) // what the window holds
	for page := range total {
		if !want(page) {
			continue
		}
		if page >= to {
			if err := ctx.Err(); err != nil {
				return err
			}
			from, to = page, min(page+liveWindow, total)
			if err := readFull(r.file, l.window[:(to-from)*format.RunPageSize], format.RunPageSize*(1+from)); err != nil {
				return &brokenRun{r, err}
			}
		}
		b := l.window[(page-from)*format.RunPageSize:][:format.RunPageSize]
		open, err := r.key.OpenPage(b, uint64(page))
		if err != nil {
			return &brokenRun{r, err}
		}
		bit := l.base[n] + page*format.RunPageEntries
		for i := range r.footer.PageEntries(page) {
			e := open.Entry(i)
			if e.Place, err = r.local(e.Place); err != nil {
				return &brokenRun{r, err}
			}
			f(e, bit+int64(i))
		}
	}
	return nil
}

func compareIDs(a, b format.ID) int {
	if c := binary.BigEndian.Uint64(a[:]); c != binary.BigEndian.Uint64(b[:]) {
		if c < binary.BigEndian.Uint64(b[:]) {
			return -1
		}
		return 1
	}
	return bytes.Compare(a[:], b[:])
}

func comparePlaces(a, b format.Place) int {
	if a.Pack != b.Pack {
		if a.Pack < b.Pack {
			return -1
		}
		return 1
	}
	if a.Offset != b.Offset {
		if a.Offset < b.Offset {
			return -1
		}
		return 1
	}
	return a.At() - b.At()
}
