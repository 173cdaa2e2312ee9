package imagestore

import (
	"context"
	"errors"
	"slices"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// copyChunks is how many chunks are sorted by their place at once, in 12 MiB.
const copyChunks = 1 << 20

// lacking is what a target does not have of a point.
type lacking struct {
	// bits are the entries of the source's index.
	bits bitmap
	// inPack counts them by pack.
	inPack []int
	bytes  int64
	// missing are ids that no run of the source's index has.
	missing []format.ID
}

// survey finds out what the target lacks of a point. The trees of a point, and
// then both indexes, are read in order; no data is.
func (c *copying) survey(ctx context.Context, r record) (*lacking, error) {
	if c.live == nil {
		c.live = c.from.newLiveness()
		c.done = make(bitmap, len(c.live.bits))
	}
	for {
		clear(c.live.missing)
		clear(c.live.missingTrees)
		err := c.live.add(ctx, r)
		if err == nil {
			err = c.live.finish(ctx)
		}
		var l *lacking
		if err == nil {
			l, err = c.lacks(ctx)
		}
		var broken *brokenRun
		switch {
		case errors.As(err, &broken) && !isGone(err):
			// Its chunks are looked for in the packs.
			c.from.index.distrust(broken.run, broken.why)
			c.live = c.from.newLiveness()
			c.done = make(bitmap, len(c.live.bits))
			continue
		case errors.Is(err, lifeboat.ErrDamaged):
			c.live.nodes, c.live.chunks = [format.MaxLevel + 1][]format.ID{}, c.live.chunks[:0]
			c.live.bits = slices.Clone(c.done)
			return nil, &hurtPoint{why: err}
		case err != nil:
			return nil, err
		}
		for id := range c.live.missing {
			l.missing = append(l.missing, id)
		}
		return l, nil
	}
}

func (c *copying) lacks(ctx context.Context) (*lacking, error) {
	l := &lacking{bits: slices.Clone(c.live.bits)}
	for i := range l.bits {
		l.bits[i] &^= c.done[i]
	}
	fresh := l.bits
	l.bits = make(bitmap, len(fresh))
	var failed error
	err := c.live.each(ctx, fresh, func(e format.RunEntry, bit int64) {
		known, err := c.s.index.known(e.ID)
		failed = errors.Join(failed, err)
		if known || err != nil {
			return
		}
		for int(e.Place.Pack) >= len(l.inPack) {
			l.inPack = append(l.inPack, 0)
		}
		l.inPack[e.Place.Pack]++
		l.bits.set(bit)
		l.bytes += int64(e.Place.Length())
	})
	return l, errors.Join(err, failed)
}

// carry writes what is lacking, in the order of the source's packs.
func (c *copying) carry(ctx context.Context, l *lacking) error {
	m := c.s.newFrameMover(c.from, c.meter)
	bad := map[format.ID]bool{}
	err := c.packs(ctx, l, m, bad)
	if err == nil {
		for _, id := range l.missing {
			bad[id] = c.live.missingTrees[id]
		}
		err = c.elsewhere(ctx, m, bad)
	}
	if err = errors.Join(err, m.close()); err != nil {
		return err
	}
	if len(bad) > 0 {
		return &hurtPoint{bad: bad}
	}
	return nil
}

// packs carries over what is lacking of all packs, some of them at a time. What
// cannot be read is added to bad.
func (c *copying) packs(ctx context.Context, l *lacking, m *frameMover, bad map[format.ID]bool) error {
	for first := 0; first < len(l.inPack); {
		last, n := first, 0
		for last < len(l.inPack) && (n == 0 || n+l.inPack[last] <= copyChunks) {
			n += l.inPack[last]
			last++
		}
		places := make([]format.Place, 0, n)
		if n > 0 {
			err := c.live.each(ctx, l.bits, func(e format.RunEntry, _ int64) {
				if p := int(e.Place.Pack); p >= first && p < last {
					places = append(places, e.Place)
				}
			})
			if err != nil {
				return err
			}
		}
		slices.SortFunc(places, comparePlaces)
		for len(places) > 0 {
			end := slices.IndexFunc(places, func(p format.Place) bool { return p.Pack != places[0].Pack })
			if end < 0 {
				end = len(places)
			}
			if err := c.pack(ctx, places[:end], m, bad); err != nil {
				return err
			}
			places = places[end:]
		}
		first = last
	}
	return nil
}

// pack carries over the chunks of one pack at the given places.
func (c *copying) pack(ctx context.Context, places []format.Place, m *frameMover, bad map[format.ID]bool) error {
	pack := c.from.packs.pack(places[0].Pack)
	o, d, err := c.open(ctx, pack)
	if isGone(err) || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if o != nil {
		defer o.file.Close()
	}
	var wanted []bool
	for _, f := range d {
		if err := ctx.Err(); err != nil {
			return err
		}
		wanted = wanted[:0]
		at, bytes := 0, int64(0)
		for _, chunk := range f.Chunks {
			_, want := slices.BinarySearchFunc(places, format.NewPlace(places[0].Pack, f.Offset, int(f.Size), at, int(chunk.Length)), comparePlaces)
			want = want && !c.s.index.pending.has(chunk.ID)
			wanted = append(wanted, want)
			if want {
				bytes += int64(chunk.Length)
			}
			at += int(chunk.Length)
		}
		if bytes == 0 {
			continue
		}
		err := m.move(o, f, pack.Tree, func(i int) bool { return wanted[i] })
		if dead := c.s.writer.err(); dead != nil {
			return dead
		}
		if err != nil && !isDamage(err) {
			return err
		}
		for i, chunk := range f.Chunks {
			if err != nil && wanted[i] {
				bad[chunk.ID] = pack.Tree
			}
		}
		c.meter.done.Add(bytes)
	}
	return c.noteUnlisted(ctx, places, d, pack.Tree, bad)
}

// open opens a pack of the source and lists what can be found in it.
func (c *copying) open(ctx context.Context, pack format.RunPack) (*openPack, format.Directory, error) {
	o, err := c.from.openPack(pack)
	if err != nil {
		return nil, nil, err
	}
	d, err := o.directory()
	if err != nil && !isGone(err) {
		d, err = c.from.scanContents(ctx, o, pack.Tree)
	}
	return o, d, err
}

// noteUnlisted adds to bad the chunks that the index has in a pack and the pack
// does not list: their ids are in the index alone.
func (c *copying) noteUnlisted(ctx context.Context, places []format.Place, d format.Directory, tree bool, bad map[format.ID]bool) error {
	listed := 0
	for _, f := range d {
		at := 0
		for _, chunk := range f.Chunks {
			if _, ok := slices.BinarySearchFunc(places, format.NewPlace(places[0].Pack, f.Offset, int(f.Size), at, int(chunk.Length)), comparePlaces); ok {
				listed++
			}
			at += int(chunk.Length)
		}
	}
	if listed >= len(places) {
		return nil
	}
	return c.live.each(ctx, c.live.bits, func(e format.RunEntry, _ int64) {
		if e.Place.Pack != places[0].Pack {
			return
		}
		if _, ok := slices.BinarySearchFunc(places, e.Place, comparePlaces); ok && !c.s.index.pending.has(e.ID) {
			bad[e.ID] = tree
		}
	})
}

// elsewhere tries every other place of what could not be read, and takes from
// bad what it found. The values of bad say which are leaves or nodes.
func (c *copying) elsewhere(ctx context.Context, m *frameMover, bad map[format.ID]bool) error {
	for id, tree := range bad {
		if known, err := c.s.index.known(id); err != nil || known {
			if err != nil {
				return err
			}
			delete(bad, id)
			continue
		}
		builder := m.builders[0]
		if tree {
			builder = m.builders[1]
		}
		err := c.from.chunk(ctx, id, tree, func(b []byte) error {
			fresh, err := builder.add(id, b)
			if fresh {
				c.meter.fresh.Add(int64(len(b)))
			}
			return err
		})
		switch {
		case c.s.writer.err() != nil:
			return c.s.writer.err()
		case err == nil:
			delete(bad, id)
		case !errors.Is(err, lifeboat.ErrDamaged):
			return err
		}
	}
	// What stays is bad, whatever it is.
	for id := range bad {
		bad[id] = true
	}
	return nil
}
