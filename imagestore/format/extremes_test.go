package format

import (
	"bytes"
	"runtime"
	"testing"
)

// TestNoNumberMakesADecoderTakeMemory puts extreme numbers at every place of
// every sample: whatever it means there, a decoder takes little memory, and what
// it accepts it encodes to the same bytes.
func TestNoNumberMakesADecoderTakeMemory(t *testing.T) {
	for _, d := range allDecoders() {
		for at := range d.sample {
			for _, size := range []int{1, 2, 4, 8} {
				for _, value := range []uint64{0, 1<<31 - 1, 1<<63 - 1, 1<<64 - 1} {
					b := bytes.Clone(d.sample)
					if at+size > len(b) {
						continue
					}
					var wide [8]byte
					le.PutUint64(wide[:], value)
					copy(b[at:], wide[:size])
					if d.hungry(t, b) {
						t.Errorf("%s: %d bytes of %x at %d", d.name, size, value, at)
					}
				}
			}
		}
	}
}

// hungry says that a decoder takes more than a small sample needs.
func (d decoder) hungry(t *testing.T, b []byte) bool {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out, err := d.again(bytes.Clone(b))
	runtime.ReadMemStats(&after)
	if err == nil && !bytes.Equal(out, b) {
		t.Errorf("%s: it accepts bytes that it would not write: %x", d.name, b)
	}
	return after.TotalAlloc-before.TotalAlloc > 4<<20
}
