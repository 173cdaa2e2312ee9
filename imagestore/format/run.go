package format

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// The layout of an index run.
const (
	RunPageSize    = 4096
	RunPageEntries = 85
	runEntrySize   = 48
	RunFooterSize  = 64
	runSegment     = 64 << 10
	runEnd         = "LBRUNEND"

	filterBlock     = 64
	filterBits      = 10
	filterProbes    = 6
	maxRunPacks     = 1 << 24
	maxRunReplaced  = 1 << 16
	maxRunEntries   = 1 << 40
	packEntrySize   = 33
	runPagePlain    = RunPageEntries * runEntrySize
	_               = uint(RunPageSize - runPagePlain - tagSize) // a page is full
	maxFrameInIndex = 1<<20 - 1
)

// Place says where a chunk is: in which pack (a number that means something to
// whoever gave it), in which frame, and where in its payload.
type Place struct {
	Pack   uint32
	Offset uint32
	packed uint64
}

// NewPlace makes a place. Size is the length of the frame with its header, at
// and length are those of the chunk in the payload.
func NewPlace(pack, offset uint32, size, at, length int) Place {
	return Place{pack, offset, uint64(length-1) | uint64(at)<<17 | uint64(size)<<35}
}

// Length is the length of the chunk.
func (p Place) Length() int { return int(p.packed&(1<<17-1)) + 1 }

// At is where the chunk begins in the decoded payload.
func (p Place) At() int { return int(p.packed >> 17 & (1<<18 - 1)) }

// FrameSize is the length of the frame with its header.
func (p Place) FrameSize() int { return int(p.packed >> 35 & maxFrameInIndex) }

func (p Place) check() error {
	if p.packed>>55 != 0 || p.At()+p.Length() > MaxPayload || p.Offset < HeaderSize ||
		p.FrameSize() <= FrameHeaderSize || p.FrameSize() > MaxFrameSize {
		return corrupt("an index entry that points nowhere")
	}
	return nil
}

// RunEntry is one chunk in an index run.
type RunEntry struct {
	ID    ID
	Place Place
}

// RunKey seals and opens the parts of one run. It may be used by many
// goroutines.
type RunKey struct {
	header [HeaderSize]byte
	key    cipher.AEAD
}

// NewRunKey derives the key of the run with this header.
func NewRunKey(h Header, master [32]byte) (*RunKey, error) {
	key, err := h.FileKey(master)
	if err != nil {
		return nil, err
	}
	k := &RunKey{key: key}
	h.Append(k.header[:0])
	return k, nil
}

func runNonce(n uint64, part string) (nonce [12]byte) {
	le.PutUint64(nonce[:], n)
	copy(nonce[8:], part)
	return nonce
}

// AppendPage writes page n with up to 85 entries behind b.
func (k *RunKey) AppendPage(b []byte, n uint64, entries []RunEntry) []byte {
	var plain [runPagePlain]byte
	for i, e := range entries {
		p := plain[i*runEntrySize:]
		copy(p, e.ID[:])
		le.PutUint32(p[32:], e.Place.Pack)
		le.PutUint32(p[36:], e.Place.Offset)
		le.PutUint64(p[40:], e.Place.packed)
	}
	nonce := runNonce(n, "page")
	return k.key.Seal(b, nonce[:], plain[:], k.header[:])
}

// OpenPage opens page n in place.
func (k *RunKey) OpenPage(b []byte, n uint64) (RunPage, error) {
	nonce := runNonce(n, "page")
	if len(b) != RunPageSize {
		return nil, corrupt("an index page of %d bytes", len(b))
	}
	plain, err := k.key.Open(b[:0], nonce[:], b, k.header[:])
	if err != nil {
		return nil, corrupt("the seal of an index page does not fit")
	}
	return RunPage(plain), nil
}

// RunPage is an opened page.
type RunPage []byte

// Entry returns entry i of the page.
func (p RunPage) Entry(i int) RunEntry {
	b := p[i*runEntrySize:]
	return RunEntry{ID(b[:32]), Place{le.Uint32(b[32:]), le.Uint32(b[36:]), le.Uint64(b[40:])}}
}

// Check says whether the first n entries ascend after the given id, point to
// packs below packs, and nothing follows them.
func (p RunPage) Check(n int, after ID, packs uint32) error {
	for i := range n {
		e := p.Entry(i)
		if bytes.Compare(e.ID[:], after[:]) <= 0 {
			return corrupt("index entries that do not ascend")
		}
		if e.Place.Pack >= packs {
			return corrupt("an index entry that names no pack")
		}
		if err := e.Place.check(); err != nil {
			return err
		}
		after = e.ID
	}
	if !allZero(p[n*runEntrySize:]) {
		return corrupt("index entries beyond the last")
	}
	return nil
}

// Find looks for an id among the first n entries.
func (p RunPage) Find(id ID, n int) (Place, bool) {
	lo, hi := 0, n
	for lo < hi {
		mid := (lo + hi) / 2
		if bytes.Compare(p[mid*runEntrySize:mid*runEntrySize+32], id[:]) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == n || !bytes.Equal(p[lo*runEntrySize:lo*runEntrySize+32], id[:]) {
		return Place{}, false
	}
	return p.Entry(lo).Place, true
}

// RunFooter ends an index run.
type RunFooter struct {
	Entries      uint64
	Packs        uint32
	Replaced     uint32
	FilterBlocks uint64
}

// Pages is how many pages the run has.
func (f RunFooter) Pages() int64 { return int64((f.Entries + RunPageEntries - 1) / RunPageEntries) }

// PageEntries is how many entries page n holds.
func (f RunFooter) PageEntries(n int64) int {
	return int(min(RunPageEntries, f.Entries-uint64(n)*RunPageEntries))
}

// TailSize is the length of the plain tail.
func (f RunFooter) TailSize() int64 {
	return 32*int64(f.Replaced) + packEntrySize*int64(f.Packs) + 4*f.Pages() + f.FilterSize()
}

// FilterSize is the length of the filter, which ends the tail.
func (f RunFooter) FilterSize() int64 { return filterBlock * int64(f.FilterBlocks) }

// FileSize is the length of the whole run.
func (f RunFooter) FileSize() int64 {
	tail := f.TailSize()
	segments := (tail + runSegment - 1) / runSegment
	return RunPageSize*(1+f.Pages()) + tail + segments*tagSize + RunFooterSize
}

// Append writes the footer behind b.
func (f RunFooter) Append(b []byte) []byte {
	start := len(b)
	b = append(b, runEnd...)
	b = le.AppendUint64(b, f.Entries)
	b = le.AppendUint32(b, f.Packs)
	b = le.AppendUint32(b, f.Replaced)
	b = le.AppendUint64(b, f.FilterBlocks)
	b = append(b, make([]byte, 28)...)
	return le.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// DecodeRunFooter reads the footer of a run whose file has size bytes.
func DecodeRunFooter(b []byte, size int64) (RunFooter, error) {
	var f RunFooter
	if len(b) != RunFooterSize || string(b[:8]) != runEnd ||
		le.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) || !allZero(b[32:60]) {
		return f, corrupt("the index run has no footer")
	}
	f = RunFooter{le.Uint64(b[8:]), le.Uint32(b[16:]), le.Uint32(b[20:]), le.Uint64(b[24:])}
	if f.Entries < 1 || f.Entries > maxRunEntries || f.Packs < 1 || f.Packs > maxRunPacks || f.Replaced > maxRunReplaced ||
		f.FilterBlocks < 1 || f.FilterBlocks > f.Entries || f.FileSize() != size {
		return f, corrupt("the index run's footer does not fit its length")
	}
	return f, nil
}

// SegmentCount is how many segments the tail is sealed in.
func (f RunFooter) SegmentCount() int64 { return (f.TailSize() + runSegment - 1) / runSegment }

// AppendSegment seals segment n of the tail behind b: 65 536 bytes of it, or what
// is left.
func (k *RunKey) AppendSegment(b []byte, n uint64, f RunFooter, plain []byte) []byte {
	extra := append(k.header[:len(k.header):len(k.header)], f.Append(nil)...)
	nonce := runNonce(n, "tail")
	return k.key.Seal(b, nonce[:], plain, extra)
}

// The parts of a tail: SegmentPlain bytes become SegmentSize when sealed.
const (
	SegmentPlain = runSegment
	SegmentSize  = runSegment + tagSize
)

// OpenSegment opens segment n of the tail in place. One that opens proves the
// footer too, so that the tail's length can be believed.
func (k *RunKey) OpenSegment(b []byte, n uint64, f RunFooter) ([]byte, error) {
	extra := append(k.header[:len(k.header):len(k.header)], f.Append(nil)...)
	nonce := runNonce(n, "tail")
	plain, err := k.key.Open(b[:0], nonce[:], b, extra)
	if err != nil {
		return nil, corrupt("the seal of the index run's tail does not fit")
	}
	return plain, nil
}

// CheckRunHead says whether the first page of a run, which is a header followed
// by zeros, is as it was written.
func CheckRunHead(b []byte) error {
	if len(b) != RunPageSize || !allZero(b[HeaderSize:]) {
		return corrupt("something follows the header of an index run")
	}
	return nil
}

// CheckHeader says whether the first page of the run is the one that the key was
// made for.
func (k *RunKey) CheckHeader(b []byte) error {
	if err := CheckRunHead(b); err != nil {
		return err
	}
	if !bytes.Equal(b[:HeaderSize], k.header[:]) {
		return corrupt("an index run with another header")
	}
	return nil
}

// RunTail is what a reader keeps of a run in memory.
type RunTail struct {
	Replaced []ID
	Packs    []RunPack
	// First holds the first four bytes of each page's first id.
	First  []uint32
	Filter Filter
}

// RunPack is a pack that a run covers.
type RunPack struct {
	ID   ID
	Tree bool
	// Torn says that it has no directory: it was salvaged.
	Torn bool
}

func (p RunPack) flags() byte {
	var f byte
	if p.Tree {
		f |= 1
	}
	if p.Torn {
		f |= 2
	}
	return f
}

// Append writes the tail behind b.
func (t RunTail) Append(b []byte) []byte {
	for _, id := range t.Replaced {
		b = append(b, id[:]...)
	}
	for _, p := range t.Packs {
		b = append(b, p.ID[:]...)
		b = append(b, p.flags())
	}
	for _, v := range t.First {
		b = le.AppendUint32(b, v)
	}
	return append(b, t.Filter...)
}

// DecodeRunTail reads a tail, whose filter is apart from what stands before it;
// the result shares the memory of the filter alone.
func DecodeRunTail(b, filter []byte, f RunFooter) (RunTail, error) {
	var t RunTail
	if int64(len(filter)) != f.FilterSize() || int64(len(b)) != f.TailSize()-f.FilterSize() {
		return t, corrupt("an index run's tail of %d bytes, not %d", len(b)+len(filter), f.TailSize())
	}
	r := reader{b: b}
	t.Replaced = make([]ID, f.Replaced)
	for i := range t.Replaced {
		r.bytes(t.Replaced[i][:])
	}
	t.Packs = make([]RunPack, f.Packs)
	for i := range t.Packs {
		r.bytes(t.Packs[i].ID[:])
		flag := r.u8()
		if flag > 3 {
			return t, corrupt("a pack of unknown kind in an index run")
		}
		t.Packs[i].Tree, t.Packs[i].Torn = flag&1 != 0, flag&2 != 0
	}
	t.First = make([]uint32, f.Pages())
	for i := range t.First {
		t.First[i] = r.u32()
		if i > 0 && t.First[i] < t.First[i-1] {
			return t, corrupt("index pages that do not ascend")
		}
	}
	t.Filter = Filter(filter)
	return t, r.err
}

// Prefix is the number by which pages are found.
func Prefix(id ID) uint32 { return binary.BigEndian.Uint32(id[:]) }

// Filter tells without any reading that an id is not in a run.
type Filter []byte

// FilterBlocks is how many blocks the filter of n entries has.
func FilterBlocks(n uint64) uint64 {
	return max(1, n*filterBits/(filterBlock*8))
}

func filterPlace(id ID, blocks uint64) uint64 {
	n, _ := bits.Mul64(binary.BigEndian.Uint64(id[:]), blocks)
	return n
}

// FilterMaker makes a filter of ids that ascend, as those of a run do. It keeps
// one block of it.
type FilterMaker struct {
	blocks, at uint64
	block      [filterBlock]byte
	emit       func([]byte) error
}

// NewFilterMaker makes a filter of so many blocks, which go to emit in order.
func NewFilterMaker(blocks uint64, emit func([]byte) error) *FilterMaker {
	return &FilterMaker{blocks: blocks, emit: emit}
}

// Add puts an id into the filter; it is not below the one before.
func (m *FilterMaker) Add(id ID) error {
	if err := m.skipTo(filterPlace(id, m.blocks)); err != nil {
		return err
	}
	g := le.Uint64(id[8:])
	for range filterProbes {
		m.block[g>>3&63] |= 1 << (g & 7)
		g >>= 9
	}
	return nil
}

// End emits what is left.
func (m *FilterMaker) End() error { return m.skipTo(m.blocks) }

func (m *FilterMaker) skipTo(block uint64) error {
	for ; m.at < block; m.at++ {
		if err := m.emit(m.block[:]); err != nil {
			return err
		}
		m.block = [filterBlock]byte{}
	}
	return nil
}

// May says whether the id may be in the run; false is certain.
func (f Filter) May(id ID) bool {
	n := filterPlace(id, uint64(len(f)/filterBlock))
	b := f[n*filterBlock : (n+1)*filterBlock]
	g := le.Uint64(id[8:])
	for range filterProbes {
		if b[g>>3&63]&(1<<(g&7)) == 0 {
			return false
		}
		g >>= 9
	}
	return true
}
