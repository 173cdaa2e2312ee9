package imagestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// benchSize is the disk of the benchmarks. LIFEBOAT_BENCH_DISK names a real disk
// image to use instead.
const benchSize = 256 << 20

// benchDisk is a disk whose blocks compress about as well as a server's.
func benchDisk(b *testing.B) []byte {
	b.Helper()
	if name := os.Getenv("LIFEBOAT_BENCH_DISK"); name != "" {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	words := make([]string, 2000)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range words {
		words[i] = fmt.Sprintf("%x ", r.Uint64()>>(r.IntN(60)))
	}
	data := make([]byte, 0, benchSize+64)
	for len(data) < benchSize {
		switch r.IntN(100) {
		case 0:
			data = append(data, make([]byte, 64<<10)...)
		case 1:
			for range 8 << 10 {
				data = append(data, byte(r.Uint32()))
			}
		default:
			for range 200 {
				data = append(data, words[r.IntN(len(words))]...)
			}
		}
	}
	return data[:benchSize]
}

func benchStore(b *testing.B) (durable.Dir, *Store) {
	b.Helper()
	dir, err := durable.OpenOS(b.TempDir(), false)
	if err != nil {
		b.Fatal(err)
	}
	createStore(b, dir)
	return dir, benchOpen(b, dir, Write)
}

func benchOpen(b *testing.B, dir durable.Dir, mode Mode) *Store {
	b.Helper()
	s, err := Open(context.Background(), dir, []Secret{testIdentity().Secret()}, OpenOptions{Mode: mode})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// cpu reports the processor time of the whole process, the steady figure on a
// machine that does other things too.
func cpu(b *testing.B) func() {
	start := cpuTime()
	return func() { b.ReportMetric((cpuTime()-start).Seconds()/float64(b.N), "cpu-s/op") }
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchCapture(b *testing.B, s *Store, c Capture) lifeboat.RestorePoint {
	b.Helper()
	c.Workers = 0
	return mustCapture(b, s, c)
}

func BenchmarkCaptureFirst(b *testing.B) {
	data := benchDisk(b)
	b.SetBytes(int64(len(data)))
	defer cpu(b)()
	for b.Loop() {
		_, s := benchStore(b)
		benchCapture(b, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
		u, err := s.Usage(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(u.StoredBytes)/float64(len(data)), "stored/data")
		s.Close()
	}
}

// nextDay changes 4 % of the disk in runs of 64 KiB.
func nextDay(data []byte) ([]byte, []lifeboat.Extent) {
	after := slices.Clone(data)
	var changed []lifeboat.Extent
	r := rand.New(rand.NewPCG(5, 5))
	const grain = 64 << 10
	for at := 0; at+grain <= len(data); at += grain {
		if r.IntN(25) == 0 {
			fillBlocks(r, after[at+8192:at+24576])
			changed = append(changed, lifeboat.Extent{Offset: int64(at), Length: grain})
		}
	}
	return after, changed
}

func BenchmarkCaptureNextDay(b *testing.B) {
	data := benchDisk(b)
	after, changed := nextDay(data)
	for _, list := range []bool{false, true} {
		b.Run(fmt.Sprintf("change-list=%t", list), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				b.StopTimer()
				_, s := benchStore(b)
				c, _ := tracked(data, nil, "", "monday")
				benchCapture(b, s, c)
				next, src := tracked(after, changed, "monday", "tuesday")
				src.tracks = list
				start := cpuTime()
				b.StartTimer()
				p := benchCapture(b, s, next)
				b.ReportMetric((cpuTime() - start).Seconds(), "cpu-s/op")
				b.ReportMetric(float64(p.Disks[0].ReadBytes)/float64(16*len(changed)<<12), "read/dirty")
				b.StopTimer()
				s.Close()
				b.StartTimer()
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	data := benchDisk(b)
	_, s := benchStore(b)
	benchCapture(b, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	b.SetBytes(int64(len(data)))
	defer cpu(b)()
	for b.Loop() {
		if _, err := s.Verify(context.Background(), VerifyOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRestore(b *testing.B) {
	data := benchDisk(b)
	dir, w := benchStore(b)
	p := benchCapture(b, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	w.Close()
	b.SetBytes(int64(len(data)))
	defer cpu(b)()
	for b.Loop() {
		s := benchOpen(b, dir, Read)
		f, err := os.Create(filepath.Join(b.TempDir(), "disk.raw"))
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Restore(context.Background(), p.ID, "disk0", f, RestoreOptions{}); err != nil {
			b.Fatal(err)
		}
		f.Close()
		s.Close()
	}
}

// BenchmarkRandomRead reads 64 KiB at random places; the disk is larger than
// the cache of decoded frames.
func BenchmarkRandomRead(b *testing.B) {
	data := benchDisk(b)
	dir, w := benchStore(b)
	p := benchCapture(b, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	w.Close()
	s, err := Open(context.Background(), dir, []Secret{testIdentity().Secret()}, OpenOptions{CacheBytes: 4 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	d, err := s.Disk(context.Background(), p.ID, "disk0")
	if err != nil {
		b.Fatal(err)
	}
	for _, flight := range []int{1, 8} {
		b.Run(fmt.Sprintf("in-flight=%d", flight), func(b *testing.B) {
			b.SetBytes(64 << 10)
			b.SetParallelism(max(1, flight/runtime.GOMAXPROCS(0)))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := rand.New(rand.NewPCG(9, rand.Uint64()))
				buf := make([]byte, 64<<10)
				for pb.Next() {
					if _, err := d.ReadAt(buf, r.Int64N(int64(len(data)-len(buf)))&^4095); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkSequentialRead reads a disk from its start to its end, one read after
// the other, with a cache that is much smaller.
func BenchmarkSequentialRead(b *testing.B) {
	data := benchDisk(b)
	dir, w := benchStore(b)
	p := benchCapture(b, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	w.Close()
	for _, size := range []int{64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("read=%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			defer cpu(b)()
			buf := make([]byte, size)
			for b.Loop() {
				s := benchOpen(b, dir, Read)
				d, err := s.Disk(context.Background(), p.ID, "disk0")
				if err != nil {
					b.Fatal(err)
				}
				for at := int64(0); at < int64(len(data)); at += int64(size) {
					if _, err := d.ReadAt(buf, at); err != nil {
						b.Fatal(err)
					}
				}
				s.Close()
			}
		})
	}
}

// BenchmarkAbsentID looks up ids that are not on the drive, in an index of a
// million chunks.
func BenchmarkAbsentID(b *testing.B) {
	drive := baddrive.New(1, baddrive.Options{})
	createStore(b, drive.Dir())
	s := benchOpen(b, drive.Dir(), Write)
	r := rand.New(rand.NewPCG(1, 1))
	id := func() (id format.ID) {
		for i := 0; i < 32; i += 8 {
			n := r.Uint64()
			for j := range 8 {
				id[i+j] = byte(n >> (8 * j))
			}
		}
		return id
	}
	pack := s.packs.add(format.RunPack{ID: format.ID{1}})
	entries := make([]format.RunEntry, 1<<20)
	for i := range entries {
		entries[i] = format.RunEntry{ID: id(), Place: format.NewPlace(pack, 64, 1000, 0, 4096)}
	}
	if err := s.index.writeRun(entries, nil); err != nil {
		b.Fatal(err)
	}
	absent := make([]format.ID, 4096)
	for i := range absent {
		absent[i] = id()
	}
	reads := drive.Reads()
	n := 0
	for b.Loop() {
		if _, _, err := s.index.find(absent[n%len(absent)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(drive.Reads()-reads)/float64(n), "reads/op")
}
