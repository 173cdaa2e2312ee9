package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// Disk is one disk of a restore point, to be read at random. Every chunk is
// checked against its id when it is read. It is safe for many readers at once
// and needs no closing; its store must stay open.
type Disk struct {
	s       *Store
	pointID string
	key     string
	size    int64

	treeMu sync.Mutex
	tree   *tree

	mu     sync.Mutex
	leaves map[int64]leafUse
	turn   uint64

	aheads aheads
}

// leafUse is a decoded leaf and when it was last used.
type leafUse struct {
	entries []format.Entry
	used    uint64
}

// maxDiskLeaves bounds the decoded leaves of a disk: 256 MiB of it, in at most
// 3 MiB of memory.
const maxDiskLeaves = 64

var _ io.ReaderAt = (*Disk)(nil)

// Disk opens a disk of a restore point. An excluded disk reads as zeros. The
// error wraps ErrNoPoint if there is no such point or disk.
func (s *Store) Disk(ctx context.Context, pointID, key string) (*Disk, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	return s.openDisk(ctx, pointID, key)
}

func (s *Store) openDisk(ctx context.Context, pointID, key string) (*Disk, error) {
	r, err := s.record(ctx, pointID)
	if err != nil {
		return nil, err
	}
	if err := s.catchUp(ctx, r.Sequence); err != nil {
		return nil, s.explain(err)
	}
	d, ok := r.disk(key)
	if !ok {
		return nil, s.noDisk(r, key)
	}
	return &Disk{s: s, pointID: pointID, key: key, size: d.Size, tree: s.newTree(d), leaves: map[int64]leafUse{}}, nil
}

// SizeBytes is the exact size of the disk.
func (d *Disk) SizeBytes() int64 { return d.size }

// ReadAt is ReadAtContext without a context.
func (d *Disk) ReadAt(p []byte, offset int64) (int, error) {
	return d.ReadAtContext(context.Background(), p, offset)
}

// ReadAtContext fills p from offset; at the end of the disk it returns io.EOF
// with what there was. A damaged chunk is an error that wraps
// lifeboat.ErrDamaged and names drive, point, disk, offset and pack; a drive
// that no longer answers is lifeboat.ErrDriveGone.
func (d *Disk) ReadAtContext(ctx context.Context, p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("read before the start of the disk")
	}
	if err := d.s.begin(); err != nil {
		return 0, err
	}
	defer d.s.end()
	want := len(p)
	if left := d.size - offset; int64(want) > left {
		want = int(max(0, left))
	}
	for done := 0; done < want; {
		at := offset + int64(done)
		within := regionExtent(at/format.RegionSize, d.size)
		part := p[done:min(want, done+int(within.End()-at))]
		if err := d.readRegion(ctx, part, at, within); err != nil {
			return done, d.s.explain(err)
		}
		done += len(part)
	}
	d.readAhead(offset, int64(want))
	if want < len(p) {
		return want, io.EOF
	}
	return want, nil
}

// readRegion fills p from an offset; both ends lie in one region.
func (d *Disk) readRegion(ctx context.Context, p []byte, offset int64, within lifeboat.Extent) error {
	entries, err := d.leaf(ctx, within)
	if err != nil {
		return err
	}
	first := int((offset - within.Offset) / format.BlockSize)
	i := sort.Search(len(entries), func(i int) bool { return entries[i].End() > first })
	at := 0
	for ; i < len(entries); i++ {
		c := chunkExtent(entries[i], within)
		from, to := max(c.Offset, offset), min(c.End(), offset+int64(len(p)))
		if from >= to {
			break
		}
		clear(p[at : from-offset])
		at = int(to - offset)
		if err := d.readChunk(ctx, p[from-offset:at], entries[i].ID, c, from); err != nil {
			return err
		}
	}
	clear(p[at:])
	return nil
}

// chunkExtent is where a chunk lies on the disk.
func chunkExtent(e format.Entry, within lifeboat.Extent) lifeboat.Extent {
	c := lifeboat.Extent{Offset: within.Offset + int64(e.Start)*format.BlockSize, Length: int64(e.Blocks) * format.BlockSize}
	c.Length = min(c.Length, within.End()-c.Offset)
	return c
}

func (d *Disk) readChunk(ctx context.Context, p []byte, id format.ID, c lifeboat.Extent, from int64) error {
	place, err := d.s.chunkAt(ctx, id, false, func(b []byte) error {
		if int64(len(b)) != c.Length {
			return fmt.Errorf("%w: a chunk of %d bytes", format.ErrCorrupt, len(b))
		}
		copy(p, b[from-c.Offset:])
		return nil
	})
	if errors.Is(err, lifeboat.ErrDamaged) {
		return d.damage(c, place, err)
	}
	return err
}

func (d *Disk) damage(where lifeboat.Extent, place format.Place, why error) error {
	e := &Damage{Drive: d.s.super.Label, PointID: d.pointID, Disk: d.key, Offset: where.Offset, Length: where.Length, Why: why}
	if place.Offset != 0 {
		e.Pack = packName(d.s.packs.pack(place.Pack))
	}
	return e
}

// leaf returns the chunks of a region.
func (d *Disk) leaf(ctx context.Context, within lifeboat.Extent) ([]format.Entry, error) {
	region := within.Offset / format.RegionSize
	if entries, ok := d.cachedLeaf(region); ok {
		return entries, nil
	}
	id, err := d.leafID(ctx, region)
	var entries []format.Entry
	if err == nil {
		entries, err = d.s.leaf(ctx, id, nil)
	}
	if err == nil && len(entries) > 0 && entries[len(entries)-1].Start*format.BlockSize >= int(within.Length) {
		err = fmt.Errorf("%w: a leaf that reaches beyond the disk", lifeboat.ErrDamaged)
	}
	if errors.Is(err, lifeboat.ErrDamaged) {
		return nil, d.damage(within, format.Place{}, err)
	}
	if err != nil {
		return nil, err
	}
	d.keepLeaf(region, entries)
	return entries, nil
}

func (d *Disk) leafID(ctx context.Context, region int64) (format.ID, error) {
	d.treeMu.Lock()
	defer d.treeMu.Unlock()
	return d.tree.leafID(ctx, region)
}

func (d *Disk) cachedLeaf(region int64) ([]format.Entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, ok := d.leaves[region]
	if ok {
		d.turn++
		l.used = d.turn
		d.leaves[region] = l
	}
	return l.entries, ok
}

func (d *Disk) keepLeaf(region int64, entries []format.Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.leaves) >= maxDiskLeaves {
		oldest, found := int64(0), leafUse{used: 1<<64 - 1}
		for n, l := range d.leaves {
			if l.used < found.used {
				oldest, found = n, l
			}
		}
		delete(d.leaves, oldest)
	}
	d.turn++
	d.leaves[region] = leafUse{entries, d.turn}
}

// Extents returns the runs inside the given one that are not zero blocks,
// ascending and without overlaps. Everything else reads as zeros.
func (d *Disk) Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	if err := d.s.begin(); err != nil {
		return nil, err
	}
	defer d.s.end()
	if within.Offset < 0 || within.Length < 0 {
		return nil, fmt.Errorf("extents of %d bytes from %d", within.Length, within.Offset)
	}
	end := d.size
	if within.Length < end-within.Offset {
		end = within.End()
	}
	var out []lifeboat.Extent
	for region := within.Offset / format.RegionSize; region*format.RegionSize < end; region++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r := regionExtent(region, d.size)
		entries, err := d.leaf(ctx, r)
		if err != nil {
			return nil, d.s.explain(err)
		}
		for _, e := range entries {
			c := chunkExtent(e, r)
			from, to := max(c.Offset, within.Offset), min(c.End(), end)
			if from < to {
				out = appendExtent(out, lifeboat.Extent{Offset: from, Length: to - from})
			}
		}
	}
	return out, nil
}

// appendExtent appends an extent and joins it with the last one if they touch.
func appendExtent(list []lifeboat.Extent, e lifeboat.Extent) []lifeboat.Extent {
	if n := len(list); n > 0 && list[n-1].End() == e.Offset {
		list[n-1].Length += e.Length
		return list
	}
	return append(list, e)
}
