package imagestore

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// What a drive of terabytes costs is measured on an index without data: the
// store's own run writer makes it, with as many packs and restore points as such
// a drive has. Each step runs in a process of its own, so that its memory is its
// own.
//
//	LIFEBOAT_BENCH_MILLIONS=100 go test -run '^$' -bench Scale -benchtime 1x ./imagestore

// Variables of the environment: how many millions of chunks, and for the
// processes that the benchmark starts, the step and its folder.
const (
	scaleMillions = "LIFEBOAT_BENCH_MILLIONS"
	scaleStep     = "LIFEBOAT_BENCH_STEP"
	scaleDir      = "LIFEBOAT_BENCH_DIR"
	scaleIdentity = "LIFEBOAT_BENCH_IDENTITY"
)

// A pack of 64 MiB holds some 2,000 chunks on average; a drive that is rotated
// for years, a thousand points.
const (
	scaleChunksPerPack = 2000
	scalePoints        = 1000
)

// scaleRuns are the parts of the index that its runs hold. None is merged by a
// small run that comes after them.
var scaleRuns = []float64{0.74, 0.19, 0.05, 0.02}

// scaleSteps are what is done with a large store. Each returns its figures.
var scaleSteps = []struct {
	name string
	do   func(b *testing.B, dir durable.Dir, f figures)
}{
	{"open", scaleOpen}, {"write", scaleWrite}, {"export", scaleExport}, {"read", scaleRead}, {"merge", scaleMerge},
}

type figures map[string]float64

func BenchmarkScale(b *testing.B) {
	if step := os.Getenv(scaleStep); step != "" {
		scaleChild(b, step)
		return
	}
	millions := 1
	if text := os.Getenv(scaleMillions); text != "" {
		var err error
		if millions, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	path := b.TempDir()
	for b.Loop() {
		all := figures{}
		began := time.Now()
		scaleBuild(b, path, millions*1_000_000, all)
		all["build-s"] = time.Since(began).Seconds()
		for _, step := range scaleSteps {
			scaleRun(b, step.name, path, all)
		}
		for name, v := range all {
			b.ReportMetric(v, name)
		}
	}
}

// scaleRun runs a step in another process.
func scaleRun(b *testing.B, step, path string, all figures) {
	cmd := exec.Command(os.Args[0], "-test.run", "^$", "-test.bench", "^BenchmarkScale$", "-test.benchtime", "1x", "-test.timeout", "60m")
	cmd.Env = append(os.Environ(), scaleStep+"="+step, scaleDir+"="+path, scaleIdentity+"="+testIdentity().SecretText())
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%s: %v\n%s", step, err, out)
	}
	for line := range strings.Lines(string(out)) {
		var name string
		var v float64
		if n, _ := fmt.Sscanf(line, "figure %s %g", &name, &v); n == 2 {
			all[name] = v
		}
	}
}

func scaleChild(b *testing.B, step string) {
	dir, err := durable.OpenOS(os.Getenv(scaleDir), false)
	if err != nil {
		b.Fatal(err)
	}
	debug.SetMemoryLimit(MemoryLimit) // as the program does
	for b.Loop() {
		for _, s := range scaleSteps {
			if s.name != step {
				continue
			}
			f := figures{}
			s.do(b, dir, f)
			for name, v := range f {
				fmt.Printf("figure %s %g\n", name, v)
			}
		}
	}
}

// scaleStore opens the store in the process of a step.
func scaleStore(b *testing.B, dir durable.Dir, mode Mode) *Store {
	id, err := ParseIdentity(os.Getenv(scaleIdentity))
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(context.Background(), dir, []Secret{id.Secret()}, OpenOptions{Mode: mode})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// scaleID is the n-th of so many ids, which ascend and look like any others.
func scaleID(n, of, seed uint64) (id format.ID) {
	step := ^uint64(0) / of
	binary.BigEndian.PutUint64(id[:], n*step+mix(n^seed<<40)%step)
	for i := 8; i < len(id); i += 8 {
		binary.LittleEndian.PutUint64(id[i:], mix(n*4+seed<<48+uint64(i)))
	}
	return id
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable
// pseudorandom number generators, 2014).
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// unsynced is a folder for building what is measured later.
type unsynced struct{ durable.Dir }

func (d unsynced) SyncDir(string) error { return nil }

func (d unsynced) Create(name string) (durable.WriteFile, error) {
	f, err := d.Dir.Create(name)
	return unsyncedFile{f}, err
}

type unsyncedFile struct{ durable.WriteFile }

func (unsyncedFile) Sync() error { return nil }

// scaleBuild makes a store with an index of n chunks, their packs without
// content, and the points of a machine with a small disk.
func scaleBuild(b *testing.B, path string, n int, f figures) {
	os0, err := durable.OpenOS(path, false)
	if err != nil {
		b.Fatal(err)
	}
	dir := unsynced{os0}
	createStore(b, dir)
	s := benchOpen(b, dir, Write)
	for i, part := range scaleRuns {
		scaleBuildRun(b, s, uint64(float64(n)*part), uint64(i))
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	s = benchOpen(b, dir, Write)
	first := mustCapture(b, s, testMachine("m0", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 64<<20)}}))
	r, err := s.record(context.Background(), first.ID)
	if err != nil {
		b.Fatal(err)
	}
	for i := 1; i < scalePoints; i++ {
		point := first
		point.Machine.ID = fmt.Sprintf("m%d", i%20)
		if _, err := s.commit(context.Background(), point, r.Disks); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	filepath.WalkDir(filepath.Join(path, "index"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			f["index-MiB"] += float64(fileSize(d)) / (1 << 20)
		}
		return err
	})
	f["packs"], f["points"] = float64(n/scaleChunksPerPack), scalePoints
}

// scaleBuildRun writes a run of n entries, one after the other.
func scaleBuildRun(b *testing.B, s *Store, n, seed uint64) {
	fail := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	var numbers []uint32
	for range max(1, n/scaleChunksPerPack) {
		pack := format.RunPack{ID: newFileID()}
		f, err := s.dir.Create(packName(pack))
		fail(err)
		fail(f.Close())
		numbers = append(numbers, s.packs.add(pack))
	}
	id := newFileID()
	h := format.Header{Kind: format.KindRun, Generation: s.super.Generation, Drive: s.driveID, File: id}
	key, err := format.NewRunKey(h, s.masters.Newest().Key)
	fail(err)
	file, err := s.dir.Create(runName(id))
	fail(err)
	w := &runWriter{packs: s.packs, file: file, key: key, number: map[uint32]uint32{}}
	// The entries come one by one below: here there are none yet.
	if err := w.write(h, nil, numbers, nil, s.marks); !errors.Is(err, errEmptyRun) {
		fail(err)
	}
	for i := range n {
		place := format.NewPlace(numbers[mix(i)%uint64(len(numbers))], uint32(64+mix(i+1)%(60<<20)), 9000, 0, 32<<10)
		fail(w.add(format.RunEntry{ID: scaleID(i, n, seed), Place: place}))
	}
	fail(w.flushPage())
	fail(w.flush())
	fail(w.writeTail(s.dir, runName(id)))
	fail(file.Close())
}

// anonMiB is the anonymous memory of this process.
func anonMiB(b *testing.B) float64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib float64
		if n, _ := fmt.Sscanf(lines.Text(), "RssAnon: %g kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	b.Fatal("the kernel does not say how much memory is in use")
	return 0
}

// peakAnon watches the anonymous memory until the returned function is called.
func peakAnon(b *testing.B) func() float64 {
	quit, peak := make(chan struct{}), make(chan float64)
	go func() {
		most := 0.0
		for {
			most = max(most, anonMiB(b))
			select {
			case <-time.After(5 * time.Millisecond):
			case <-quit:
				peak <- most
				return
			}
		}
	}()
	return func() float64 {
		close(quit)
		return <-peak
	}
}

// scaleOpen opens the store for reading, looks ids up and lists the points.
func scaleOpen(b *testing.B, dir durable.Dir, f figures) {
	counted := &readCounter{Dir: dir}
	began := time.Now()
	s := scaleStore(b, counted, Read)
	f["open-s"] = time.Since(began).Seconds()
	f["open-anon-MiB"] = anonMiB(b)
	const tries = 1 << 20
	reads := counted.reads
	began = time.Now()
	for i := range uint64(tries) {
		if _, ok, err := s.index.find(scaleID(i, tries, 99)); ok || err != nil {
			b.Fatal(ok, err)
		}
	}
	f["absent-us"] = time.Since(began).Seconds() * 1e6 / tries
	f["absent-reads-per-thousand"] = 1000 * float64(counted.reads-reads) / tries
	present := scalePresent(b, s, 100)
	find := func() float64 {
		began := time.Now()
		for _, id := range present {
			if _, ok, err := s.index.find(id); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		return time.Since(began).Seconds() * 1e6 / float64(len(present))
	}
	f["cold-us"] = find()
	f["warm-us"] = find()
	began = time.Now()
	points, faults, err := s.Points(context.Background())
	if err != nil || len(faults) > 0 || len(points) < scalePoints {
		b.Fatal(len(points), faults, err)
	}
	f["points-s"] = time.Since(began).Seconds()
}

// scalePresent reads ids out of the largest run.
func scalePresent(b *testing.B, s *Store, n int) (ids []format.ID) {
	runs := slices.Clone(*s.index.runs.Load())
	slices.SortFunc(runs, func(a, b *run) int { return int(b.footer.Entries) - int(a.footer.Entries) })
	pages := runs[0].footer.Pages()
	var buf [format.RunPageSize]byte
	for i := range n {
		page, err := runs[0].readPage(int64(i)*pages/int64(n), buf[:])
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, page.Entry(0).ID)
	}
	return ids
}

// readCounter counts the reads of a folder's files.
type readCounter struct {
	durable.Dir
	reads int
}

func (c *readCounter) Open(name string) (durable.ReadFile, error) {
	f, err := c.Dir.Open(name)
	return &countedFile{f, c}, err
}

type countedFile struct {
	durable.ReadFile
	c *readCounter
}

func (f *countedFile) ReadAt(p []byte, offset int64) (int, error) {
	f.c.reads++
	return f.ReadFile.ReadAt(p, offset)
}

// scaleWrite opens the store for writing, as the first export of a night does,
// and stores what changed in one region.
func scaleWrite(b *testing.B, dir durable.Dir, f figures) {
	began := time.Now()
	s := scaleStore(b, dir, Write)
	f["write-s"] = time.Since(began).Seconds()
	f["write-anon-MiB"] = anonMiB(b)
	began = time.Now()
	mustCapture(b, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(2, 4<<20)}}))
	f["tiny-s"] = time.Since(began).Seconds()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// madeDisk is a source that makes its content up, of single blocks with zeros
// between them: as many chunks for its size as there can be.
type madeDisk struct{ size, seed int64 }

func (d madeDisk) SizeBytes() int64                                          { return d.size }
func (d madeDisk) Changed(context.Context) ([]lifeboat.Extent, bool, string) { return nil, false, "" }
func (d madeDisk) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return []lifeboat.Extent{within}, nil
}

func (d madeDisk) ReadAt(_ context.Context, p []byte, offset int64) error {
	for at := 0; at < len(p); at += 8 {
		if (offset+int64(at))/format.BlockSize%2 == 0 {
			binary.LittleEndian.PutUint64(p[at:], mix(uint64(offset+int64(at)+d.seed<<40)))
		} else {
			clear(p[at : at+8])
		}
	}
	return nil
}

// scaleExport stores two machines at once, as the program does, with more new
// chunks than one index run takes.
func scaleExport(b *testing.B, dir durable.Dir, f figures) {
	s := scaleStore(b, dir, Write)
	runtime.GC() // what opening needed is no part of this
	peak := peakAnon(b)
	began := time.Now()
	var wait sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wait.Go(func() {
			c := testMachine(fmt.Sprintf("large%d", i), map[string]Source{"disk0": madeDisk{1536 << 20, int64(i + 1)}})
			c.Workers = 0
			_, errs[i] = s.Capture(context.Background(), c)
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	f["export-s"] = time.Since(began).Seconds()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	f["export-anon-MiB"] = peak()
}

// scaleRead reads the disk of a point through, twenty reads at a time, and
// verifies that point.
func scaleRead(b *testing.B, dir durable.Dir, f figures) {
	s := scaleStore(b, dir, Read)
	peak := peakAnon(b)
	p, err := s.Newest(context.Background(), "large0")
	if err != nil {
		b.Fatal(err)
	}
	d, err := s.Disk(context.Background(), p.ID, "disk0")
	if err != nil {
		b.Fatal(err)
	}
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			buf := make([]byte, 1<<20)
			for at := int64(i) << 20; at < d.SizeBytes(); at += 20 << 20 {
				if _, err := d.ReadAt(buf, at); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	report, err := s.Verify(context.Background(), VerifyOptions{Points: []string{p.ID}})
	if err != nil || len(report.Faults) > 0 {
		b.Fatal(report, err)
	}
	f["read-anon-MiB"] = peak()
}

// scaleMerge makes one run of all.
func scaleMerge(b *testing.B, dir durable.Dir, f figures) {
	s := scaleStore(b, dir, Write)
	peak := peakAnon(b)
	began := time.Now()
	id, runs := newFileID(), slices.Clone(*s.index.runs.Load())
	if err := s.index.writeRunFile(id, nil, nil, runs, nil); err != nil {
		b.Fatal(err)
	}
	if err := s.index.replace(id, runs); err != nil {
		b.Fatal(err)
	}
	f["merge-s"] = time.Since(began).Seconds()
	f["merge-anon-MiB"] = peak()
}
