// Package format turns the bytes of the image store into structs and back, and
// does nothing else: no I/O, no clock, no choice. docs/format.md is its law.
//
// A decoder never panics, uses no count before it compared it with what there
// is, and accepts only bytes that the encoder would have written: what decodes
// re-encodes to the same bytes.
package format

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Version is the only version of the format there is.
const Version = 1

// The sizes of a disk's parts.
const (
	BlockSize      = 4096
	RegionBlocks   = 1024
	RegionSize     = RegionBlocks * BlockSize
	MaxChunkBlocks = 32
	MaxChunkSize   = MaxChunkBlocks * BlockSize
	// Fanout is the number of children of a node.
	Fanout = 1024
	// MaxLevel is the level of the highest root: 1024^4 regions are 4 EiB.
	MaxLevel = 4
	// MaxDiskSize is the size of the largest disk that a tree can describe.
	MaxDiskSize = 1 << 62
)

// The sizes of a pack's parts.
const (
	// MaxPackSize is one large file to a slow disk, and what a torn one costs.
	MaxPackSize = 64 << 20
	// MaxPayload is what must be decoded for one random read.
	MaxPayload     = 256 << 10
	MaxFrameChunks = 4096
)

// Errors of decoders.
var (
	// ErrCorrupt: the bytes are not what an encoder wrote.
	ErrCorrupt = errors.New("not what was written")
	// ErrNewer: written by a later version of the format.
	ErrNewer = errors.New("written in a newer format")
	// ErrForeign: a whole file, but of another drive or another kind.
	ErrForeign = errors.New("belongs to another store")
)

// ID names a chunk, a leaf, a node, or a file.
type ID [32]byte

// String is the id in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero says that the id is the reserved one of emptiness.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID reads 64 lower-case hex digits.
func ParseID(text string) (ID, error) {
	var id ID
	err := parseHex(id[:], text)
	return id, err
}

// ShortID names a drive, a site or a point.
type ShortID [16]byte

// String is the id in hex.
func (id ShortID) String() string { return hex.EncodeToString(id[:]) }

// ParseShortID reads 32 lower-case hex digits.
func ParseShortID(text string) (ShortID, error) {
	var id ShortID
	err := parseHex(id[:], text)
	return id, err
}

func parseHex(dst []byte, text string) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("%q is not an id of %d hex digits", text, 2*len(dst))
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("%q is not an id in lower-case hex", text)
		}
	}
	_, err := hex.Decode(dst, []byte(text))
	return err
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

var le = binary.LittleEndian
