package imagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// marks are the places that failed a check. They are no deduplication hit, so
// the next export that meets such a chunk writes it again.
type marks struct {
	mu     sync.RWMutex
	places map[markKey]bool
	// whole holds the packs and the index runs that are marked altogether.
	whole map[format.ID]bool
}

type markKey struct {
	pack   uint32
	offset uint32
	chunk  format.ID
}

func newMarks() *marks { return &marks{places: map[markKey]bool{}, whole: map[format.ID]bool{}} }

// load reads the marks on the drive.
func (m *marks) load(s *Store) error {
	entries, err := s.dir.List("marks")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the marks: %w", err)
	}
	for _, e := range entries {
		text, ok := strings.CutSuffix(e.Name(), ".mark")
		if _, err := format.ParseID(text); !ok || err != nil {
			continue
		}
		mark, err := s.readMark("marks/" + e.Name())
		if isGone(err) {
			return err
		}
		if err != nil {
			s.log.Warn("a mark cannot be read", "file", e.Name(), "why", err)
			continue
		}
		m.add(s.packs, mark)
	}
	return nil
}

// listMarks returns the names of the marks in their folder; whatever else lies
// there is somebody else's.
func listMarks(dir durable.Dir, folder string) ([]string, error) {
	return listIDs(dir, folder, ".mark")
}

// listIDs returns the names in a folder that are a file id and a suffix.
func listIDs(dir durable.Dir, folder, suffix string) (names []string, err error) {
	entries, err := dir.List(folder)
	for _, e := range entries {
		text, ok := strings.CutSuffix(e.Name(), suffix)
		if _, err := format.ParseID(text); ok && err == nil && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// reload forgets the marks and reads those on the drive.
func (m *marks) reload(s *Store) error {
	m.mu.Lock()
	clear(m.places)
	clear(m.whole)
	m.mu.Unlock()
	return m.load(s)
}

func (s *Store) readMark(name string) (format.Mark, error) {
	b, err := durable.ReadWhole(s.dir, name, format.MaxSmallFile)
	if err != nil {
		return nil, err
	}
	_, body, err := format.OpenSmall(b, s.driveID, format.KindMark, s.masters)
	if err != nil {
		return nil, err
	}
	return format.DecodeMark(body)
}

func (m *marks) add(p *packs, mark format.Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range mark {
		if e.Offset == 0 {
			m.whole[e.Pack] = true
		}
		for _, tree := range []bool{false, true} {
			m.places[markKey{p.add(format.RunPack{ID: e.Pack, Tree: tree}), e.Offset, e.Chunk}] = true
		}
	}
}

// addPack marks a whole pack.
func (m *marks) addPack(number uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.places[markKey{pack: number}] = true
}

// hasFile says whether a whole file is marked.
func (m *marks) hasFile(id format.ID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.whole[id]
}

// packNumbers are the packs of which anything is marked.
func (m *marks) packNumbers() map[uint32]bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	numbers := map[uint32]bool{}
	for key := range m.places {
		numbers[key.pack] = true
	}
	return numbers
}

func (m *marks) empty() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.places) == 0
}

// has says whether the chunk at a place is marked.
func (m *marks) has(p format.Place, id format.ID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.places) == 0 {
		return false
	}
	return m.places[markKey{p.Pack, p.Offset, id}] || m.places[markKey{p.Pack, p.Offset, format.ID{}}] || m.places[markKey{p.Pack, 0, format.ID{}}]
}

// remember marks places, on the drive as well if it can be written.
func (s *Store) remember(mark format.Mark) error {
	s.marks.add(s.packs, mark)
	if len(mark) == 0 || s.dir.ReadOnly() {
		return nil
	}
	h := format.Header{Kind: format.KindMark, Generation: s.super.Generation, Drive: s.driveID, File: newFileID()}
	b, err := s.seal(h, mark.Append(nil))
	if err != nil {
		return err
	}
	return s.wrote(durable.WriteFileAtomic(s.dir, "marks/"+h.File.String()+".mark", b))
}

// seal seals a small file with the current key.
func (s *Store) seal(h format.Header, body []byte) ([]byte, error) {
	master, ok := s.masters.Key(h.Generation)
	if !ok {
		return nil, fmt.Errorf("no key of generation %d", h.Generation)
	}
	return format.SealSmall(h, master, body)
}
