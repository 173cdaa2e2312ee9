package format

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

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

// Encoders and decoders are heavy to make and light to reuse; each serves one
// goroutine at a time.
var (
	encoders = sync.Pool{New: func() any {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
			zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(MaxPayload), zstd.WithLowerEncoderMem(true),
			// A single segment always carries its size, which the decoder insists on.
			zstd.WithSingleSegment(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	}}
	decoders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(false),
			zstd.WithDecoderMaxMemory(MaxSmallFile), zstd.WithDecoderMaxWindow(MaxSmallFile),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic(err)
		}
		return d
	}}
)

// Compress appends plain to b, compressed if that makes it shorter.
func Compress(b, plain []byte) ([]byte, Codec) {
	e := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(e)
	start := len(b)
	b = e.EncodeAll(plain, b)
	if len(b)-start < len(plain) {
		return b, CodecZstd
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
	// The size that the frame announces is compared before anything is made.
	var h zstd.Header
	if err := h.Decode(packed); err != nil || !h.HasFCS || h.FrameContentSize != uint64(size) {
		return nil, corrupt("compressed bytes announce another size")
	}
	d := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(d)
	start := len(b)
	if cap(b)-start < size {
		b = append(make([]byte, 0, start+size+decodeSlack), b...)
	}
	out, err := d.DecodeAll(packed, b[:start:min(cap(b), start+size+decodeSlack)])
	if err != nil {
		return nil, corrupt("compressed bytes: %v", err)
	}
	if len(out)-start != size {
		return nil, corrupt("%d bytes where %d were announced", len(out)-start, size)
	}
	return out, nil
}
