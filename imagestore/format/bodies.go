package format

import (
	"bytes"
	"encoding/json"
)

// FeatureParts is the incompatible feature bit of a store in which a point may be
// a part: some disks of its machine, the others on other drives. A program that
// does not know it would take a part for the machine.
const FeatureParts = 1 << 0

// Superblock says what the store is; it is the first thing read.
type Superblock struct {
	// Compatible features may be unknown; read-only-compatible ones keep a
	// writer away, incompatible ones everybody.
	Compatible, ReadOnlyCompatible, Incompatible uint64
	Generation                                   uint32
	Drive, Site                                  ShortID
	ChunkKey, CutKey                             [32]byte
	CreatedAt                                    int64
	Label, SiteName, Program                     string
}

// Append writes the superblock's body behind b.
func (s Superblock) Append(b []byte) []byte {
	b = le.AppendUint64(b, s.Compatible)
	b = le.AppendUint64(b, s.ReadOnlyCompatible)
	b = le.AppendUint64(b, s.Incompatible)
	b = le.AppendUint32(b, s.Generation)
	b = append(b, s.Drive[:]...)
	b = append(b, s.Site[:]...)
	b = append(b, s.ChunkKey[:]...)
	b = append(b, s.CutKey[:]...)
	b = le.AppendUint64(b, uint64(s.CreatedAt))
	b = appendText(b, s.Label)
	b = appendText(b, s.SiteName)
	return appendText(b, s.Program)
}

// DecodeSuperblock reads a superblock's body.
func DecodeSuperblock(b []byte) (Superblock, error) {
	r := reader{b: b}
	var s Superblock
	s.Compatible, s.ReadOnlyCompatible, s.Incompatible = r.u64(), r.u64(), r.u64()
	s.Generation = r.u32()
	r.bytes(s.Drive[:])
	r.bytes(s.Site[:])
	r.bytes(s.ChunkKey[:])
	r.bytes(s.CutKey[:])
	s.CreatedAt = int64(r.u64())
	s.Label, s.SiteName, s.Program = r.text(), r.text(), r.text()
	return s, r.end()
}

// Point is a restore point as it lies on the drive.
type Point struct {
	Sequence uint64
	ID       ShortID
	// PreviousHead is the hash of the head before this commit.
	PreviousHead ID
	Disks        []PointDisk
	// JSON is the lifeboat.RestorePoint, word for word.
	JSON []byte
}

// PointDisk is where the tree of a disk begins.
type PointDisk struct {
	Key  string
	Size int64
	Root ID
}

// Append writes the point's body behind b.
func (p Point) Append(b []byte) []byte {
	b = le.AppendUint64(b, p.Sequence)
	b = append(b, p.ID[:]...)
	b = append(b, p.PreviousHead[:]...)
	b = le.AppendUint16(b, uint16(len(p.Disks)))
	for _, d := range p.Disks {
		b = appendText(b, d.Key)
		b = le.AppendUint64(b, uint64(d.Size))
		b = append(b, d.Root[:]...)
	}
	b = le.AppendUint32(b, uint32(len(p.JSON)))
	return append(b, p.JSON...)
}

// DecodePoint reads a point's body.
func DecodePoint(b []byte) (Point, error) {
	r := reader{b: b}
	p := Point{Sequence: r.u64()}
	r.bytes(p.ID[:])
	r.bytes(p.PreviousHead[:])
	p.Disks = make([]PointDisk, r.count(2, 42))
	for i := range p.Disks {
		d := &p.Disks[i]
		d.Key = r.text()
		d.Size = int64(r.u64())
		r.bytes(d.Root[:])
		if d.Size < 0 || d.Size > MaxDiskSize || i > 0 && p.Disks[i-1].Key >= d.Key {
			return p, corrupt("a point's disks")
		}
	}
	p.JSON = bytes.Clone(r.take(r.count(4, 1)))
	if err := r.end(); err != nil {
		return p, err
	}
	if !json.Valid(p.JSON) {
		return p, corrupt("a point whose description is not JSON")
	}
	return p, nil
}

// Head is one state of the store.
type Head struct {
	Sequence uint64
	Previous ID
	Points   []HeadPoint
}

// HeadPoint is a point that the store holds.
type HeadPoint struct {
	ID       ShortID
	Sequence uint64
	Hash     ID
}

// Append writes the head's body behind b.
func (h Head) Append(b []byte) []byte {
	b = le.AppendUint64(b, h.Sequence)
	b = append(b, h.Previous[:]...)
	b = le.AppendUint32(b, uint32(len(h.Points)))
	for _, p := range h.Points {
		b = append(b, p.ID[:]...)
		b = le.AppendUint64(b, p.Sequence)
		b = append(b, p.Hash[:]...)
	}
	return b
}

// DecodeHead reads a head's body.
func DecodeHead(b []byte) (Head, error) {
	r := reader{b: b}
	h := Head{Sequence: r.u64()}
	r.bytes(h.Previous[:])
	h.Points = make([]HeadPoint, r.count(4, 56))
	last := uint64(0)
	for i := range h.Points {
		p := &h.Points[i]
		r.bytes(p.ID[:])
		p.Sequence = r.u64()
		r.bytes(p.Hash[:])
		if p.Sequence <= last || p.Sequence > h.Sequence {
			return h, corrupt("a head whose points do not ascend")
		}
		last = p.Sequence
	}
	return h, r.end()
}

// Mark is a list of places that failed a check.
type Mark []MarkEntry

// MarkEntry is one of them; an empty chunk id means the whole frame.
type MarkEntry struct {
	Pack   ID
	Offset uint32
	Chunk  ID
}

// Append writes the mark's body behind b.
func (m Mark) Append(b []byte) []byte {
	b = le.AppendUint32(b, uint32(len(m)))
	for _, e := range m {
		b = append(b, e.Pack[:]...)
		b = le.AppendUint32(b, e.Offset)
		b = append(b, e.Chunk[:]...)
	}
	return b
}

// DecodeMark reads a mark's body.
func DecodeMark(b []byte) (Mark, error) {
	r := reader{b: b}
	m := make(Mark, r.count(4, 68))
	for i := range m {
		r.bytes(m[i].Pack[:])
		m[i].Offset = r.u32()
		r.bytes(m[i].Chunk[:])
	}
	return m, r.end()
}
