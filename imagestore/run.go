package imagestore

import (
	"fmt"
	"sort"
	"sync"
	"sync/atomic"

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// run is an index run, open for look-ups. Only its filter and the first
// numbers of its pages are in memory.
type run struct {
	id       format.ID
	file     durable.ReadFile
	key      *format.RunKey
	footer   format.RunFooter
	replaced []format.ID
	packs    []uint32 // the store's numbers of the run's packs
	first    []uint32
	// filter is nil while the run is being replaced; then every page is looked at.
	filter atomic.Pointer[format.Filter]
	// broken: a page of it cannot be read. The writer makes it anew.
	broken atomic.Bool
}

func runName(id format.ID) string { return "index/" + id.String() + ".run" }

func (s *Store) openRun(id format.ID) (*run, error) {
	f, err := s.dir.Open(runName(id))
	if err != nil {
		return nil, err
	}
	r := &run{id: id, file: f}
	if err := s.readRun(r); err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", runName(id), err)
	}
	return r, nil
}

func (s *Store) readRun(r *run) error {
	size, err := r.file.Size()
	if err != nil {
		return err
	}
	var head [format.RunPageSize]byte
	if err := readFull(r.file, head[:], 0); err != nil {
		return err
	}
	h, err := format.DecodeHeader(head[:])
	if err != nil {
		return err
	}
	master, ok := s.masters.Key(h.Generation)
	if !ok || h.Drive != s.driveID || h.File != r.id || h.Kind != format.KindRun {
		return format.ErrForeign
	}
	if err := format.CheckRunHead(head[:]); err != nil {
		return err
	}
	if r.key, err = format.NewRunKey(h, master); err != nil {
		return err
	}
	return s.readRunTail(r, size)
}

func (s *Store) readRunTail(r *run, size int64) error {
	if size < format.RunPageSize+format.RunFooterSize {
		return format.ErrCorrupt
	}
	var foot [format.RunFooterSize]byte
	if err := readFull(r.file, foot[:], size-int64(len(foot))); err != nil {
		return err
	}
	var err error
	if r.footer, err = format.DecodeRunFooter(foot[:], size); err != nil {
		return err
	}
	plain, filter, err := r.openTail(size - format.RunFooterSize)
	if err != nil {
		return err
	}
	tail, err := format.DecodeRunTail(plain, filter, r.footer)
	if err != nil {
		return err
	}
	r.replaced, r.first = tail.Replaced, tail.First
	r.filter.Store(&tail.Filter)
	for _, p := range tail.Packs {
		n := s.packs.add(p)
		if !p.Torn {
			s.packs.end(n)
		}
		r.packs = append(r.packs, n)
	}
	return nil
}

// may says whether an id may be in the run; false is certain.
func (r *run) may(id format.ID) bool {
	f := r.filter.Load()
	return f == nil || f.May(id)
}

// openTail reads the tail, which ends at the given offset: the filter, and what
// stands before it. The memory for them is taken only when the first part has
// opened: until then a hostile drive may have made up the footer.
func (r *run) openTail(end int64) (plain, filter []byte, err error) {
	before := int(r.footer.TailSize() - r.footer.FilterSize())
	err = r.eachSegment(end, func(opened []byte) error {
		if plain == nil {
			plain, filter = make([]byte, 0, before), make([]byte, 0, r.footer.FilterSize())
		}
		n := min(len(opened), before-len(plain))
		plain, filter = append(plain, opened[:n]...), append(filter, opened[n:]...)
		return nil
	})
	return plain, filter, err
}

// eachSegment reads and opens the parts of the tail, in order.
func (r *run) eachSegment(end int64, do func(opened []byte) error) error {
	at := format.RunPageSize * (1 + r.footer.Pages())
	var sealed [format.SegmentSize]byte
	for n := uint64(0); at < end; n++ {
		b := sealed[:min(int64(len(sealed)), end-at)]
		if err := readFull(r.file, b, at); err != nil {
			return err
		}
		at += int64(len(b))
		opened, err := r.key.OpenSegment(b, n, r.footer)
		if err != nil {
			return err
		}
		if err := do(opened); err != nil {
			return err
		}
	}
	return nil
}

// checkAgain reads from the medium what was read when the run was opened, and
// keeps nothing of it. The seals of the tail's parts prove that they are the same
// ones, and so is the footer.
func (r *run) checkAgain() error {
	end := r.footer.FileSize() - format.RunFooterSize
	var head [format.RunPageSize]byte
	if err := readFull(r.file, head[:], 0); err != nil {
		return err
	}
	if err := r.key.CheckHeader(head[:]); err != nil {
		return err
	}
	var foot [format.RunFooterSize]byte
	if err := readFull(r.file, foot[:], end); err != nil {
		return err
	}
	footer, err := format.DecodeRunFooter(foot[:], r.footer.FileSize())
	if err == nil && footer != r.footer {
		err = format.ErrCorrupt
	}
	if err != nil {
		return err
	}
	return r.eachSegment(end, func([]byte) error { return nil })
}

// pagesOf returns the pages that may hold an id: nearly always one.
func (r *run) pagesOf(id format.ID) (first, last int64) {
	want := format.Prefix(id)
	next := sort.Search(len(r.first), func(i int) bool { return r.first[i] > want })
	// Pages that begin with that very number may be preceded by one that ends
	// with it.
	begin := sort.Search(next, func(i int) bool { return r.first[i] >= want })
	return int64(max(0, begin-1)), int64(next - 1)
}

// readPage reads and opens a page into b, which has the length of one.
func (r *run) readPage(n int64, b []byte) (format.RunPage, error) {
	if err := readFull(r.file, b, format.RunPageSize*(1+n)); err != nil {
		return nil, err
	}
	return r.key.OpenPage(b, uint64(n))
}

// local turns the pack number of a run's entry into the store's.
func (r *run) local(p format.Place) (format.Place, error) {
	if p.Pack >= uint32(len(r.packs)) {
		return p, format.ErrCorrupt
	}
	p.Pack = r.packs[p.Pack]
	return p, nil
}

// pageCacheSlots times a page are 16 MiB: the index of about 340,000 chunks, or
// 10 GiB of unique data, is looked up without reading it twice. Of a large index
// hardly any page is asked for twice: then fewer are used.
const pageCacheSlots = 4096

// pageCache keeps opened index pages, each in the one slot that its number
// leads to. It allocates a slot once and never again.
type pageCache struct {
	slots [pageCacheSlots]pageSlot
	used  uint64 // how many of them
}

type pageSlot struct {
	mu sync.Mutex
	// run is an id and not a pointer: a run that was merged away leaves memory.
	run  format.ID
	page int64
	buf  []byte
	open format.RunPage
}

// find looks an id up in a page of a run.
func (c *pageCache) find(r *run, n int64, id format.ID) (format.Place, bool, error) {
	slot := &c.slots[(uint64(n)*0x9e3779b97f4a7c15+uint64(r.id[0])*0x85ebca6b)>>20%c.used]
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.run != r.id || slot.page != n {
		if slot.buf == nil {
			slot.buf = make([]byte, format.RunPageSize)
		}
		slot.run = format.ID{}
		page, err := r.readPage(n, slot.buf)
		if err != nil {
			return format.Place{}, false, err
		}
		slot.run, slot.page, slot.open = r.id, n, page
	}
	p, ok := slot.open.Find(id, r.footer.PageEntries(n))
	if !ok {
		return p, false, nil
	}
	p, err := r.local(p)
	return p, err == nil, err
}
