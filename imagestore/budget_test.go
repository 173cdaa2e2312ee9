package imagestore

import (
	"testing"

	"lifeboat/imagestore/format"
)

// withIndexOf opens an empty store and lets it believe that its index has so many
// chunks.
func withIndexOf(t *testing.T, chunks uint64) *Store {
	s := openStore(t, newDrive(t).Dir(), Read)
	old := s.index.runs.Load()
	t.Cleanup(func() { s.index.runs.Store(old) })
	footer := format.RunFooter{Entries: chunks, Packs: uint32(chunks / 2000), FilterBlocks: format.FilterBlocks(chunks)}
	s.index.runs.Store(&[]*run{{footer: footer}})
	s.frames.limit, s.index.pages.used = 0, pageCacheSlots
	s.fitCaches()
	return s
}

func TestTheIndexAndTheDecodedFramesShareTheirMemory(t *testing.T) {
	for _, chunks := range []uint64{1e6, 10e6, 25e6, 50e6, 100e6} {
		s := withIndexOf(t, chunks)
		frames, pages := s.frames.limit, int64(s.index.pages.used)*format.RunPageSize
		if sum := s.index.residentBytes() + frames + pages; sum > residentBytes+fewPages*format.RunPageSize {
			t.Errorf("%d chunks: %d MiB in all", chunks, sum>>20)
		}
		if frames < leastCacheBytes || frames > mostCacheBytes {
			t.Errorf("%d chunks: %d MiB for decoded frames", chunks, frames>>20)
		}
	}
}

func TestADriveOfUsualSizeHasAllCachesWhole(t *testing.T) {
	s := withIndexOf(t, 10e6)
	if s.frames.limit != mostCacheBytes || s.index.pages.used != pageCacheSlots {
		t.Errorf("%d MiB for frames, %d slots for pages", s.frames.limit>>20, s.index.pages.used)
	}
}
