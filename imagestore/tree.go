package imagestore

import (
	"context"
	"errors"
	"fmt"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// errLost: no place of a chunk could be read.
var errLost = errors.New("no run of the index and no pack has it")

// chunk calls use with the bytes of a chunk, leaf or node, checked against its
// id. All places of it are tried. The bytes are valid until use returns.
func (s *Store) chunk(ctx context.Context, id format.ID, tree bool, use func([]byte) error) error {
	_, err := s.chunkAt(ctx, id, tree, use)
	return err
}

// chunkAt is chunk; it also tells the place that was tried last.
func (s *Store) chunkAt(ctx context.Context, id format.ID, tree bool, use func([]byte) error) (format.Place, error) {
	place, ok, err := s.index.find(id)
	if err != nil {
		return place, err
	}
	if ok {
		if err = s.useChunk(ctx, id, tree, place, use); err == nil || !isDamage(err) {
			return place, err
		}
	}
	return s.chunkElsewhere(ctx, id, tree, place, err, use)
}

// chunkElsewhere looks for a chunk that the index did not lead to: in runs that
// came since, in marked places, in packs that no run covers.
func (s *Store) chunkElsewhere(ctx context.Context, id format.ID, tree bool, tried format.Place, failed error, use func([]byte) error) (format.Place, error) {
	if err := s.scanUncovered(ctx); err != nil {
		return tried, err
	}
	last := tried
	for seen := map[format.Place]bool{tried: true}; ; {
		unseen := func(p format.Place) bool { return !seen[p] }
		place, ok, err := s.index.search(id, unseen)
		if err != nil {
			return last, err
		}
		if !ok {
			place, ok = s.index.searchFound(id, unseen)
		}
		if !ok {
			break
		}
		seen[place] = true
		err = s.useChunk(ctx, id, tree, place, use)
		if err == nil || !isDamage(err) {
			return place, err
		}
		last, failed = place, err
	}
	if failed == nil {
		failed = errLost
	}
	return last, fmt.Errorf("%w: %w", lifeboat.ErrDamaged, failed)
}

func (s *Store) useChunk(ctx context.Context, id format.ID, tree bool, place format.Place, use func([]byte) error) error {
	f, err := s.frames.get(ctx, place)
	if err != nil {
		return err
	}
	defer s.frames.release(f)
	b, err := f.chunk(s.index.namers, id, place, tree)
	if err != nil {
		return err
	}
	return use(b)
}

// isDamage says that other places of the chunk are worth trying.
func isDamage(err error) bool {
	return !isGone(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errStopped)
}

// errStopped wraps an error of whoever used a chunk: the chunk itself is good.
var errStopped = errors.New("stopped")

// node reads a node.
func (s *Store) node(ctx context.Context, id format.ID, level int) ([]format.ID, error) {
	ids := make([]format.ID, format.Fanout)
	err := s.chunk(ctx, id, true, func(b []byte) error {
		n, err := format.DecodeNode(b, level)
		if err != nil {
			return err
		}
		for i := range ids {
			ids[i] = n.Child(i)
		}
		return nil
	})
	return ids, err
}

// leaf appends the entries of a leaf to dst.
func (s *Store) leaf(ctx context.Context, id format.ID, dst []format.Entry) ([]format.Entry, error) {
	if id.IsZero() {
		return dst, nil
	}
	err := s.chunk(ctx, id, true, func(b []byte) (err error) {
		dst, err = format.DecodeLeaf(dst, b)
		return err
	})
	return dst, err
}

// tree is the tree of one disk, for reading. It serves one goroutine at a time
// and remembers the nodes on the way to the last region.
type tree struct {
	s     *Store
	disk  format.PointDisk
	level int
	// path holds the nodes from the root down: path[l] has level l+1.
	path [format.MaxLevel]struct {
		id  format.ID
		ids []format.ID
	}
}

func (s *Store) newTree(d format.PointDisk) *tree {
	return &tree{s: s, disk: d, level: format.RootLevel(d.Size)}
}

// leafID returns the id of a region's leaf; that of an empty region is zeros.
func (t *tree) leafID(ctx context.Context, region int64) (format.ID, error) {
	return t.id(ctx, region, 0)
}

// id returns the id of the n-th leaf or node of a level.
func (t *tree) id(ctx context.Context, n int64, target int) (format.ID, error) {
	id := t.disk.Root
	for level := t.level; level > target && !id.IsZero(); level-- {
		step := &t.path[level-1]
		if step.id != id || step.ids == nil {
			ids, err := t.s.node(ctx, id, level)
			if err != nil {
				return id, err
			}
			step.id, step.ids = id, ids
		}
		id = step.ids[n>>(10*(level-1-target))&(format.Fanout-1)]
	}
	return id, nil
}

// treeEdit makes the tree of a new point: regions that were set, and for the
// rest the regions of an older tree, or emptiness.
type treeEdit struct {
	s     *Store
	size  int64
	base  *tree // or nil
	nodes map[int64][]format.ID
	// one is the only leaf, where there are no nodes.
	one    format.ID
	oneSet bool
}

func (s *Store) newTreeEdit(size int64, base *tree) *treeEdit {
	return &treeEdit{s: s, size: size, base: base, nodes: map[int64][]format.ID{}}
}

// set gives a region its leaf.
func (e *treeEdit) set(ctx context.Context, region int64, id format.ID) error {
	if format.RootLevel(e.size) == 0 {
		e.one, e.oneSet = id, true
		return nil
	}
	n := region / format.Fanout
	ids, ok := e.nodes[n]
	if !ok {
		ids = make([]format.ID, format.Fanout)
		if err := e.fillLeaves(ctx, n, ids); err != nil {
			return err
		}
		e.nodes[n] = ids
	}
	ids[region%format.Fanout] = id
	return nil
}

// fillLeaves takes a node's leaves over from the older tree.
func (e *treeEdit) fillLeaves(ctx context.Context, node int64, ids []format.ID) error {
	if e.base == nil {
		return nil
	}
	last := min(format.Regions(e.size), format.Regions(e.base.disk.Size))
	for i := range ids {
		region := node*format.Fanout + int64(i)
		if region >= last {
			break
		}
		id, err := e.base.leafID(ctx, region)
		if err != nil {
			return err
		}
		ids[i] = id
	}
	return nil
}

// finish writes the nodes and returns the root.
func (e *treeEdit) finish(ctx context.Context, put func(object []byte) (format.ID, error)) (format.ID, error) {
	level := format.RootLevel(e.size)
	if level == 0 {
		if e.oneSet || e.base == nil {
			return e.one, nil
		}
		return e.base.leafID(ctx, 0)
	}
	// ids are those of the children of the level being made.
	ids := make([]format.ID, (format.Regions(e.size)+format.Fanout-1)/format.Fanout)
	var buf []byte
	for n := range ids {
		id, err := e.lowest(ctx, int64(n), &buf, put)
		if err != nil {
			return id, err
		}
		ids[n] = id
	}
	for l := 2; l <= level; l++ {
		var parents []format.ID
		for len(ids) > 0 {
			n := min(format.Fanout, len(ids))
			id, err := putNode(&buf, l, ids[:n], put)
			if err != nil {
				return id, err
			}
			parents, ids = append(parents, id), ids[n:]
		}
		ids = parents
	}
	return ids[0], nil
}

// lowest returns the n-th node of level 1. One that nothing was set in is the
// older tree's, as long as both disks reach beyond it or are of one size.
func (e *treeEdit) lowest(ctx context.Context, n int64, buf *[]byte, put func([]byte) (format.ID, error)) (format.ID, error) {
	leaves, ok := e.nodes[n]
	if !ok && e.base == nil {
		return format.ID{}, nil
	}
	if !ok && e.base.level > 0 && (e.size == e.base.disk.Size || (n+1)*format.Fanout <= min(format.Regions(e.size), format.Regions(e.base.disk.Size))) {
		return e.base.id(ctx, n, 1)
	}
	if !ok {
		leaves = make([]format.ID, format.Fanout)
		if err := e.fillLeaves(ctx, n, leaves); err != nil {
			return format.ID{}, err
		}
	}
	return putNode(buf, 1, leaves, put)
}

func putNode(buf *[]byte, level int, ids []format.ID, put func([]byte) (format.ID, error)) (format.ID, error) {
	empty := true
	for _, id := range ids {
		empty = empty && id.IsZero()
	}
	if empty {
		return format.ID{}, nil
	}
	*buf = format.AppendNode((*buf)[:0], level, ids)
	return put(*buf)
}
