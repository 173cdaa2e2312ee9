package imagestore

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"lifeboat"
)

// rereadDisk is a disk of 64 MiB that is full of data; LIFEBOAT_BENCH_DISK names
// a real one to measure with.
func rereadDisk(t *testing.T) []byte {
	t.Helper()
	if name := os.Getenv("LIFEBOAT_BENCH_DISK"); name != "" {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	data := make([]byte, 64<<20)
	fillBlocks(rand.New(rand.NewPCG(31, 7)), data)
	return data
}

// Every way of writing is worth a little more than its dirty bytes, even the
// worst one: pieces of 64 KiB, each alone among data that did not change.
func TestNextExportReadsLittleMoreThanWhatChanged(t *testing.T) {
	wholeOnly(t)
	t.Parallel()
	const grain = 64 << 10
	for _, pattern := range []struct {
		name          string
		length, count int // bytes written at a time, and how often per 1,000 grains
	}{
		{"pieces of 64 KiB", grain, 60}, {"pages of 4 KiB", 4096, 60}, {"files of 1 MiB", 1 << 20, 6},
	} {
		t.Run(pattern.name, func(t *testing.T) {
			data := rereadDisk(t)
			s := openStore(t, newDrive(t).Dir(), Write)
			s.limits.packBytes = 64 << 20
			c, _ := tracked(data, nil, "", "monday")
			mustCapture(t, s, c)
			r := rand.New(rand.NewPCG(32, 7))
			after := slices.Clone(data)
			dirty := make([]bool, len(data)/grain)
			for range len(dirty) * pattern.count / 1000 {
				at := r.IntN(len(dirty)-pattern.length/grain) * grain
				fillBlocks(r, after[at:at+pattern.length])
				for i := at / grain; i <= (at+pattern.length-1)/grain; i++ {
					dirty[i] = true
				}
			}
			var changed []lifeboat.Extent
			for i, d := range dirty {
				if d {
					changed = appendExtent(changed, lifeboat.Extent{Offset: int64(i) * grain, Length: grain})
				}
			}
			var bytes int64
			for _, e := range changed {
				bytes += e.Length
			}
			c, src := tracked(after, changed, "monday", "tuesday")
			p := mustCapture(t, s, c)
			t.Logf("%d KiB were read for %d KiB that changed: %.2f", src.read>>10, bytes>>10, float64(src.read)/float64(bytes))
			if p.Disks[0].FullRead != "" || float64(src.read) > 1.4*float64(bytes) {
				t.Errorf("%d bytes were read for %d that changed (%s)", src.read, bytes, p.Disks[0].FullRead)
			}
			checkDisk(t, s, p.ID, "disk0", after)
		})
	}
}
