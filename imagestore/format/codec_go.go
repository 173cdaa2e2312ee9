package format

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// goZstd is zstd in Go alone: about as fast as libzstd, with frames that are a
// few percent longer. Both programs have it, so that tests can compare them.
type goZstd struct{}

// Encoders and decoders are heavy to make and light to reuse; each serves one
// goroutine at a time.
var (
	goEncoders = sync.Pool{New: func() any {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
			zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(MaxPayload), zstd.WithLowerEncoderMem(true),
			// A single segment always carries its size, which the decoder insists on.
			zstd.WithSingleSegment(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	}}
	goDecoders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(false),
			zstd.WithDecoderMaxMemory(maxSmallPlain), zstd.WithDecoderMaxWindow(maxSmallPlain),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic(err)
		}
		return d
	}}
)

func (goZstd) compress(b, plain []byte) ([]byte, error) {
	e := goEncoders.Get().(*zstd.Encoder)
	defer goEncoders.Put(e)
	return e.EncodeAll(plain, b), nil
}

func (goZstd) decompress(b, packed []byte, size int) (int, error) {
	d := goDecoders.Get().(*zstd.Decoder)
	defer goDecoders.Put(d)
	start := len(b)
	out, err := d.DecodeAll(packed, b[:start:min(cap(b), start+size+decodeSlack)])
	return len(out) - start, err
}
