// Package vmdk reads and writes disks as VMware sends them over the network: the
// streamOptimized form of a VMDK, front to back, without a temporary file.
//
// It owns that one form, as VMware's notes "Virtual Disk Format 1.1" and "5.0"
// describe it: a header, a text descriptor, and then markers, each with a
// compressed grain of the disk or a piece of the tables that find the grains
// again. It promises that a reader gives out right bytes or an error: a stream
// that ends early, holds a grain twice or holds another number of grains than
// its own tables say is never taken for a disk. It never seeks.
package vmdk

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Errors that callers branch on.
var (
	// ErrFormat: the bytes are not a streamOptimized VMDK, or break its rules.
	ErrFormat = errors.New("not a valid streamOptimized VMDK")
	// ErrTruncated: the stream ended before its end-of-stream marker.
	ErrTruncated = errors.New("the VMDK stream ended early")
	// ErrOrder: a grain came after one of a higher offset, or twice. The stream
	// may be a valid disk, but not one to be read front to back.
	ErrOrder = errors.New("the VMDK stream's grains are not in ascending order")
)

const (
	sectorBytes = 512
	// GrainBytes is the size of the grains that this package writes. Readers
	// take other sizes too.
	GrainBytes = 64 << 10

	magic = 0x564d444b // "KDMV"
	// A streamOptimized disk has version 3. Readers take 1 and 2 too.
	version = 3

	flagNewlines   = 1 << 0
	flagCompressed = 1 << 16
	flagMarkers    = 1 << 17

	deflate = 1

	// tablesAtEnd in place of the directory's offset: the footer has the real one.
	tablesAtEnd = 1<<64 - 1

	entriesPerTable = 512
	tableSectors    = entriesPerTable * 4 / sectorBytes

	// Grain sizes that a reader takes, in sectors: 64 KiB, which is what all
	// known streams have, to 1 MiB. Smaller ones would make the tables large.
	minGrainSectors = GrainBytes / sectorBytes
	maxGrainSectors = 2048

	// MaxCapacityBytes is more than any VMDK holds (62 TiB).
	MaxCapacityBytes = 64 << 40
)

// The kinds of marker that carry no grain.
const (
	markerEnd       = 0
	markerTable     = 1
	markerDirectory = 2
	markerFooter    = 3
)

// header is the SparseExtentHeader, which stands in front and, where the tables
// come last, once more as the footer. Sizes and offsets are in sectors.
type header struct {
	Version          uint32
	Flags            uint32
	Capacity         uint64
	Grain            uint64
	DescriptorOffset uint64
	DescriptorSize   uint64
	TableEntries     uint32
	RedundantOffset  uint64
	DirectoryOffset  uint64
	Overhead         uint64
	Compression      uint16
}

// newlines are four bytes that a transfer as text would have changed.
const newlines = "\n \r\n"

func (h header) append(b []byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = le.AppendUint32(b, magic)
	b = le.AppendUint32(b, h.Version)
	b = le.AppendUint32(b, h.Flags)
	b = le.AppendUint64(b, h.Capacity)
	b = le.AppendUint64(b, h.Grain)
	b = le.AppendUint64(b, h.DescriptorOffset)
	b = le.AppendUint64(b, h.DescriptorSize)
	b = le.AppendUint32(b, h.TableEntries)
	b = le.AppendUint64(b, h.RedundantOffset)
	b = le.AppendUint64(b, h.DirectoryOffset)
	b = le.AppendUint64(b, h.Overhead)
	b = append(b, 0) // no unclean shutdown
	b = append(b, newlines...)
	b = le.AppendUint16(b, h.Compression)
	return append(b, make([]byte, start+sectorBytes-len(b))...)
}

// parseHeader reads one sector. It checks everything that both the header and
// the footer must hold, but not where the capacity and the tables are.
func parseHeader(b []byte) (header, error) {
	le := binary.LittleEndian
	if le.Uint32(b) != magic {
		return header{}, fmt.Errorf("%w: it does not begin with the magic number", ErrFormat)
	}
	h := header{
		Version:          le.Uint32(b[4:]),
		Flags:            le.Uint32(b[8:]),
		Capacity:         le.Uint64(b[12:]),
		Grain:            le.Uint64(b[20:]),
		DescriptorOffset: le.Uint64(b[28:]),
		DescriptorSize:   le.Uint64(b[36:]),
		TableEntries:     le.Uint32(b[44:]),
		RedundantOffset:  le.Uint64(b[48:]),
		DirectoryOffset:  le.Uint64(b[56:]),
		Overhead:         le.Uint64(b[64:]),
		Compression:      le.Uint16(b[77:]),
	}
	switch {
	case h.Version < 1 || h.Version > version:
		return h, fmt.Errorf("%w: version %d is unknown", ErrFormat, h.Version)
	case h.Flags&flagNewlines != 0 && string(b[73:77]) != newlines:
		return h, fmt.Errorf("%w: a transfer as text has changed its bytes", ErrFormat)
	case h.Flags&flagCompressed == 0 || h.Flags&flagMarkers == 0 || h.Compression != deflate:
		return h, fmt.Errorf("%w: its grains are not compressed, with markers", ErrFormat)
	case h.Grain < minGrainSectors || h.Grain > maxGrainSectors || h.Grain&(h.Grain-1) != 0:
		return h, fmt.Errorf("%w: grains of %d sectors", ErrFormat, h.Grain)
	case h.TableEntries != entriesPerTable:
		return h, fmt.Errorf("%w: grain tables of %d entries", ErrFormat, h.TableEntries)
	case h.Capacity > MaxCapacityBytes/sectorBytes && h.Capacity != tablesAtEnd:
		return h, fmt.Errorf("%w: a capacity of %d sectors", ErrFormat, h.Capacity)
	case h.Overhead > MaxCapacityBytes/sectorBytes || h.Overhead < 1:
		return h, fmt.Errorf("%w: a head of %d sectors", ErrFormat, h.Overhead)
	}
	return h, nil
}

// marker is the first 16 bytes of the sector in front of tables, and the first
// 12 in front of a grain's compressed bytes.
type marker struct {
	// Value is the grain's first sector, or how many sectors follow.
	Value uint64
	// Size is that of the compressed bytes; 0 in front of anything but a grain.
	Size uint32
	Kind uint32
}

const grainMarkerBytes = 12

func parseMarker(b []byte) marker {
	le := binary.LittleEndian
	return marker{Value: le.Uint64(b), Size: le.Uint32(b[8:]), Kind: le.Uint32(b[12:])}
}

func (m marker) append(b []byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = le.AppendUint64(b, m.Value)
	b = le.AppendUint32(b, m.Size)
	b = le.AppendUint32(b, m.Kind)
	return append(b, make([]byte, start+sectorBytes-len(b))...)
}

// sectors is how many sectors hold n bytes.
func sectors(n int64) int64 { return (n + sectorBytes - 1) / sectorBytes }
