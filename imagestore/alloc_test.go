package imagestore

import (
	"context"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
)

// allocations counts what f allocates in all goroutines.
func allocations(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.Mallocs - before.Mallocs)
}

// What is worked on is a disk of 16 MiB and one of 80 MiB, of chunks of one or two
// blocks: what the larger one allocates more, for each chunk that it has more,
// is the price of a chunk. It is well below one even under the race detector,
// which makes pools forget a part of what they keep.
func TestNothingIsAllocatedForEachChunk(t *testing.T) {
	const small, large = 16 << 20, 80 << 20
	r := rand.New(rand.NewPCG(6, 6))
	data := make([]byte, large)
	for i := 0; i < len(data); i += format.BlockSize {
		if i/format.BlockSize%3 == 2 {
			continue // a block of zeros ends a chunk
		}
		for j := range 64 {
			data[i+j] = byte(r.Uint32())
		}
	}
	chunks := func(size int) int64 { return int64(size / format.BlockSize / 3) }
	work := map[string][2]int64{}
	note := func(what string, i int, f func()) {
		counts := work[what]
		counts[i] = allocations(f)
		work[what] = counts
	}
	for i, size := range []int{small, large} {
		dir := baddrive.New(1, baddrive.Options{}).Dir()
		createStore(t, dir)
		s := openStore(t, dir, Write)
		c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data[:size]}})
		var point string
		note("a first export", i, func() { point = mustCapture(t, s, c).ID })
		note("an export of what is there", i, func() { mustCapture(t, s, c) })
		s.Close()
		s = openStore(t, dir, Read)
		note("a restore", i, func() {
			if err := s.Restore(context.Background(), point, "disk0", discard{}, RestoreOptions{}); err != nil {
				t.Fatal(err)
			}
		})
		note("a verification", i, func() {
			if _, err := s.Verify(context.Background(), VerifyOptions{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	for what, n := range work {
		each := float64(n[1]-n[0]) / float64(chunks(large)-chunks(small))
		t.Logf("%s: %d allocations for %d chunks, %.2f for each one more", what, n[1], chunks(large), each)
		if each >= 1 {
			t.Errorf("%s allocates %.2f times for each chunk", what, each)
		}
	}
}

// discard is a target of a restore that keeps nothing.
type discard struct{ io.Writer }

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
