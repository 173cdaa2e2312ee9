package imagestore

import (
	"context"
	"slices"
	"sync"

	"lifeboat/imagestore/format"
)

// frameCache keeps decoded frames, up to a number of bytes. Many readers may
// ask for one frame; it is read and decoded once.
type frameCache struct {
	packs *packs
	limit int64

	mu     sync.Mutex
	frames map[frameKey]*frame
	bytes  int64
	// newest and oldest are the ends of the list in order of use.
	newest, oldest *frame

	payloads sync.Pool // of *[]byte
	sealed   sync.Pool // of *[]byte
}

type frameKey struct{ pack, offset uint32 }

// frame is a decoded frame in the cache.
type frame struct {
	key          frameKey
	newer, older *frame
	// users counts those who look at the payload; it is used again for another
	// frame only once it is out of the cache and out of use.
	users           int
	loaded, evicted bool

	ready   chan struct{} // closed when the following are set
	err     error
	buffer  *[]byte
	payload []byte
	starts  []uint32

	mu  sync.Mutex
	ids []format.ID // computed when first asked for
}

func newFrameCache(p *packs, limit int64) *frameCache {
	c := &frameCache{packs: p, limit: limit, frames: map[frameKey]*frame{}}
	c.payloads.New = func() any { b := make([]byte, 0, format.PayloadBuffer); return &b }
	c.sealed.New = func() any { b := make([]byte, format.MaxFrameSize); return &b }
	return c
}

// get returns the frame of a place; the caller releases it.
func (c *frameCache) get(ctx context.Context, place format.Place) (*frame, error) {
	key := frameKey{place.Pack, place.Offset}
	c.mu.Lock()
	f := c.frames[key]
	if f != nil {
		f.users++
		c.unlink(f)
		c.link(f)
		c.mu.Unlock()
		select {
		case <-f.ready:
		case <-ctx.Done():
			c.release(f)
			return nil, ctx.Err()
		}
	} else {
		f = &frame{key: key, users: 1, ready: make(chan struct{})}
		c.frames[key] = f
		c.link(f)
		c.mu.Unlock()
		c.load(f, place.FrameSize())
	}
	if f.err != nil {
		c.release(f)
		return nil, f.err
	}
	return f, nil
}

// load decodes a frame. An error is not kept: the next reader tries again, as
// the drive may be back.
func (c *frameCache) load(f *frame, size int) {
	f.buffer = c.payloads.Get().(*[]byte)
	f.err = c.decode(f, size)
	c.mu.Lock()
	if f.err != nil {
		c.drop(f)
	} else {
		f.loaded = true
		c.bytes += int64(cap(f.payload))
		c.makeRoom(f)
	}
	c.mu.Unlock()
	close(f.ready)
}

// makeRoom drops the frames that were not used for longest, but not the one
// that was just read. The caller holds mu.
func (c *frameCache) makeRoom(keep *frame) {
	for f := c.oldest; f != nil && c.bytes > c.limit; {
		next := f.newer
		if f.loaded && f != keep {
			c.drop(f)
		}
		f = next
	}
}

func (c *frameCache) decode(f *frame, size int) error {
	if size <= format.FrameHeaderSize || size > format.MaxFrameSize {
		return format.ErrCorrupt
	}
	pack, err := c.packs.acquire(f.key.pack)
	if err != nil {
		return err
	}
	defer c.packs.release(pack)
	sealed := c.sealed.Get().(*[]byte)
	defer c.sealed.Put(sealed)
	b := (*sealed)[:size]
	if err := readFull(pack.file, b, int64(f.key.offset)); err != nil {
		return err
	}
	key := *pack.key // its scratch space is for one goroutine
	payload, lengths, h, err := key.OpenFrame((*f.buffer)[:0], nil, b)
	if err != nil {
		return err
	}
	if h.Type != format.FrameChunks {
		return format.ErrCorrupt
	}
	f.payload, f.starts = payload, startsOf(lengths)
	f.ids = make([]format.ID, len(lengths))
	return nil
}

// startsOf turns lengths into the places where chunks begin, in place.
func startsOf(lengths []uint32) []uint32 {
	at := uint32(0)
	for i, n := range lengths {
		lengths[i] = at
		at += n
	}
	return lengths
}

// chunk returns the bytes of a chunk of the frame if they have that id.
func (f *frame) chunk(namers *namers, id format.ID, place format.Place, tree bool) ([]byte, error) {
	i, ok := slices.BinarySearch(f.starts, uint32(place.At()))
	end := place.At() + place.Length()
	if !ok || end > len(f.payload) {
		return nil, format.ErrCorrupt
	}
	b := f.payload[place.At():end]
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ids[i].IsZero() {
		f.ids[i] = namers.name(b, tree)
	}
	if f.ids[i] != id {
		return nil, format.ErrCorrupt
	}
	return b, nil
}

func (c *frameCache) release(f *frame) {
	c.mu.Lock()
	f.users--
	c.recycle(f)
	c.mu.Unlock()
}

// drop takes a frame out of the cache. The caller holds mu.
func (c *frameCache) drop(f *frame) {
	c.unlink(f)
	delete(c.frames, f.key)
	if f.loaded {
		c.bytes -= int64(cap(f.payload))
	}
	f.evicted = true
	c.recycle(f)
}

// forget drops the frames of a pack, so that they are read again.
func (c *frameCache) forget(pack uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, f := range c.frames {
		if key.pack == pack && f.loaded {
			c.drop(f)
		}
	}
}

func (c *frameCache) recycle(f *frame) {
	if f.evicted && f.users == 0 && f.buffer != nil {
		c.payloads.Put(f.buffer)
		f.buffer, f.payload = nil, nil
	}
}

func (c *frameCache) link(f *frame) {
	f.older, f.newer = c.newest, nil
	if c.newest != nil {
		c.newest.newer = f
	} else {
		c.oldest = f
	}
	c.newest = f
}

func (c *frameCache) unlink(f *frame) {
	if f.newer != nil {
		f.newer.older = f.older
	} else {
		c.newest = f.older
	}
	if f.older != nil {
		f.older.newer = f.newer
	} else {
		c.oldest = f.newer
	}
	f.newer, f.older = nil, nil
}

// namers lends namers, which serve one goroutine each.
type namers struct {
	chunkKey [32]byte
	free     chan *format.Namer
}

// maxFreeNamers is how many are kept for the next who need one; more than that
// many goroutines rarely name something at a time.
const maxFreeNamers = 16

func newNamers(chunkKey [32]byte) *namers {
	return &namers{chunkKey, make(chan *format.Namer, maxFreeNamers)}
}

func (n *namers) name(b []byte, tree bool) format.ID {
	var namer *format.Namer
	select {
	case namer = <-n.free:
	default:
		namer = format.NewNamer(n.chunkKey)
	}
	defer func() {
		select {
		case n.free <- namer:
		default:
		}
	}()
	if tree {
		return namer.Tree(b)
	}
	return namer.Chunk(b)
}
