package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// uncovered lists the packs on the drive that no run covers. It tells present
// all that there are.
func (s *Store) uncovered(ctx context.Context, present func(map[format.RunPack]bool)) ([]format.RunPack, error) {
	all, err := s.listPacks(ctx)
	if err != nil {
		return nil, err
	}
	set := map[format.RunPack]bool{}
	var list []format.RunPack
	for _, p := range all {
		set[p.RunPack] = true
		if !s.index.isCovered(p.RunPack) {
			list = append(list, p.RunPack)
		}
	}
	present(set)
	return list, nil
}

// packFile is a pack on the drive.
type packFile struct {
	format.RunPack
	entry fs.DirEntry
}

// listPacks lists every pack on the drive.
func (s *Store) listPacks(ctx context.Context) ([]packFile, error) {
	var list []packFile
	healed := map[format.RunPack]fs.DirEntry{}
	present := map[format.RunPack]bool{}
	err := s.walkPacks(ctx, func(folder string, e fs.DirEntry) {
		name, isHealed := strings.CutSuffix(e.Name(), healedSuffix)
		p, ok := parsePackName(folder, name)
		switch {
		case !ok || e.IsDir():
		case isHealed:
			healed[p] = e
		default:
			present[p] = true
			list = append(list, packFile{p, e})
		}
	})
	for p, e := range healed {
		if !present[p] {
			list = append(list, packFile{p, e})
		}
	}
	return list, err
}

// walkPacks visits everything in the folders of packs.
func (s *Store) walkPacks(ctx context.Context, visit func(folder string, e fs.DirEntry)) error {
	folders, err := s.dir.List("packs")
	if err != nil {
		return fmt.Errorf("list the packs: %w", err)
	}
	for _, folder := range folders {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !folder.IsDir() || len(folder.Name()) != 2 {
			continue
		}
		entries, err := s.dir.List("packs/" + folder.Name())
		if err != nil {
			return fmt.Errorf("list the packs: %w", err)
		}
		for _, e := range entries {
			visit(folder.Name(), e)
		}
	}
	return nil
}

func parsePackName(folder, name string) (format.RunPack, bool) {
	text, kind, ok := strings.Cut(name, ".")
	id, err := format.ParseID(text)
	if !ok || err != nil || !strings.HasPrefix(text, folder) || kind != "data" && kind != "tree" {
		return format.RunPack{}, false
	}
	return format.RunPack{ID: id, Tree: kind == "tree"}, true
}

// catchUp lets a reader see the index runs of points that were committed after
// it opened the store.
func (s *Store) catchUp(ctx context.Context, sequence uint64) error {
	s.scanMu.Lock()
	defer s.scanMu.Unlock()
	if s.mode.writes() || sequence <= s.caughtUp {
		return nil
	}
	if err := s.index.load(ctx); err != nil {
		return err
	}
	s.caughtUp = sequence
	s.scanned.Store(false)
	return nil
}

// scanUncovered lets a reader find what is in no run that it knows: runs that
// were written since it opened, and packs that no run covers. It is done once.
func (s *Store) scanUncovered(ctx context.Context) error {
	s.scanMu.Lock()
	defer s.scanMu.Unlock()
	if s.scanned.Swap(true) {
		return nil
	}
	err := s.scanNow(ctx)
	if err != nil {
		s.scanned.Store(false)
	}
	return err
}

func (s *Store) scanNow(ctx context.Context) error {
	if s.mode == Read {
		if err := s.index.load(ctx); err != nil {
			return err
		}
	}
	list, err := s.uncovered(ctx, func(map[format.RunPack]bool) {})
	if err != nil {
		return err
	}
	for _, pack := range list {
		number := s.packs.add(pack)
		pack.Torn, err = s.scanUnknown(ctx, pack, func(e format.RunEntry) {
			e.Place.Pack = number
			s.index.found.set(e.ID, e.Place)
		})
		if err != nil && !isDamage(err) {
			return err
		}
		s.packs.add(pack)
	}
	return nil
}

// salvage takes packs that no run covers into the index: the beginnings of an
// export that was cut off, or everything where the index was lost.
func (s *Store) salvage(ctx context.Context) error {
	list, err := s.uncovered(ctx, s.index.noteMissing)
	if err != nil {
		return err
	}
	var synced syncedEntries
	all := true
	for _, pack := range list {
		number := s.packs.add(pack)
		before := len(synced.entries)
		err := s.syncAgain(pack)
		if err == nil {
			pack.Torn, err = s.scanUnknown(ctx, pack, func(e format.RunEntry) {
				e.Place.Pack = number
				synced.entries = append(synced.entries, e)
			})
			s.packs.add(pack)
		}
		if err != nil && !isDamage(err) {
			return err
		}
		all = all && err == nil
		s.log.Info("salvaged a pack that no index run covers", "pack", packName(pack), "chunks", len(synced.entries)-before, "problem", err)
		if len(synced.entries) == before {
			// A run must not vouch for what was never readable.
			if err := s.removeEmpty(pack); err != nil {
				return err
			}
			continue
		}
		synced.packs = append(synced.packs, number)
		if len(synced.entries) >= s.limits.runEntries {
			if err := s.commitEntries(&synced); err != nil {
				return err
			}
		}
	}
	unreadable := s.index.unreadable()
	if err := s.commitEntries(&synced); err != nil {
		return err
	}
	if !all {
		return nil // who knows what those runs tell of the packs that are damaged
	}
	return s.index.removeAll(unreadable)
}

// errNoSync: this kind of folder cannot sync what another process wrote.
var errNoSync = errors.New("what was left cannot be made durable here")

// syncAgain makes a pack durable that another process wrote. That process may
// have been killed before it synced, and a later power cut would take away what
// the page cache still shows.
func (s *Store) syncAgain(pack format.RunPack) error {
	name := packName(pack)
	f, err := s.dir.Open(name)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	again, ok := f.(durable.Resyncer)
	if !ok {
		return errNoSync
	}
	if err := again.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return s.dir.SyncDir(name[:len("packs/00")])
}

// scanPack reports every chunk of a pack. It reads the directory where there is
// one, else frame by frame; then the pack is torn.
func (s *Store) scanPack(ctx context.Context, pack format.RunPack, report func(format.RunEntry)) (torn bool, err error) {
	o, err := s.openPack(pack)
	if err != nil {
		return true, err
	}
	defer o.file.Close()
	d, err := o.directory()
	if err == nil {
		reportDirectory(d, report)
		return false, nil
	}
	if isGone(err) {
		return true, err
	}
	return true, s.scanTorn(ctx, o, pack.Tree, report)
}

// scanUnknown is scanPack of a pack that no run covers. It is torn when it never
// was longer; one that its parity knows otherwise is damaged, and may be healed.
func (s *Store) scanUnknown(ctx context.Context, pack format.RunPack, report func(format.RunEntry)) (torn bool, err error) {
	torn, found := s.scanPack(ctx, pack, report)
	if !torn || found != nil && !isDamage(found) {
		return torn, found
	}
	par, err := s.readParity(pack)
	if err != nil && isGone(err) {
		return true, err
	}
	if err != nil {
		return true, found
	}
	r, err := s.readPackTolerant(pack)
	if err != nil {
		return true, errors.Join(found, err)
	}
	return par.isOf(r), found
}

func reportDirectory(d format.Directory, report func(format.RunEntry)) {
	for _, f := range d {
		at := 0
		for _, c := range f.Chunks {
			report(format.RunEntry{ID: c.ID, Place: format.NewPlace(0, f.Offset, int(f.Size), at, int(c.Length))})
			at += int(c.Length)
		}
	}
}

// directory reads the directory of a pack that was written to its end.
func (o *openPack) directory() (format.Directory, error) {
	var foot [format.PackFooterSize]byte
	if o.size < format.HeaderSize+format.PackFooterSize {
		return nil, format.ErrCorrupt
	}
	if err := readFull(o.file, foot[:], o.size-format.PackFooterSize); err != nil {
		return nil, err
	}
	f, err := format.DecodePackFooter(foot[:], o.key.Pack(), o.size)
	if err != nil {
		return nil, err
	}
	b := make([]byte, f.Size)
	if err := readFull(o.file, b, int64(f.Offset)); err != nil {
		return nil, err
	}
	return o.key.OpenDirectory(b, f)
}

// scanWindow is how much of a torn pack is read at once; it holds the longest
// frame.
const scanWindow = 4 << 20

// scanTorn reports the chunks of every frame that opens. Where one does not,
// the next frame header is looked for byte by byte. It goes on behind what the
// medium does not give, and returns that error at the end.
func (s *Store) scanTorn(ctx context.Context, o *openPack, tree bool, report func(format.RunEntry)) error {
	scan := frameScan{namers: s.index.namers, key: o.key, tree: tree, report: report}
	window := make([]byte, scanWindow)
	var unread error
	for offset := int64(format.HeaderSize); offset < o.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := window[:min(scanWindow, o.size-offset)]
		err := readFull(o.file, b, offset)
		scan.holes = nil
		if err != nil && !isGone(err) {
			unread, scan.holes = err, o.file
			err = readAround(o.file, b, offset)
		}
		if err != nil {
			return err
		}
		offset += int64(scan.window(b, offset, offset+int64(len(b)) == o.size))
	}
	return unread
}

// readAround reads what can be read, cell by cell; the rest is zeros.
func readAround(f io.ReaderAt, b []byte, at int64) error {
	for len(b) > 0 {
		n := min(int64(len(b)), format.CellSize-at%format.CellSize)
		err := readFull(f, b[:n], at)
		if isGone(err) {
			return err
		}
		if err != nil {
			clear(b[:n])
		}
		b, at = b[n:], at+n
	}
	return nil
}

// frameScan finds frames in the bytes of a pack.
type frameScan struct {
	namers  *namers
	key     *format.PackKey
	tree    bool
	report  func(format.RunEntry)
	payload []byte
	lengths []uint32
	// holes is the file if not all of the window could be read: a frame whose
	// neighbour in the same cell cannot be read is read alone.
	holes io.ReaderAt
}

// window reports the frames that lie whole in b, which is at offset of the pack,
// and returns how many bytes need not be looked at again: at least one.
func (c *frameScan) window(b []byte, offset int64, last bool) int {
	for at := 0; ; {
		skip := findFrame(b[at:], c.key.Pack())
		if skip < 0 {
			if last {
				return len(b)
			}
			return max(1, at, len(b)-format.FrameHeaderSize)
		}
		at += skip
		h, err := format.DecodeFrameHeader(b[at:], c.key.Pack())
		if err != nil || h.Size() > len(b)-at {
			// It reaches beyond the window; if it began there, beyond the pack.
			return max(1, at)
		}
		if h.Type != format.FrameChunks || !c.frame(b[at:at+h.Size()], uint32(offset)+uint32(at)) && !c.alone(offset+int64(at), h.Size()) {
			// What was opened in place has to be read again.
			return at + 1
		}
		at += h.Size()
	}
}

// frame reports the chunks of a frame and says whether it opened.
func (c *frameScan) frame(b []byte, offset uint32) bool {
	var err error
	c.payload, c.lengths, _, err = c.key.OpenFrame(c.payload[:0], c.lengths[:0], b)
	if err != nil {
		return false
	}
	at := 0
	for _, n := range c.lengths {
		id := c.namers.name(c.payload[at:at+int(n)], c.tree)
		c.report(format.RunEntry{ID: id, Place: format.NewPlace(0, offset, len(b), at, int(n))})
		at += int(n)
	}
	return true
}

// alone reads a frame without its neighbours.
func (c *frameScan) alone(offset int64, size int) bool {
	if c.holes == nil {
		return false
	}
	b := make([]byte, size)
	return readFull(c.holes, b, offset) == nil && c.frame(b, uint32(offset))
}

// findFrame returns where the next thing that looks like a frame header begins.
func findFrame(b []byte, pack format.ID) int {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(format.FrameMagic))
		if i < 0 || at+i+format.FrameHeaderSize > len(b) {
			return -1
		}
		if _, err := format.DecodeFrameHeader(b[at+i:], pack); err == nil {
			return at + i
		}
		at += i + 1
	}
}
