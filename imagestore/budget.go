package imagestore

// What a store keeps in memory for as long as it is open: the filters and first
// numbers of the index, 10.4 bits for each chunk on the drive; opened index
// pages; decoded frames. What a capture or a verification needs besides
// (DESIGN.md) does not depend on the drive. All of it stays below 256 MiB for a
// drive of 100 million chunks.

// MemoryLimit is what a program that works with a store should let the Go runtime
// use (debug.SetMemoryLimit), in bytes. Without a limit the garbage collector
// lets the heap grow to twice what is in use, filters included. They hold no
// pointers: collecting more often costs next to nothing.
const MemoryLimit = 232 << 20

// Decoded frames have what the index leaves of residentBytes, within limits: a
// machine reads from a small cache at the speed of the drive, and a larger one
// helps only what is read again.
const (
	residentBytes   = 168 << 20
	mostCacheBytes  = 64 << 20
	leastCacheBytes = 16 << 20
)

// An index whose part in memory is larger than largeIndex, some 25 million
// chunks, gets fewPages slots for its pages: 2 MiB.
const (
	largeIndex = 32 << 20
	fewPages   = 512
)

// fitCaches gives the decoded frames and the index pages their share, once the
// index is loaded and before anything is looked up.
func (s *Store) fitCaches() {
	index := s.index.residentBytes()
	if s.frames.limit <= 0 {
		s.frames.limit = max(leastCacheBytes, min(mostCacheBytes, residentBytes-index))
	}
	if index > largeIndex {
		s.index.pages.used = fewPages
	}
}

// residentBytes is what the open runs keep in memory.
func (x *index) residentBytes() (n int64) {
	for _, r := range *x.runs.Load() {
		n += r.footer.TailSize()
	}
	return n
}
