package imagestore

import (
	"crypto/subtle"
	"fmt"
	"sync"

	"github.com/klauspost/reedsolomon"

	"lifeboat/imagestore/format"
)

// Parity is made from the bytes that are written, while they are written: what
// a drive gives back later never gets into it unless it was checked.

// coders holds a coder for each number of parity cells that was asked for.
var coders sync.Map // from int to reedsolomon.Encoder

// coder is the systematic Reed-Solomon code of docs/format.md for that many
// parity cells.
func coder(parity int) reedsolomon.Encoder {
	if c, ok := coders.Load(parity); ok {
		return c.(reedsolomon.Encoder)
	}
	// Each pattern of damage would stay in the cache of inverted matrices.
	c, err := reedsolomon.New(format.ParityColumns, parity, reedsolomon.WithMaxGoroutines(1), reedsolomon.WithInversionCache(false))
	if err != nil {
		panic(err) // the numbers are within the limits of the format
	}
	coders.Store(parity, c)
	return c
}

// parityMaker makes the parity of a pack from its bytes, as they come. It holds
// 2 MiB for the default number of parity cells.
type parityMaker struct {
	head format.ParityHead
	code reedsolomon.Encoder
	// cells are the parity cells of 128 stripes, those of a stripe together.
	cells [][]byte
	// sums are the checksums of the pack's cells so far.
	sums []uint32
	// part is the beginning of a cell that is not whole yet.
	part []byte
}

// parityMakers are used again: a night fills hundreds of packs.
var parityMakers sync.Pool

// newParity begins the parity of a pack.
func (s *Store) newParity(pack format.RunPack) *parityMaker {
	m, _ := parityMakers.Get().(*parityMaker)
	if m == nil {
		m = &parityMaker{code: coder(format.DefaultParity), cells: make([][]byte, format.ParityColumns*format.DefaultParity)}
		all := make([]byte, len(m.cells)*format.CellSize)
		for i := range m.cells {
			m.cells[i] = all[i*format.CellSize : (i+1)*format.CellSize : (i+1)*format.CellSize]
		}
		m.part = make([]byte, 0, format.CellSize)
	}
	m.head = format.ParityHead{Drive: s.driveID, Pack: pack.ID, Kind: packKind(pack.Tree), Parity: format.DefaultParity}
	return m
}

// release gives the memory back.
func (m *parityMaker) release() {
	for _, c := range m.cells {
		clear(c)
	}
	m.sums, m.part = m.sums[:0], m.part[:0]
	parityMakers.Put(m)
}

// write takes the next bytes of the pack.
func (m *parityMaker) write(b []byte) error {
	m.head.Size += int64(len(b))
	if len(m.part) > 0 {
		n := min(len(b), format.CellSize-len(m.part))
		m.part, b = append(m.part, b[:n]...), b[n:]
		if len(m.part) < format.CellSize {
			return nil
		}
		if err := m.cell(m.part); err != nil {
			return err
		}
		m.part = m.part[:0]
	}
	for ; len(b) >= format.CellSize; b = b[format.CellSize:] {
		if err := m.cell(b[:format.CellSize]); err != nil {
			return err
		}
	}
	m.part = append(m.part, b...)
	return nil
}

func (m *parityMaker) cell(b []byte) error {
	i := len(m.sums)
	if i == format.ParityColumns*format.ParityColumns {
		return fmt.Errorf("%w: parity of a pack that is too long", format.ErrCorrupt)
	}
	m.sums = append(m.sums, format.CellSum(b))
	stripe := i % format.ParityColumns * m.head.Parity
	return m.code.EncodeIdx(b, format.ParityColumn(i), m.cells[stripe:stripe+m.head.Parity])
}

// end returns the parity file of the bytes that came.
func (m *parityMaker) end() ([]byte, error) {
	if n := len(m.part); n > 0 {
		m.part = m.part[:format.CellSize]
		clear(m.part[n:])
		if err := m.cell(m.part); err != nil {
			return nil, err
		}
		m.part = m.part[:0]
	}
	stripes, n := m.head.Stripes(), m.head.Parity
	for s := stripes; s < format.ParityColumns; s++ {
		for j := range n {
			to := m.cells[s%stripes*n+j]
			subtle.XORBytes(to, to, m.cells[s*n+j])
		}
	}
	// Neighbours in the file are of different stripes, so that a run of bad
	// sectors costs each stripe one cell.
	cells := make([][]byte, 0, m.head.ParityCells())
	for j := range n {
		for s := range stripes {
			cells = append(cells, m.cells[s*n+j])
		}
	}
	for _, c := range cells {
		m.sums = append(m.sums, format.CellSum(c))
	}
	table := format.ParityTable(format.AppendParityTable(nil, m.sums))
	m.head.Table = table.Digest()
	out := m.head.Append(make([]byte, 0, m.head.FileSize()))
	out = append(out, table...)
	for _, c := range cells {
		out = append(out, c...)
	}
	return m.head.Append(append(out, table...)), nil
}

// parityOf makes the parity file of a whole pack.
func (s *Store) parityOf(pack format.RunPack, data []byte) ([]byte, error) {
	m := s.newParity(pack)
	defer m.release()
	if err := m.write(data); err != nil {
		return nil, err
	}
	return m.end()
}

// hasParity says whether the packs of this store have parity files.
func (s *Store) hasParity() bool { return s.super.Compatible&format.FeatureParity != 0 }

func parityName(p format.RunPack) string { return packName(p) + ".par" }
