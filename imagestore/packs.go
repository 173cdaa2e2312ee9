package imagestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"sync"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// maxOpenPacks bounds open files; a drive of terabytes has tens of thousands.
const maxOpenPacks = 64

// packs gives packs small numbers, and keeps a few of them open for reading.
type packs struct {
	s *Store

	mu     sync.Mutex
	list   []format.RunPack
	number map[format.RunPack]uint32
	torn   map[uint32]bool
	// ended packs have a directory: a run says so, or it was opened after healing.
	ended map[uint32]bool
	// gone are the packs that this store has removed.
	gone map[uint32]bool
	open map[uint32]*openPack
	turn uint64
}

// openPack is a pack that is being read.
type openPack struct {
	file durable.ReadFile
	key  *format.PackKey
	size int64
	// users counts those who read from it right now; used is when it was last
	// asked for.
	users int
	used  uint64
}

func newPacks(s *Store) *packs {
	return &packs{s: s, number: map[format.RunPack]uint32{}, torn: map[uint32]bool{}, ended: map[uint32]bool{}, gone: map[uint32]bool{}, open: map[uint32]*openPack{}}
}

// add gives a pack its number, the same each time.
func (p *packs) add(pack format.RunPack) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	torn := pack.Torn
	pack.Torn = false // a pack is the same one, torn or not
	n, ok := p.number[pack]
	if !ok {
		n = uint32(len(p.list))
		p.list = append(p.list, pack)
		p.number[pack] = n
	}
	if torn && !p.ended[n] {
		p.torn[n] = true
	}
	return n
}

// end notes that a pack has a directory, whatever an older run says of it: its
// directory was rotten when that run was written, and is healed.
func (p *packs) end(n uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended[n] = true
	delete(p.torn, n)
}

func (p *packs) isTorn(n uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.torn[n]
}

func (p *packs) pack(n uint32) format.RunPack {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list[n]
}

func packName(p format.RunPack) string {
	id := p.ID.String()
	if p.Tree {
		return "packs/" + id[:2] + "/" + id + ".tree"
	}
	return "packs/" + id[:2] + "/" + id + ".data"
}

func packKind(tree bool) format.Kind {
	if tree {
		return format.KindTreePack
	}
	return format.KindDataPack
}

// removePack takes a pack from the drive, and everything that only serves it.
// Nothing may refer to it any more; whoever removes has the store alone. The pack
// goes first: parity without a pack that the index knows is removed by the next
// writer.
func (s *Store) removePack(p format.RunPack) error {
	number := s.packs.add(p)
	s.packs.forget(number)
	s.packs.mu.Lock()
	s.packs.gone[number] = true
	s.packs.mu.Unlock()
	// A second copy goes before the pack, or the next writer would put it back.
	for _, name := range []string{packName(p) + healedSuffix, packName(p), parityName(p)} {
		if err := s.index.remove(name); err != nil {
			return err
		}
	}
	return nil
}

// forget closes a pack, so that the next reader opens what has its name then.
func (p *packs) forget(number uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.open[number]; o != nil && o.users == 0 {
		o.file.Close()
		delete(p.open, number)
	}
}

// goneNow returns the packs that this store has removed so far: an index run
// that is written from now on does not name them.
func (p *packs) goneNow() map[uint32]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.gone)
}

// acquire opens a pack, or finds it open. The caller gives it back.
func (p *packs) acquire(n uint32) (*openPack, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	o := p.open[n]
	if o == nil {
		p.makeRoom()
		var err error
		if o, err = p.s.openPack(p.list[n]); err != nil {
			return nil, err
		}
		p.open[n] = o
	}
	o.users++
	o.used = p.turn
	return o, nil
}

func (p *packs) release(o *openPack) {
	p.mu.Lock()
	o.users--
	p.mu.Unlock()
}

// makeRoom closes the pack that was not used for longest. The caller holds mu.
func (p *packs) makeRoom() {
	if len(p.open) < maxOpenPacks {
		return
	}
	var oldest uint32
	var found *openPack
	for n, o := range p.open {
		if o.users == 0 && (found == nil || o.used < found.used) {
			oldest, found = n, o
		}
	}
	if found != nil {
		found.file.Close()
		delete(p.open, oldest)
	}
}

func (p *packs) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.open {
		o.file.Close()
	}
	clear(p.open)
}

// openPack opens a pack and checks its header.
func (s *Store) openPack(pack format.RunPack) (*openPack, error) {
	name := packName(pack)
	f, err := s.dir.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = s.openHealed(pack, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	o, err := s.readPackHeader(f, pack)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return o, nil
}

func (s *Store) readPackHeader(f durable.ReadFile, pack format.RunPack) (*openPack, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	var b [format.HeaderSize]byte
	if err := readFull(f, b[:], 0); err != nil {
		return nil, err
	}
	h, err := format.DecodeHeader(b[:])
	if err != nil {
		return nil, err
	}
	if h.Drive != s.driveID || h.File != pack.ID || h.Kind != packKind(pack.Tree) {
		return nil, format.ErrForeign
	}
	master, ok := s.masters.Key(h.Generation)
	if !ok {
		return nil, format.ErrForeign
	}
	if size > format.MaxPackSize {
		return nil, fmt.Errorf("%w: a pack of %d bytes", format.ErrCorrupt, size)
	}
	key, err := format.NewPackKey(h, master)
	return &openPack{file: f, key: key, size: size}, err
}

// readFull fills b from offset, or fails; a file that is too short is damaged.
func readFull(f io.ReaderAt, b []byte, offset int64) error {
	n, err := f.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the file ends at %d", format.ErrCorrupt, offset+int64(n))
	}
	return err
}

// isGone says that an error is about the drive, not about bytes on it.
func isGone(err error) bool { return errors.Is(err, lifeboat.ErrDriveGone) }
