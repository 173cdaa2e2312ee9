package format

import (
	"crypto/cipher"
	"hash/crc32"
	"slices"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The frames of a pack.
const (
	FrameHeaderSize = 32
	PackFooterSize  = 32
	FrameMagic      = "LBFR"
	packEnd         = "LBPACEND"

	// MaxFrameSize is the length of the longest frame of chunks with its header.
	MaxFrameSize = FrameHeaderSize + 4*MaxFrameChunks + MaxPayload + tagSize
	// MaxDirectorySize bounds the directory of a pack, not compressed. Chunks that
	// nearly vanish when compressed reach it before the pack is full.
	MaxDirectorySize = 16 << 20
	// maxDirectoryFrame is the length of the longest directory with its header.
	maxDirectoryFrame = FrameHeaderSize + MaxDirectorySize + tagSize
)

// FrameType is what a frame holds.
type FrameType byte

// The types of frames.
const (
	FrameChunks    FrameType = 1
	FrameDirectory FrameType = 2
)

// FrameHeader says what follows it, so that a pack without its end can still be
// read.
type FrameHeader struct {
	Ordinal uint32
	Type    FrameType
	Codec   Codec
	// Chunks is how many chunks the frame holds.
	Chunks int
	// Payload is the length of the decoded payload.
	Payload int
	// Sealed is how many bytes follow the header.
	Sealed int
}

// Size is the length of the frame with its header.
func (h FrameHeader) Size() int { return FrameHeaderSize + h.Sealed }

func (h FrameHeader) put(b []byte, pack ID) {
	copy(b, FrameMagic)
	le.PutUint32(b[4:], h.Ordinal)
	b[8], b[9] = byte(h.Type), byte(h.Codec)
	le.PutUint16(b[10:], uint16(h.Chunks))
	le.PutUint32(b[12:], uint32(h.Payload))
	le.PutUint32(b[16:], uint32(h.Sealed))
	copy(b[20:28], pack[:8])
	le.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
}

// DecodeFrameHeader reads the header of a frame of the given pack.
func DecodeFrameHeader(b []byte, pack ID) (FrameHeader, error) {
	var h FrameHeader
	if len(b) < FrameHeaderSize || string(b[:4]) != FrameMagic || string(b[20:28]) != string(pack[:8]) {
		return h, corrupt("no frame header")
	}
	if le.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return h, corrupt("the frame header's checksum does not fit")
	}
	h = FrameHeader{
		Ordinal: le.Uint32(b[4:]),
		Type:    FrameType(b[8]),
		Codec:   Codec(b[9]),
		Chunks:  int(le.Uint16(b[10:])),
		Payload: int(le.Uint32(b[12:])),
		Sealed:  int(le.Uint32(b[16:])),
	}
	return h, h.check()
}

func (h FrameHeader) check() error {
	limit := MaxPayload
	switch {
	case h.Type == FrameChunks && h.Chunks >= 1 && h.Chunks <= MaxFrameChunks:
	case h.Type == FrameDirectory && h.Chunks == 0:
		limit = MaxDirectorySize
	default:
		return corrupt("a frame of type %d with %d chunks", h.Type, h.Chunks)
	}
	table := 4 * h.Chunks
	if h.Codec > CodecZstd || h.Payload < 1 || h.Payload > limit ||
		h.Sealed <= table+tagSize || h.Sealed > table+h.Payload+tagSize {
		return corrupt("a frame with impossible lengths")
	}
	return nil
}

// PackKey seals and opens the frames of one pack. It serves one goroutine at a
// time.
type PackKey struct {
	header Header
	key    cipher.AEAD
	// extra is the additional data: pack header, then frame header.
	extra [HeaderSize + FrameHeaderSize]byte
	nonce [12]byte
}

// NewPackKey derives the key of the pack with this header.
func NewPackKey(h Header, master [32]byte) (*PackKey, error) {
	key, err := h.FileKey(master)
	if err != nil {
		return nil, err
	}
	k := &PackKey{header: h, key: key}
	h.Append(k.extra[:0])
	return k, nil
}

// Pack is the id of the pack.
func (k *PackKey) Pack() ID { return k.header.File }

// Header is the pack's header.
func (k *PackKey) Header() Header { return k.header }

// Clone returns a key for another goroutine.
func (k *PackKey) Clone() *PackKey {
	c := *k
	return &c
}

// Frame is a frame before it is sealed: what a worker hands to the writer of a
// pack, who alone knows its ordinal. Its buffer has room for the header before
// and the tag behind.
type Frame struct {
	buf    []byte
	header FrameHeader
}

// PackFrame prepares a frame of chunks in buf, which is used again if it is
// large enough: their lengths, then their bytes, compressed.
func PackFrame(buf []byte, lengths []uint32, payload []byte) Frame {
	need := FrameHeaderSize + 4*len(lengths)
	if cap(buf) < MaxFrameSize+64 {
		buf = make([]byte, 0, MaxFrameSize+64)
	}
	b := buf[:need]
	for i, n := range lengths {
		le.PutUint32(b[FrameHeaderSize+4*i:], n)
	}
	b, codec := Compress(b, payload)
	return Frame{b, FrameHeader{Type: FrameChunks, Codec: codec, Chunks: len(lengths), Payload: len(payload),
		Sealed: len(b) - FrameHeaderSize + tagSize}}
}

// CarryFrame makes a frame of one that OpenFrame opened in b, compressed as it
// is, for another pack. It keeps b.
func CarryFrame(b []byte, h FrameHeader) Frame {
	return Frame{b[:len(b)-tagSize], h}
}

// Size is the length of the frame with its header.
func (f Frame) Size() int { return f.header.Size() }

// Buffer is the frame's memory, for another PackFrame once it is written.
func (f Frame) Buffer() []byte { return f.buf[:0] }

// Seal seals the frame as the given one of the pack and returns its bytes,
// which share the frame's memory.
func (k *PackKey) Seal(f Frame, ordinal uint32) []byte {
	f.buf = slices.Grow(f.buf, tagSize) // so that sealing stays in place
	f.header.Ordinal = ordinal
	f.header.put(f.buf[:FrameHeaderSize], k.header.File)
	copy(k.extra[HeaderSize:], f.buf[:FrameHeaderSize])
	le.PutUint32(k.nonce[:], ordinal)
	body := f.buf[FrameHeaderSize:]
	body = k.key.Seal(body[:0], k.nonce[:], body, k.extra[:])
	return f.buf[: FrameHeaderSize+len(body) : cap(f.buf)]
}

// OpenFrame opens the frame that fills b, in place, and appends its payload to
// dst. Lengths are appended to sizes; they add up to the payload.
func (k *PackKey) OpenFrame(dst []byte, sizes []uint32, b []byte) (payload []byte, lengths []uint32, h FrameHeader, err error) {
	h, err = DecodeFrameHeader(b, k.header.File)
	if err != nil {
		return nil, nil, h, err
	}
	if h.Size() != len(b) {
		return nil, nil, h, corrupt("a frame of %d bytes where there are %d", h.Size(), len(b))
	}
	copy(k.extra[HeaderSize:], b[:FrameHeaderSize])
	le.PutUint32(k.nonce[:], h.Ordinal)
	body := b[FrameHeaderSize:]
	plain, err := k.key.Open(body[:0], k.nonce[:], body, k.extra[:])
	if err != nil {
		return nil, nil, h, corrupt("the seal of the frame does not fit")
	}
	total := 0
	for i := range h.Chunks {
		n := le.Uint32(plain[4*i:])
		if n < 1 || n > MaxChunkSize {
			return nil, nil, h, corrupt("a chunk of %d bytes", n)
		}
		sizes = append(sizes, n)
		total += int(n)
	}
	if h.Type == FrameChunks && total != h.Payload {
		return nil, nil, h, corrupt("the chunks of the frame have %d bytes of %d", total, h.Payload)
	}
	payload, err = Decompress(dst, plain[4*h.Chunks:], h.Codec, h.Payload)
	return payload, sizes, h, err
}
