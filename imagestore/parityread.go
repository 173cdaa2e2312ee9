package imagestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// tolerantRead is what could be read of a file: bytes, and which cells of it the
// medium did not give. Those are zeros.
type tolerantRead struct {
	data []byte
	lost map[int]bool
}

// tolerantWindow is read at once as long as nothing fails.
const tolerantWindow = 1 << 20

// readTolerant reads a file of at most limit bytes from the medium, and goes on
// behind what cannot be read. The error is fs.ErrNotExist, or that the drive is
// gone; everything else is a cell that is lost.
func readTolerant(dir durable.Dir, name string, limit int64) (*tolerantRead, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes", format.ErrCorrupt, name, size)
	}
	if err := f.DropCache(0, size); isGone(err) {
		return nil, err
	}
	r := &tolerantRead{data: make([]byte, size), lost: map[int]bool{}}
	for at := int64(0); at < size; at += tolerantWindow {
		window := r.data[at:min(size, at+tolerantWindow)]
		err := readFull(f, window, at)
		if err != nil && !isGone(err) {
			err = r.readCells(f, window, at)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *tolerantRead) readCells(f io.ReaderAt, window []byte, at int64) error {
	for i := 0; i < len(window); i += format.CellSize {
		cell := window[i:min(len(window), i+format.CellSize)]
		err := readFull(f, cell, at+int64(i))
		if isGone(err) {
			return err
		}
		if err != nil {
			clear(cell)
			r.lost[int(at+int64(i))/format.CellSize] = true
		}
	}
	return nil
}

// parityFile is a parity file that was read. Parts of it may be rotten: each
// half of it that is there twice serves if one of the two is good.
type parityFile struct {
	head format.ParityHead
	// tables are the two copies of the checksums; one that is rotten still tells
	// which cells it fits.
	tables [2]format.ParityTable
	cells  []byte
	// lost are the cells that could not be read.
	lost map[int]bool
	// fault says what is wrong with the file, or is nil.
	fault error
}

// readParity reads the parity file of a pack. The error is fs.ErrNotExist,
// format.ErrCorrupt for one that is of no use, or that the drive is gone.
func (s *Store) readParity(pack format.RunPack) (*parityFile, error) {
	r, err := readTolerant(s.dir, parityName(pack), format.MaxParityFile)
	if isGone(err) || errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", format.ErrCorrupt, err)
	}
	return openParity(r, s.driveID, pack)
}

func openParity(r *tolerantRead, drive format.ShortID, pack format.RunPack) (*parityFile, error) {
	p := &parityFile{lost: map[int]bool{}}
	if err := p.readHead(r, drive, pack); err != nil {
		return nil, err
	}
	if int64(len(r.data)) != p.head.FileSize() {
		p.note("it has %d bytes, not %d", len(r.data), p.head.FileSize())
	}
	b := append(r.data, make([]byte, max(0, p.head.FileSize()-int64(len(r.data))))...)
	table, cells := p.head.TableSize(), p.head.ParityCells()*format.CellSize
	first := format.ParityHeadSize + table
	p.tables[0], p.cells = b[format.ParityHeadSize:first], b[first:first+cells]
	p.tables[1] = b[first+cells : first+cells+table]
	for i := range p.head.ParityCells() {
		at := first + i*format.CellSize
		p.lost[i] = r.lost[at/format.CellSize] || r.lost[(at+format.CellSize-1)/format.CellSize]
	}
	for i, t := range p.tables {
		if t.Digest() != p.head.Table {
			p.note("copy %d of its table is not what was written", i+1)
		}
	}
	for i := range p.head.ParityCells() {
		if !p.cellFits(p.head.Cells()+i, p.cell(i)) || p.lost[i] {
			p.lost[i] = true
			p.note("cell %d is not what was written", i)
		}
	}
	return p, nil
}

// readHead takes the first head, or the one at the end.
func (p *parityFile) readHead(r *tolerantRead, drive format.ShortID, pack format.RunPack) error {
	if len(r.data) < 2*format.ParityHeadSize {
		return fmt.Errorf("%w: it ends too early", format.ErrCorrupt)
	}
	found := false
	for i, b := range [][]byte{r.data[:format.ParityHeadSize], r.data[len(r.data)-format.ParityHeadSize:]} {
		h, err := format.DecodeParityHead(b)
		if err == nil && (h.Drive != drive || h.Pack != pack.ID || h.Kind != packKind(pack.Tree)) {
			err = format.ErrForeign
		}
		switch {
		case err != nil:
			p.note("copy %d of its head: %w", i+1, err)
		case !found:
			p.head, found = h, true
		case h != p.head:
			p.note("its two heads differ")
		}
	}
	if !found {
		return fmt.Errorf("%w: %w", format.ErrCorrupt, p.fault)
	}
	return nil
}

func (p *parityFile) note(text string, args ...any) {
	if p.fault == nil {
		p.fault = fmt.Errorf(text, args...)
	}
}

func (p *parityFile) cell(i int) []byte {
	return p.cells[i*format.CellSize : (i+1)*format.CellSize]
}

// cellFits says whether a cell has a checksum of either table.
func (p *parityFile) cellFits(i int, cell []byte) bool {
	sum := format.CellSum(cell)
	return sum == p.tables[0].Sum(i) || sum == p.tables[1].Sum(i)
}

// fits says whether the parity is of these very bytes, and whole.
func (p *parityFile) fits(data []byte) bool {
	return p.fault == nil && p.isOf(&tolerantRead{data: data})
}

// isOf says whether the parity is of these very bytes; rot of its own cells does
// not count.
func (p *parityFile) isOf(r *tolerantRead) bool {
	if int64(len(r.data)) != p.head.Size || len(r.lost) > 0 {
		return false
	}
	for i := range p.head.Cells() {
		if !p.cellFits(i, packCell(r.data, i)) {
			return false
		}
	}
	return true
}

// packCell is a cell of a pack, the last one filled up with zeros.
func packCell(data []byte, i int) []byte {
	at := i * format.CellSize
	if at+format.CellSize <= len(data) {
		return data[at : at+format.CellSize : at+format.CellSize]
	}
	return append(make([]byte, 0, format.CellSize), data[at:]...)[:format.CellSize]
}

// heal returns what a pack held when its parity was made, as far as parity
// reaches, and how many cells were made anew. It is a proposal: only what opens
// with the key and has the right ids is good.
func (p *parityFile) heal(r *tolerantRead) (healed []byte, cells int) {
	healed = make([]byte, p.head.Size)
	copy(healed, r.data)
	present := (len(r.data) + format.CellSize - 1) / format.CellSize
	stripes, broken := p.head.Stripes(), map[int][]int{}
	for i := range p.head.Cells() {
		if r.lost[i] || i >= present || !p.cellFits(i, packCell(healed, i)) {
			broken[i%stripes] = append(broken[i%stripes], i)
		}
	}
	for stripe, list := range broken {
		cells += p.healStripe(healed, stripe, list)
	}
	return healed, cells
}

// healStripe makes the given cells of a stripe anew, all or none.
func (p *parityFile) healStripe(pack []byte, stripe int, broken []int) int {
	stripes := p.head.Stripes()
	shards := make([][]byte, format.ParityColumns+p.head.Parity)
	for i := range format.ParityColumns {
		shards[i] = zeroCell[:]
	}
	for i := stripe; i < p.head.Cells(); i += stripes {
		shards[format.ParityColumn(i)] = packCell(pack, i)
	}
	for _, i := range broken {
		shards[format.ParityColumn(i)] = nil
	}
	for j := range p.head.Parity {
		if i := j*stripes + stripe; !p.lost[i] {
			shards[format.ParityColumns+j] = p.cell(i)
		}
	}
	if err := coder(p.head.Parity).ReconstructData(shards); err != nil {
		return 0 // more is gone than parity reaches
	}
	for _, i := range broken {
		// Where both checksums of a good cell are rotten, the cell comes back as
		// it is.
		cell := shards[format.ParityColumn(i)]
		if !p.cellFits(i, cell) && !bytes.Equal(cell, packCell(pack, i)) {
			return 0
		}
	}
	for _, i := range broken {
		copy(pack[i*format.CellSize:], shards[format.ParityColumn(i)])
	}
	return len(broken)
}

var zeroCell [format.CellSize]byte
