package format

import (
	"hash/crc32"

	"github.com/zeebo/blake3"
)

// FeatureParity is the compatible feature bit of a store whose packs have parity
// files.
const FeatureParity = 1 << 0

// The geometry of parity.
const (
	// CellSize is what rot is found and healed in.
	CellSize = 4096
	// ParityColumns is the number of data cells in a stripe, and the largest
	// number of stripes: 128 times 128 cells are the longest pack.
	ParityColumns = 128
	// DefaultParity is the number of parity cells of a stripe.
	DefaultParity = 4
	// MaxParity is the highest number that a reader accepts.
	MaxParity = 16

	// ParityHeadSize is the length of the head, which is there twice.
	ParityHeadSize = 128
	// MaxParityFile is the length of the longest parity file.
	MaxParityFile = 2*ParityHeadSize + 2*4*(ParityColumns+MaxParity)*ParityColumns + MaxParity*ParityColumns*CellSize
)

// ParityHead begins and ends the parity file of a pack. It is not sealed: parity
// is over what anybody sees, and heals without a key.
type ParityHead struct {
	Drive ShortID
	Pack  ID
	// Kind is the pack's.
	Kind Kind
	// Parity is the number of parity cells of a stripe.
	Parity int
	// Size is the length of the pack.
	Size int64
	// Table is BLAKE3 of the table of checksums.
	Table [32]byte
}

// Append writes the head behind b.
func (h ParityHead) Append(b []byte) []byte {
	start := len(b)
	b = Header{Kind: KindParity, Drive: h.Drive, File: h.Pack}.Append(b)
	b = le.AppendUint16(b, uint16(h.Kind))
	b = le.AppendUint16(b, ParityColumns)
	b = le.AppendUint16(b, uint16(h.Parity))
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, uint64(h.Size))
	b = append(b, h.Table[:]...)
	b = append(b, make([]byte, 12)...)
	return le.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// DecodeParityHead reads a head that fills b. What it says is bounded: the file
// and everything in it fit in MaxParityFile.
func DecodeParityHead(b []byte) (ParityHead, error) {
	var p ParityHead
	h, err := DecodeHeader(b)
	if err != nil {
		return p, err
	}
	if len(b) != ParityHeadSize || le.Uint32(b[ParityHeadSize-4:]) != crc32.Checksum(b[:ParityHeadSize-4], castagnoli) {
		return p, corrupt("the checksum of the head of a parity file does not fit")
	}
	p = ParityHead{Drive: h.Drive, Pack: h.File, Kind: Kind(le.Uint16(b[64:])), Parity: int(le.Uint16(b[68:]))}
	size := le.Uint64(b[72:])
	copy(p.Table[:], b[80:])
	switch {
	case h.Kind != KindParity || h.Generation != 0 || p.Kind != KindDataPack && p.Kind != KindTreePack:
		return p, ErrForeign
	case le.Uint16(b[66:]) != ParityColumns || p.Parity < 1 || p.Parity > MaxParity:
		return p, corrupt("parity of %d and %d cells", le.Uint16(b[66:]), p.Parity)
	case size < 1 || size > MaxPackSize:
		return p, corrupt("parity of a pack of %d bytes", size)
	case !allZero(b[70:72]) || !allZero(b[112:124]):
		return p, corrupt("the head of a parity file")
	}
	p.Size = int64(size)
	return p, nil
}

// Cells is the number of cells of the pack; the last is filled up with zeros.
func (h ParityHead) Cells() int { return int((h.Size + CellSize - 1) / CellSize) }

// Stripes is the number of stripes: the lowest power of two that has room for
// all cells.
func (h ParityHead) Stripes() int {
	stripes := 1
	for stripes*ParityColumns < h.Cells() {
		stripes *= 2
	}
	return stripes
}

// ParityCells is the number of parity cells in the file.
func (h ParityHead) ParityCells() int { return h.Parity * h.Stripes() }

// TableSize is the length of the table of checksums.
func (h ParityHead) TableSize() int { return 4 * (h.Cells() + h.ParityCells()) }

// FileSize is the length of the parity file.
func (h ParityHead) FileSize() int64 {
	return 2*int64(ParityHeadSize+h.TableSize()) + int64(h.ParityCells())*CellSize
}

// ParityColumn is the column of a cell of a pack in its stripe, which is the
// cell's number modulo the number of stripes. Columns are chosen so that they
// depend on the cell alone: parity can be made before the length of the pack is
// known, as if there were 128 stripes, and stripes that turn out to be too many
// are added to each other.
func ParityColumn(cell int) int {
	return (cell/ParityColumns ^ cell) % ParityColumns
}

// CellSum is the checksum of a cell.
func CellSum(cell []byte) uint32 { return crc32.Checksum(cell, castagnoli) }

// AppendParityTable writes the checksums of the pack's cells, then those of the
// parity cells, behind b.
func AppendParityTable(b []byte, sums []uint32) []byte {
	for _, s := range sums {
		b = le.AppendUint32(b, s)
	}
	return b
}

// ParityTable is a table of checksums as it lies in the file.
type ParityTable []byte

// Sum is one of its checksums.
func (t ParityTable) Sum(i int) uint32 { return le.Uint32(t[4*i:]) }

// Digest is what the head says of the table.
func (t ParityTable) Digest() [32]byte { return blake3.Sum256(t) }
