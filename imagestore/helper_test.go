package imagestore

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// Secrets are slow on purpose; most tests use an identity, which is not.
var testIdentity = sync.OnceValue(func() *Identity {
	id, err := NewIdentity()
	if err != nil {
		panic(err)
	}
	return id
})

var testTime = time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC)

// testSite has fixed keys, so that a failure can be run again.
func testSite() Site {
	s := Site{ID: "00112233445566778899aabbccddeeff", Name: "Musterfirma GmbH"}
	for i := range s.ChunkKey {
		s.ChunkKey[i], s.CutKey[i] = byte(i+1), byte(2*i+1)
	}
	return s
}

// smallLimits make packs and runs that fit a test.
var smallLimits = limits{packBytes: 1 << 20, runEntries: 500, missing: maxMissing}

func createStore(t testing.TB, dir durable.Dir) {
	t.Helper()
	if err := Create(context.Background(), dir, storeOptions()); err != nil {
		t.Fatal(err)
	}
}

func storeOptions() CreateOptions {
	return CreateOptions{
		Drive:   lifeboat.Drive{ID: "0123456789abcdef0123456789abcdef", Label: "B2"},
		Site:    testSite(),
		Slots:   []NewSlot{{Name: "control machine", Recipient: testIdentity().Recipient()}},
		Program: "test", Now: testTime,
	}
}

func openWith(dir durable.Dir, mode Mode) (*Store, error) {
	return Open(context.Background(), dir, []Secret{testIdentity().Secret()},
		OpenOptions{Mode: mode, Now: func() time.Time { return testTime }, limits: smallLimits})
}

func openStore(t testing.TB, dir durable.Dir, mode Mode) *Store {
	t.Helper()
	s, err := openWith(dir, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newDrive is a drive in memory with an empty store.
func newDrive(t testing.TB) *baddrive.Drive {
	t.Helper()
	d := baddrive.New(1, baddrive.Options{})
	createStore(t, d.Dir())
	return d
}

// memoryDisk is a Source in memory.
type memoryDisk struct {
	data    []byte
	changed []lifeboat.Extent
	tracks  bool
	why     string
	fail    error

	mu   sync.Mutex
	read int64
}

func (m *memoryDisk) SizeBytes() int64 { return int64(len(m.data)) }

func (m *memoryDisk) Changed(context.Context) ([]lifeboat.Extent, bool, string) {
	return m.changed, m.tracks, m.why
}

// Extents returns the data at a granularity of 64 KiB, as hypervisors do.
func (m *memoryDisk) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	const grain = 64 << 10
	var out []lifeboat.Extent
	for at := within.Offset / grain * grain; at < within.End(); at += grain {
		e := lifeboat.Extent{Offset: max(at, within.Offset)}
		e.Length = min(at+grain, within.End()) - e.Offset
		if !allZero(m.data[e.Offset:e.End()]) {
			out = appendExtent(out, e)
		}
	}
	return out, nil
}

func (m *memoryDisk) ReadAt(_ context.Context, p []byte, offset int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if offset < 0 || offset+int64(len(p)) > int64(len(m.data)) {
		return fmt.Errorf("read %d bytes from %d of %d", len(p), offset, len(m.data))
	}
	m.read += int64(len(p))
	copy(p, m.data[offset:])
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// randomDisk fills about half of a disk with blocks that compress a little.
func randomDisk(seed uint64, size int) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, size)
	for at := 0; at < size; {
		n := (1 + r.IntN(60)) * format.BlockSize
		if r.IntN(2) == 0 {
			fillBlocks(r, b[at:min(at+n, size)])
		}
		at += n
	}
	return b
}

func fillBlocks(r *rand.Rand, b []byte) {
	for i := range b {
		if i%4 < 2 {
			b[i] = byte(r.Uint32())
		} else {
			b[i] = 'x'
		}
	}
}

// testMachine describes a machine with the given disks.
func testMachine(id string, disks map[string]Source) Capture {
	c := Capture{Machine: lifeboat.Machine{Version: 1, ID: id, Name: "Büro Server " + id}, RunID: "run1", TakenAt: testTime,
		Consistency: lifeboat.ConsistentCrash, Sources: disks, Tokens: map[string]string{}, Since: map[string]string{}, Program: "test", Workers: 2}
	for key, src := range disks {
		c.Machine.Disks = append(c.Machine.Disks, lifeboat.Disk{Key: key, SizeBytes: src.SizeBytes(), Bus: lifeboat.BusVirtio})
	}
	return c
}

func mustCapture(t testing.TB, s *Store, c Capture) lifeboat.RestorePoint {
	t.Helper()
	p, err := s.Capture(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// memoryTarget is a RestoreTarget in memory that notes what was never written.
type memoryTarget struct {
	mu      sync.Mutex
	data    []byte
	written int64
}

func (m *memoryTarget) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written += int64(len(p))
	return copy(m.data[off:], p), nil
}

// checkDisk restores a disk and compares it with what it should be.
func checkDisk(t testing.TB, s *Store, pointID, key string, want []byte) {
	t.Helper()
	target := &memoryTarget{data: make([]byte, len(want))}
	if err := s.Restore(context.Background(), pointID, key, target, RestoreOptions{Workers: 2}); err != nil {
		t.Fatalf("restore %s of %s: %v", key, pointID, err)
	}
	if !bytes.Equal(target.data, want) {
		t.Fatalf("disk %s of point %s is not what was captured", key, pointID)
	}
}

// wholeOnly leaves a test out of a short run, as the race detector's is: it takes
// long there, and nothing in it runs at the same time as anything else.
func wholeOnly(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("part of the run without the race detector only")
	}
}
