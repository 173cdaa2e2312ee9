package format

// Limits of an enclosure: what a drive announces beyond them is refused.
const (
	// MaxEnclosure is the length of the longest document.
	MaxEnclosure = 256 << 20
	// MaxEnclosureInline is the longest document that lies in its record; a longer
	// one lies in parts.
	MaxEnclosureInline = 1 << 20
	// EnclosurePartSize is the length of every part but the last.
	EnclosurePartSize = 4 << 20
	// MaxEnclosureName bounds a name, and MaxEnclosureNote what is said of it.
	MaxEnclosureName = 255
	MaxEnclosureNote = 4096
)

// Enclosure is a document that lies sealed on a drive beside its points.
type Enclosure struct {
	ID ShortID
	// Sequence counts the enclosures of a drive as they were written: of two with
	// one name the higher one counts.
	Sequence  uint64
	WrittenAt int64
	Size      int64
	// Hash is BLAKE3, without a key, of the whole document.
	Hash       ID
	Name, Note string
	// Inline is the document, if it is not longer than MaxEnclosureInline.
	Inline []byte
}

// Parts is how many files hold the document beside its record.
func (e Enclosure) Parts() int {
	if e.Size <= MaxEnclosureInline {
		return 0
	}
	return int((e.Size + EnclosurePartSize - 1) / EnclosurePartSize)
}

// PartLength is how long part i is.
func (e Enclosure) PartLength(i int) int {
	return int(min(EnclosurePartSize, e.Size-int64(i)*EnclosurePartSize))
}

// Append writes the body of an enclosure's record behind b.
func (e Enclosure) Append(b []byte) []byte {
	b = append(b, e.ID[:]...)
	b = le.AppendUint64(b, e.Sequence)
	b = le.AppendUint64(b, uint64(e.WrittenAt))
	b = le.AppendUint64(b, uint64(e.Size))
	b = append(b, e.Hash[:]...)
	b = appendText(b, e.Name)
	b = appendText(b, e.Note)
	return append(b, e.Inline...)
}

// DecodeEnclosure reads the body of an enclosure's record.
func DecodeEnclosure(b []byte) (Enclosure, error) {
	r := reader{b: b}
	var e Enclosure
	r.bytes(e.ID[:])
	e.Sequence, e.WrittenAt, e.Size = r.u64(), int64(r.u64()), int64(r.u64())
	r.bytes(e.Hash[:])
	e.Name, e.Note = r.text(), r.text()
	if e.Size < 0 || e.Size > MaxEnclosure {
		return e, corrupt("an enclosure of %d bytes", e.Size)
	}
	if e.Name == "" || len(e.Name) > MaxEnclosureName || len(e.Note) > MaxEnclosureNote {
		return e, corrupt("an enclosure's name, or its note")
	}
	if e.Size <= MaxEnclosureInline {
		e.Inline = append([]byte{}, r.take(int(e.Size))...)
	}
	return e, r.end()
}

// EnclosurePart is a piece of a long document.
type EnclosurePart struct {
	ID     ShortID
	Number uint32
	Bytes  []byte
}

// Append writes the body of a part behind b.
func (p EnclosurePart) Append(b []byte) []byte {
	b = append(b, p.ID[:]...)
	b = le.AppendUint32(b, p.Number)
	b = le.AppendUint32(b, uint32(len(p.Bytes)))
	return append(b, p.Bytes...)
}

// DecodeEnclosurePart reads the body of a part; Bytes are part of b.
func DecodeEnclosurePart(b []byte) (EnclosurePart, error) {
	r := reader{b: b}
	var p EnclosurePart
	r.bytes(p.ID[:])
	p.Number = r.u32()
	p.Bytes = r.take(r.count(4, 1))
	if err := r.end(); err != nil {
		return p, err
	}
	if len(p.Bytes) == 0 || len(p.Bytes) > EnclosurePartSize || p.Number >= MaxEnclosure/EnclosurePartSize {
		return p, corrupt("part %d of an enclosure with %d bytes", p.Number, len(p.Bytes))
	}
	return p, nil
}
