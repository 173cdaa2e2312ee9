package format

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// samplePayload is half words and half noise; it is the same each time.
func samplePayload(size int) []byte {
	r := rand.New(rand.NewPCG(7, uint64(size)))
	var b []byte
	for len(b) < size {
		if r.IntN(2) == 0 {
			b = append(b, "a block of a disk that compresses well, "...)
			continue
		}
		for range 40 {
			b = append(b, byte(r.Uint32()))
		}
	}
	return b[:size]
}

// codecs are those that this program has; a program without C has one.
func codecs() map[string]zstdCodec {
	return map[string]zstdCodec{"go": goZstd{}, "chosen": codec}
}

func TestEachCodecReadsWhatTheOtherWrites(t *testing.T) {
	for _, size := range []int{1, 5, 4096, 65536, 100_001, MaxPayload, 3 << 20} {
		plain := samplePayload(size)
		for writer, w := range codecs() {
			packed, err := w.compress([]byte("before"), plain)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", writer, size, err)
			}
			packed = packed[len("before"):]
			for reader, r := range codecs() {
				got, err := unzstdWith(r, []byte("before"), packed, size)
				if err != nil || !bytes.Equal(got, append([]byte("before"), plain...)) {
					t.Errorf("%s does not read the %d bytes that %s wrote: %v", reader, size, writer, err)
				}
			}
		}
	}
}

// The vectors were written once by each library and are never made anew: a
// program without C is held to what libzstd wrote, and the other way round.
func TestPayloadsOfBothLibrariesStayReadable(t *testing.T) {
	plain := samplePayload(100_000)
	for name, good := range map[string]bool{"payload-by-libzstd.zst": true, "payload-by-go.zst": true,
		"payload-two-frames.zst": false, "payload-large-window.zst": false, "payload-torn.zst": false} {
		packed, err := os.ReadFile(filepath.Join(vectors, name))
		if err != nil {
			t.Fatal(err)
		}
		for codec, c := range codecs() {
			got, err := unzstdWith(c, nil, packed, len(plain))
			if good && (err != nil || !bytes.Equal(got, plain)) {
				t.Errorf("%s with %s: %v", name, codec, err)
			}
			if !good && !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s with %s: %v", name, codec, err)
			}
		}
	}
}

// Whatever stands in a frame, no codec makes more than was announced, and where
// both accept it, it is the same to both.
func FuzzPayload(f *testing.F) {
	for _, size := range []int{1, 100, 5000} {
		for _, c := range codecs() {
			packed, err := c.compress(nil, samplePayload(size))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packed, size)
		}
	}
	f.Fuzz(func(t *testing.T, packed []byte, size int) {
		if size < 0 || size > MaxPayload {
			return
		}
		memory := make([]byte, size+decodeSlack+100)
		for i := range memory {
			memory[i] = 0xA5
		}
		got, err := Decompress(memory[:0:size+decodeSlack], packed, CodecZstd, size)
		if err == nil && len(got) != size {
			t.Fatalf("%d bytes of %d", len(got), size)
		}
		for _, b := range memory[size+decodeSlack:] {
			if b != 0xA5 {
				t.Fatal("it wrote beyond its buffer")
			}
		}
		other, otherErr := unzstdWith(goZstd{}, nil, packed, size)
		if err == nil && otherErr == nil && !bytes.Equal(got, other) {
			t.Fatal("the codecs read different bytes")
		}
	})
}

func TestPayloadsAreMadeAndReadWithoutAllocating(t *testing.T) {
	plain := samplePayload(MaxPayload)
	packed, kind := Compress(nil, plain)
	if kind != CodecZstd {
		t.Fatal(kind)
	}
	out, back := make([]byte, 0, MaxFrameSize+64), make([]byte, 0, PayloadBuffer)
	for what, f := range map[string]func(){
		"compressing": func() { Compress(out, plain) },
		"decoding":    func() { Decompress(back, packed, CodecZstd, len(plain)) },
	} {
		// A collection of garbage meanwhile empties the pool, now and then.
		if n := testing.AllocsPerRun(50, f); n >= 1 {
			t.Errorf("%s a frame allocates %v times", what, n)
		}
	}
}

// BenchmarkCodec shows what each codec costs, frame by frame, and how short it
// makes them.
func BenchmarkCodec(b *testing.B) {
	plain := samplePayload(MaxPayload)
	for name, c := range codecs() {
		out, back := make([]byte, 0, MaxFrameSize+64), make([]byte, 0, PayloadBuffer)
		packed, err := c.compress(nil, plain)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/compress", func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				c.compress(out, plain)
			}
			b.ReportMetric(float64(len(packed))/float64(len(plain)), "stored/data")
		})
		b.Run(name+"/decode", func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				c.decompress(back, packed, len(plain))
			}
		})
	}
}
