package vmdk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"
)

// Reader gives out the grains of one stream. It keeps a grain and, for every 32
// MiB of disk, the place of a table: 40 MiB for the largest disk there is.
type Reader struct {
	r  *bufio.Reader
	at int64 // sectors read so far

	head     header
	capacity int64 // bytes, -1 while only the footer knows it
	next     int64 // no grain may begin below it
	grains   int64

	tables    tables
	footer    *header
	source    bytes.Reader
	inflate   io.ReadCloser
	packed    []byte // a grain as it came
	buf       []byte // and as it is
	sector    [sectorBytes]byte
	err       error
	endIsMark bool // this stream has to end with a marker
}

// NewReader reads the head of a stream. What it takes of r beyond the last grain
// is not given back.
func NewReader(r io.Reader) (*Reader, error) {
	d := &Reader{r: bufio.NewReaderSize(r, 256<<10)}
	if err := d.readSector(); err != nil {
		return nil, err
	}
	h, err := parseHeader(d.sector[:])
	if err != nil {
		return nil, err
	}
	d.head = h
	d.buf = make([]byte, h.Grain*sectorBytes)
	d.packed = make([]byte, mostPacked(h.Grain)+sectorBytes)
	d.endIsMark = h.DirectoryOffset == tablesAtEnd
	d.capacity = int64(h.Capacity) * sectorBytes
	if h.Capacity == 0 || h.Capacity == tablesAtEnd {
		if !d.endIsMark {
			return nil, fmt.Errorf("%w: it does not say how large the disk is", ErrFormat)
		}
		d.capacity = -1
	}
	if !d.endIsMark {
		if err := d.readFrontTables(); err != nil {
			return nil, err
		}
	}
	return d, d.skipTo(int64(h.Overhead))
}

// CapacityBytes is the size of the disk. It is -1 until [Reader.Next] has
// returned io.EOF where only the end of the stream says it.
func (d *Reader) CapacityBytes() int64 { return d.capacity }

// Next returns the next grain: its offset in the disk and its bytes, cut at the
// end of the disk where that is known. What lies between two grains, and after
// the last, is zeros.
// The slice is valid until the next call.
//
// After the last grain it returns io.EOF, and only if the stream was whole: it
// ended as its form demands and held as many grains as its tables name. Every
// other error is one of those of this package or of the reader beneath, and
// stays.
func (d *Reader) Next() (offset int64, data []byte, err error) {
	if d.err != nil {
		return 0, nil, d.err
	}
	offset, data, err = d.read()
	if err != nil {
		d.err = err
		return 0, nil, err
	}
	return offset, data, nil
}

func (d *Reader) read() (int64, []byte, error) {
	for {
		if err := d.readSector(); err != nil {
			if !d.endIsMark && d.footer == nil && errors.Is(err, errAtEnd) {
				return 0, nil, d.finish() // some writers stop without a marker
			}
			return 0, nil, err
		}
		m := parseMarker(d.sector[:])
		if m.Size > 0 {
			return d.grain(m)
		}
		var err error
		switch {
		case d.footer != nil && m.Kind != markerEnd:
			err = fmt.Errorf("%w: something follows the footer", ErrFormat)
		case m.Kind == markerEnd:
			return 0, nil, d.finish()
		case m.Kind == markerTable:
			err = d.table(m)
		case m.Kind == markerDirectory:
			err = d.directory(m)
		case m.Kind == markerFooter:
			err = d.readFooter(m)
		default:
			err = fmt.Errorf("%w: a marker of kind %d", ErrFormat, m.Kind)
		}
		if err != nil {
			return 0, nil, err
		}
	}
}

// grain reads the compressed bytes behind a marker, of which the first are in
// the marker's own sector.
func (d *Reader) grain(m marker) (int64, []byte, error) {
	grainBytes := int64(len(d.buf))
	switch {
	case d.footer != nil:
		return 0, nil, fmt.Errorf("%w: a grain follows the footer", ErrFormat)
	case int64(m.Size) > mostPacked(d.head.Grain):
		return 0, nil, fmt.Errorf("%w: a grain of %d compressed bytes", ErrFormat, m.Size)
	case m.Value >= MaxCapacityBytes/sectorBytes || m.Value%d.head.Grain != 0:
		return 0, nil, fmt.Errorf("%w: a grain at sector %d", ErrFormat, m.Value)
	}
	offset := int64(m.Value) * sectorBytes
	switch {
	case d.capacity >= 0 && offset >= d.capacity:
		return 0, nil, fmt.Errorf("%w: a grain at %d, beyond the disk's end at %d", ErrFormat, offset, d.capacity)
	case offset < d.next:
		return 0, nil, fmt.Errorf("%w: one at %d came late", ErrOrder, offset)
	}
	n, err := d.inflateGrain(int64(m.Size))
	if err != nil {
		return 0, nil, fmt.Errorf("the grain at %d: %w", offset, err)
	}
	want := grainBytes
	if d.capacity >= 0 {
		want = min(want, d.capacity-offset)
	}
	if n < want {
		return 0, nil, fmt.Errorf("%w: the grain at %d has %d bytes of %d", ErrFormat, offset, n, want)
	}
	d.next = offset + grainBytes
	d.grains++
	return offset, d.buf[:want], nil
}

// inflateGrain fills the buffer and says how much of it. What follows the
// compressed bytes up to the end of their last sector is passed over.
func (d *Reader) inflateGrain(size int64) (int64, error) {
	inline := copy(d.packed, d.sector[grainMarkerBytes:])
	if more := sectors(size-int64(inline)) * sectorBytes; more > 0 {
		if _, err := io.ReadFull(d.r, d.packed[inline:int64(inline)+more]); err != nil {
			return 0, truncated(err)
		}
		d.at += more / sectorBytes
	}
	d.source.Reset(d.packed[:size])
	var err error
	if d.inflate == nil {
		d.inflate, err = zlib.NewReader(&d.source)
	} else {
		err = d.inflate.(zlib.Resetter).Reset(&d.source, nil)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	// An error of this read comes again from the next one, which also ends the
	// stream and checks its sum.
	n, _ := io.ReadFull(d.inflate, d.buf)
	switch more, end := d.inflate.Read(d.sector[:1]); {
	case more > 0:
		return 0, fmt.Errorf("%w: it holds more than a grain", ErrFormat)
	case end != io.EOF:
		return 0, fmt.Errorf("%w: %v", ErrFormat, end)
	}
	return int64(n), nil
}

// finish looks at the whole once the stream is at its end.
func (d *Reader) finish() error {
	if d.endIsMark {
		if d.footer == nil {
			return fmt.Errorf("%w: it has no footer", ErrTruncated)
		}
		if err := d.tables.check(int64(d.footer.DirectoryOffset)); err != nil {
			return err
		}
	}
	if named := d.tables.grains(); named != d.grains {
		return fmt.Errorf("%w: it holds %d grains, and its tables name %d", ErrFormat, d.grains, named)
	}
	return io.EOF
}

// readFooter reads the header's second copy, which has the last word.
func (d *Reader) readFooter(m marker) error {
	if !d.endIsMark || m.Value != 1 {
		return fmt.Errorf("%w: a footer where none belongs", ErrFormat)
	}
	if err := d.readSector(); err != nil {
		return err
	}
	h, err := parseHeader(d.sector[:])
	switch {
	case err != nil:
		return fmt.Errorf("the footer: %w", err)
	case h.Grain != d.head.Grain || h.Capacity == 0 || h.Capacity == tablesAtEnd:
		return fmt.Errorf("%w: its footer is not that of its header", ErrFormat)
	}
	capacity := int64(h.Capacity) * sectorBytes
	switch {
	case d.capacity >= 0 && d.capacity != capacity:
		return fmt.Errorf("%w: the header says %d bytes, the footer %d", ErrFormat, d.capacity, capacity)
	case d.next-int64(len(d.buf)) >= capacity:
		return fmt.Errorf("%w: a grain lies beyond the disk's end at %d", ErrFormat, capacity)
	}
	d.capacity, d.footer = capacity, &h
	return nil
}

// errAtEnd is the truncation that fell between two sectors.
var errAtEnd = fmt.Errorf("%w", ErrTruncated)

func (d *Reader) readSector() error {
	switch _, err := io.ReadFull(d.r, d.sector[:]); {
	case err == io.EOF:
		return errAtEnd
	case err != nil:
		return truncated(err)
	}
	d.at++
	return nil
}

// skipTo passes over bytes up to a sector that lies ahead.
func (d *Reader) skipTo(sector int64) error {
	for d.at < sector {
		n, err := d.r.Discard(int(min(sector-d.at, 1<<20)) * sectorBytes)
		d.at += int64(n) / sectorBytes
		if err != nil {
			return truncated(err)
		}
	}
	if d.at > sector {
		return fmt.Errorf("%w: its head overlaps itself", ErrFormat)
	}
	return nil
}

// truncated tells the end of the stream from a fault of the reader beneath. It
// hides io.EOF, which says that all is well.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}

// mostPacked bounds a grain's compressed bytes: what cannot be compressed grows
// a little.
func mostPacked(grainSectors uint64) int64 { return 2 * int64(grainSectors) * sectorBytes }

// readEntries reads a table of little-endian 32-bit numbers that fills whole
// sectors.
func (d *Reader) readEntries(n int64, each func(uint32)) error {
	for n > 0 {
		if err := d.readSector(); err != nil {
			return err
		}
		for i := 0; i < sectorBytes && n > 0; i += 4 {
			each(binary.LittleEndian.Uint32(d.sector[i:]))
			n--
		}
	}
	return nil
}
