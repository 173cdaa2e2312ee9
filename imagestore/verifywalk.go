package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// fact is what is known of the worst part of something: of a chunk, of a leaf
// with all its chunks, of a point. Facts are ordered: the fact of the whole is
// the smallest of those of its parts.
type fact uint32

const (
	// broken: it is in no place that is good.
	broken fact = 0
	// unread: nothing speaks against it, but it was never read back.
	unread fact = 1
	// Everything from here on is when it was last read back, in seconds since 1970.
	latest fact = 1<<32 - 1
)

// treeKey names a leaf or node in memory. 128 bits of a keyed hash are never
// equal by chance, and half of an id is half of the memory.
type treeKey [16]byte

// reference says that a leaf or node needs a chunk, or itself.
type reference struct {
	id    treeKey
	owner uint32
}

// surveyBatch is how many references are looked up together: 40 MiB of them.
const surveyBatch = 2 << 20

// survey looks at everything that some points refer to. It reads each leaf and
// node once, and it looks chunks up in batches, sorted as the index is: each page
// is then opened once a batch, where one look-up after the other would seek for
// every chunk of a drive. Its memory is a batch and 30 bytes a leaf, whatever
// the number of chunks.
type survey struct {
	s *Store
	// judge says what is known of a chunk's place.
	judge func(format.Place, format.ID) fact

	number map[treeKey]uint32
	facts  []fact
	batch  []reference
	folded map[uint32]bool
	// entries is used again for each leaf.
	entries []format.Entry
}

func (s *Store) newSurvey(judge func(format.Place, format.ID) fact) *survey {
	return &survey{s: s, judge: judge, number: map[treeKey]uint32{}, folded: map[uint32]bool{}}
}

// look looks at the trees of some points. Afterwards point tells what was found.
func (y *survey) look(ctx context.Context, records []record) error {
	for _, r := range records {
		for _, d := range r.Disks {
			if err := y.add(ctx, d.Root, format.RootLevel(d.Size)); err != nil {
				return err
			}
		}
	}
	return y.flush(ctx)
}

// add looks at a leaf or node and at everything below it, each once.
func (y *survey) add(ctx context.Context, id format.ID, level int) error {
	if id.IsZero() {
		return nil
	}
	key := treeKey(id[:16])
	if _, ok := y.number[key]; ok {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	n := uint32(len(y.facts))
	y.number[key] = n
	y.facts = append(y.facts, latest)
	if err := y.refer(ctx, id, n); err != nil {
		return err
	}
	if level == 0 {
		return y.addLeaf(ctx, id, n)
	}
	children, err := y.s.node(ctx, id, level)
	if errors.Is(err, lifeboat.ErrDamaged) {
		y.facts[n] = broken
		return nil
	}
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := y.add(ctx, child, level-1); err != nil {
			return err
		}
	}
	return nil
}

func (y *survey) addLeaf(ctx context.Context, id format.ID, n uint32) error {
	var err error
	y.entries, err = y.s.leaf(ctx, id, y.entries[:0])
	if errors.Is(err, lifeboat.ErrDamaged) {
		y.facts[n] = broken
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range y.entries {
		if err := y.refer(ctx, e.ID, n); err != nil {
			return err
		}
	}
	return nil
}

func (y *survey) refer(ctx context.Context, id format.ID, owner uint32) error {
	y.batch = append(y.batch, reference{treeKey(id[:16]), owner})
	if len(y.batch) < surveyBatch {
		return nil
	}
	return y.flush(ctx)
}

// flush looks up what was collected.
func (y *survey) flush(ctx context.Context) error {
	slices.SortFunc(y.batch, func(a, b reference) int { return bytes.Compare(a.id[:], b.id[:]) })
	err := y.s.index.lookUpAll(ctx, y.batch, y.judge, func(r reference, f fact) {
		y.facts[r.owner] = min(y.facts[r.owner], f)
	})
	y.batch = y.batch[:0]
	return err
}

// point is what is known of a whole point.
func (y *survey) point(ctx context.Context, r record) (fact, error) {
	all := latest
	for _, d := range r.Disks {
		f, err := y.fold(ctx, d.Root, format.RootLevel(d.Size))
		if err != nil {
			return broken, err
		}
		all = min(all, f)
	}
	return all, nil
}

// fold is what is known of a leaf or node and everything below it.
func (y *survey) fold(ctx context.Context, id format.ID, level int) (fact, error) {
	if id.IsZero() {
		return latest, nil
	}
	n, ok := y.number[treeKey(id[:16])]
	if !ok {
		return broken, fmt.Errorf("%w: a part of a tree that was not looked at", format.ErrCorrupt)
	}
	if level == 0 || y.folded[n] || y.facts[n] == broken {
		return y.facts[n], nil
	}
	if err := ctx.Err(); err != nil {
		return broken, err
	}
	children, err := y.s.node(ctx, id, level)
	if errors.Is(err, lifeboat.ErrDamaged) {
		y.facts[n] = broken
		return broken, nil
	}
	if err != nil {
		return broken, err
	}
	f := y.facts[n]
	for _, child := range children {
		below, err := y.fold(ctx, child, level-1)
		if err != nil {
			return broken, err
		}
		f = min(f, below)
	}
	y.facts[n], y.folded[n] = f, true
	return f, nil
}

// lookUpAll looks up many ids, which ascend, and settles each with what judge
// says of the first of its places that is not broken. It uses its references'
// memory.
func (x *index) lookUpAll(ctx context.Context, sorted []reference, judge func(format.Place, format.ID) fact, settle func(reference, fact)) error {
	left := sorted
	for _, r := range *x.runs.Load() {
		c := pageCursor{run: r, page: -1}
		kept := left[:0]
		for i, ref := range left {
			if i%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			place, id, ok, err := c.find(ref.id)
			if isGone(err) {
				return err
			}
			if err != nil {
				// The packs can still tell what this run does not.
				x.distrust(r, err)
				kept = append(kept, left[i:]...)
				break
			}
			f := broken
			if ok {
				f = judge(place, id)
			}
			if f == broken {
				kept = append(kept, ref)
				continue
			}
			settle(ref, f)
		}
		left = kept
	}
	for _, ref := range left {
		settle(ref, broken)
	}
	return nil
}

// pageCursor looks up ids in a run that ascend. It keeps the one page that it
// came to.
type pageCursor struct {
	run  *run
	page int64
	buf  [format.RunPageSize]byte
	open format.RunPage
}

// find returns the place of the chunk whose id begins with key, and that id.
func (c *pageCursor) find(key treeKey) (format.Place, format.ID, bool, error) {
	var id format.ID
	copy(id[:], key[:])
	if !c.run.may(id) { // asks no more than these bytes of an id
		return format.Place{}, id, false, nil
	}
	first, last := c.run.pagesOf(id)
	for n := first; n <= last; n++ {
		if n != c.page {
			page, err := c.run.readPage(n, c.buf[:])
			if err != nil {
				c.page = -1
				return format.Place{}, id, false, err
			}
			c.page, c.open = n, page
		}
		count := c.run.footer.PageEntries(n)
		i := sort.Search(count, func(i int) bool {
			e := c.open.Entry(i)
			return bytes.Compare(e.ID[:len(key)], key[:]) >= 0
		})
		if i == count {
			continue
		}
		if e := c.open.Entry(i); treeKey(e.ID[:len(key)]) == key {
			place, err := c.run.local(e.Place)
			return place, e.ID, err == nil, err
		}
	}
	return format.Place{}, id, false, nil
}
