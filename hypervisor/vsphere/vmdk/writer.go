package vmdk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zlib"
)

// Options say what the text inside a stream tells of its disk. The zero value is
// good.
type Options struct {
	// AdapterType is what the descriptor calls the disk's controller: "ide",
	// "buslogic", "lsilogic" (also for SATA, NVMe and the paravirtual one), or
	// empty for the last.
	AdapterType string
	// ContentID tells versions of a disk from each other for tools that make
	// children of it. Zero means 1.
	ContentID uint32
	// Workers is about how many grains are compressed at the same time; zero
	// means one for each processor.
	Workers int
}

// Writer writes one disk as a stream. Its methods are called from one goroutine,
// and Close in any case: it ends the others.
type Writer struct {
	capacity int64
	next     int64 // no grain may begin below it
	out      *bufio.Writer
	at       int64 // sectors written so far

	table     [entriesPerTable]uint32
	tableOf   int64 // the index of that table
	tableUsed bool
	directory []uint32

	queue  chan *job // in the order of the disk
	spare  chan *job
	done   chan error
	failed chan struct{} // closed when nothing more is written
	closed bool
	err    error
}

// job is one grain on its way through compression.
type job struct {
	offset int64
	plain  [GrainBytes]byte
	packed bytes.Buffer
	zip    *zlib.Writer
	ready  chan error
}

// The head: one sector of header, the descriptor, and room up to a whole grain,
// so that tables may be kept there by those who rewrite the file.
const (
	descriptorSectors = 20
	headSectors       = GrainBytes / sectorBytes
)

// Compression is set to fast: the network and the target's disk are the slower
// part, and the host unpacks the stream at once.
const level = zlib.BestSpeed

// NewWriter writes the head of a disk of that many bytes to w; a part of a sector
// at its end counts as one. It returns before that is written out: an error of
// w comes from a later call.
func NewWriter(w io.Writer, capacityBytes int64, o Options) (*Writer, error) {
	if capacityBytes < 1 || capacityBytes > MaxCapacityBytes {
		return nil, fmt.Errorf("a disk of %d bytes cannot be a VMDK", capacityBytes)
	}
	text, err := descriptor(sectors(capacityBytes), o)
	if err != nil {
		return nil, err
	}
	workers := o.Workers
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	d := &Writer{
		capacity: sectors(capacityBytes) * sectorBytes,
		out:      bufio.NewWriterSize(w, 256<<10),
		queue:    make(chan *job, workers),
		spare:    make(chan *job, workers+1),
		done:     make(chan error, 1),
		failed:   make(chan struct{}),
	}
	d.directory = make([]uint32, d.header(0).tableCount(sectors(capacityBytes)))
	for range cap(d.spare) {
		d.spare <- &job{ready: make(chan error, 1)}
	}
	go d.write(text)
	return d, nil
}

// WriteGrain adds up to a grain of the disk. The offset is a multiple of
// [GrainBytes] and above that of the call before; what p lacks to a whole grain
// is zeros, and so is every grain that was not written. A grain of zeros takes no
// space. p may be used again at once.
func (d *Writer) WriteGrain(offset int64, p []byte) error {
	switch {
	case d.err != nil:
		return d.err
	case d.closed:
		return errors.New("the VMDK stream is closed")
	case offset%GrainBytes != 0 || len(p) > GrainBytes:
		return fmt.Errorf("%d bytes at %d are not a grain", len(p), offset)
	case offset < d.next:
		return fmt.Errorf("%w: one at %d came late", ErrOrder, offset)
	case offset >= d.capacity || offset+int64(len(p)) > d.capacity:
		return fmt.Errorf("%d bytes at %d lie beyond the disk's end at %d", len(p), offset, d.capacity)
	}
	d.next = offset + GrainBytes
	if zeros(p) {
		return nil
	}
	select {
	case <-d.failed:
		return d.stop()
	default:
	}
	j := <-d.spare
	j.offset = offset
	clear(j.plain[copy(j.plain[:], p):])
	go j.compress()
	d.queue <- j
	return nil
}

// Close writes the tables and the end of the stream. Only after it has returned
// nil is the stream whole.
func (d *Writer) Close() error {
	if d.closed {
		return d.err
	}
	return d.stop()
}

// stop waits for the writing goroutine and keeps its word.
func (d *Writer) stop() error {
	d.closed = true
	close(d.queue)
	d.err = <-d.done
	return d.err
}

// write is the goroutine that puts everything into the stream. It takes every
// job from the queue, after an error too, so that nobody waits for ever.
func (d *Writer) write(text []byte) {
	err := d.writeHead(text)
	if err != nil {
		close(d.failed)
	}
	for j := range d.queue {
		packed := <-j.ready
		if err == nil {
			if err = packed; err == nil {
				err = d.writeGrain(j)
			}
			if err != nil {
				close(d.failed)
			}
		}
		d.spare <- j
	}
	if err == nil {
		err = d.writeEnd()
	}
	d.done <- err
}

func (d *Writer) header(directory uint64) header {
	return header{
		Version:          version,
		Flags:            flagNewlines | flagCompressed | flagMarkers,
		Capacity:         uint64(d.capacity / sectorBytes),
		Grain:            headSectors,
		DescriptorOffset: 1,
		DescriptorSize:   descriptorSectors,
		TableEntries:     entriesPerTable,
		DirectoryOffset:  directory,
		Overhead:         headSectors,
		Compression:      deflate,
	}
}

func (d *Writer) writeHead(text []byte) error {
	head := append(d.header(tablesAtEnd).append(nil), text...)
	return d.emit(append(head, make([]byte, headSectors*sectorBytes-len(head))...))
}

func (d *Writer) writeGrain(j *job) error {
	grain := j.offset / GrainBytes
	if table := grain / entriesPerTable; table != d.tableOf {
		if err := d.writeTable(); err != nil {
			return err
		}
		d.tableOf = table
	}
	entry, err := d.entry(d.at)
	if err != nil {
		return err
	}
	d.table[grain%entriesPerTable], d.tableUsed = entry, true
	b := j.packed.Bytes() // with room for the marker in front
	binary.LittleEndian.PutUint64(b, uint64(j.offset/sectorBytes))
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-grainMarkerBytes))
	return d.emit(b)
}

// writeTable writes the table of the grains before, unless it names none.
func (d *Writer) writeTable() error {
	if !d.tableUsed {
		return nil
	}
	entry, err := d.entry(d.at + 1)
	if err != nil {
		return err
	}
	d.directory[d.tableOf] = entry
	if err := d.emit(marker{Value: tableSectors, Kind: markerTable}.append(nil)); err != nil {
		return err
	}
	b := make([]byte, 0, tableSectors*sectorBytes)
	for _, e := range d.table {
		b = binary.LittleEndian.AppendUint32(b, e)
	}
	d.table, d.tableUsed = [entriesPerTable]uint32{}, false
	return d.emit(b)
}

// entry is a sector as a table has it.
func (d *Writer) entry(sector int64) (uint32, error) {
	if sector > 1<<32-1 {
		return 0, errors.New("the disk's compressed bytes pass 2 TiB, more than a VMDK stream can hold")
	}
	return uint32(sector), nil
}

func (d *Writer) writeEnd() error {
	if err := d.writeTable(); err != nil {
		return err
	}
	size := sectors(int64(len(d.directory)) * 4)
	end := marker{Value: uint64(size), Kind: markerDirectory}.append(nil)
	directory := d.at + 1
	for _, e := range d.directory {
		end = binary.LittleEndian.AppendUint32(end, e)
	}
	end = append(end, make([]byte, (1+size)*sectorBytes-int64(len(end)))...)
	end = marker{Value: 1, Kind: markerFooter}.append(end)
	end = d.header(uint64(directory)).append(end)
	end = marker{Kind: markerEnd}.append(end)
	if err := d.emit(end); err != nil {
		return err
	}
	return d.out.Flush()
}

// emit writes b and fills its last sector.
func (d *Writer) emit(b []byte) error {
	if _, err := d.out.Write(b); err != nil {
		return err
	}
	n := sectors(int64(len(b)))
	d.at += n
	_, err := d.out.Write(blank[:n*sectorBytes-int64(len(b))])
	return err
}

var blank [sectorBytes]byte

func (j *job) compress() {
	j.packed.Reset()
	j.packed.Write(blank[:grainMarkerBytes])
	var err error
	if j.zip == nil {
		j.zip, err = zlib.NewWriterLevel(&j.packed, level)
	} else {
		j.zip.Reset(&j.packed)
	}
	if err == nil {
		if _, err = j.zip.Write(j.plain[:]); err == nil {
			err = j.zip.Close()
		}
	}
	j.ready <- err
}

// zeros says whether p holds nothing else.
func zeros(p []byte) bool {
	for len(p) > 0 {
		n := min(len(p), len(noGrain))
		if !bytes.Equal(p[:n], noGrain[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}

var noGrain [4096]byte
