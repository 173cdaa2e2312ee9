package format

import "github.com/klauspost/compress/zstd"

// Codec is how a payload is compressed.
type Codec byte

// The codecs.
const (
	CodecNone Codec = 0
	CodecZstd Codec = 1
)

// PayloadBuffer is the capacity of a buffer for a payload that is decoded. With
// a little room behind the payload the decoder copies in wide steps.
const (
	PayloadBuffer = MaxPayload + decodeSlack
	decodeSlack   = 64
)

// zstdCodec is a library that makes and reads zstd frames. There are two of
// them, see docs/decisions/0004-libzstd.md: libzstd where the program was built
// with a C compiler, and one in Go for programs that must run anywhere. Each
// reads what the other writes. A codec serves many goroutines at once.
type zstdCodec interface {
	// compress appends plain as one frame that says its size.
	compress(b, plain []byte) ([]byte, error)
	// decompress fills the free space of b, as far as size, from a frame and
	// returns how many bytes it made: never more than size.
	decompress(b, packed []byte, size int) (int, error)
}

// Compress appends plain to b, compressed if that makes it shorter.
func Compress(b, plain []byte) ([]byte, Codec) {
	start := len(b)
	out, err := codec.compress(b, plain)
	if err == nil && len(out)-start < len(plain) {
		return out, CodecZstd
	}
	return append(b[:start], plain...), CodecNone
}

// Decompress appends what is packed to b. It refuses anything but exactly size
// bytes and never makes more than that.
func Decompress(b, packed []byte, codec Codec, size int) ([]byte, error) {
	switch codec {
	case CodecNone:
		if len(packed) != size {
			return nil, corrupt("%d bytes where %d were announced", len(packed), size)
		}
		return append(b, packed...), nil
	case CodecZstd:
		return unzstd(b, packed, size)
	}
	return nil, corrupt("codec %d", codec)
}

func unzstd(b, packed []byte, size int) ([]byte, error) {
	return unzstdWith(codec, b, packed, size)
}

func unzstdWith(c zstdCodec, b, packed []byte, size int) ([]byte, error) {
	// Everything that the frame announces is compared before anything is made.
	if err := checkZstd(packed, size); err != nil {
		return nil, err
	}
	start := len(b)
	if cap(b)-start < size {
		b = append(make([]byte, 0, start+size+decodeSlack), b...)
	}
	n, err := c.decompress(b, packed, size)
	if err != nil {
		return nil, corrupt("compressed bytes: %v", err)
	}
	if n != size {
		return nil, corrupt("%d bytes where %d were announced", n, size)
	}
	return b[:start+size], nil
}

// checkZstd refuses what is not exactly one frame of the announced size, so that
// both codecs accept the same bytes and neither looks behind the frame.
func checkZstd(packed []byte, size int) error {
	var h zstd.Header
	if err := h.Decode(packed); err != nil || size == 0 || !h.HasFCS || h.FrameContentSize != uint64(size) {
		return corrupt("compressed bytes announce another size")
	}
	if h.WindowSize > maxSmallPlain {
		return corrupt("compressed bytes that need %d bytes of memory", h.WindowSize)
	}
	rest := packed[h.HeaderSize:]
	for last := false; !last; {
		if len(rest) < 3 {
			return corrupt("compressed bytes that end too early")
		}
		// A block: bit 0 says it is the last, bits 1 and 2 its kind, the others
		// its size. Kind 1 is one byte, to be repeated (RFC 8878, 3.1.1.2).
		head := uint32(rest[0]) | uint32(rest[1])<<8 | uint32(rest[2])<<16
		last = head&1 == 1
		n := int(head >> 3)
		if head>>1&3 == 1 {
			n = 1
		}
		if n > len(rest)-3 {
			return corrupt("compressed bytes that end too early")
		}
		rest = rest[3+n:]
	}
	if h.HasCheckSum {
		rest = rest[min(4, len(rest)):]
	}
	if len(rest) > 0 {
		return corrupt("%d bytes behind the compressed ones", len(rest))
	}
	return nil
}
