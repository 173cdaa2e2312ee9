package imagestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// crashSeeds is how many seeds the sweeps run: more of them in a soak, which
// sets LIFEBOAT_SOAK.
func crashSeeds() uint64 {
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		return 50
	}
	return 2
}

// sharedSweep is for operations of many calls: the two seeds of a short sweep
// share the calls, so that each is cut at once; in a soak each seed cuts at all.
func sharedSweep(t *testing.T, seed uint64, base *baddrive.Drive,
	operation func(durable.Dir) error, check func(t *testing.T, after durable.Dir, done error)) {
	t.Helper()
	first, step := 1, 1
	if os.Getenv("LIFEBOAT_SOAK") == "" {
		first, step = int(seed)+1, int(crashSeeds())
	}
	baddrive.SweepFrom(t, seed+1, first, step, base, operation, check)
}

// errorStep is how far apart the calls are that fail in a test of an operation of
// many calls: in a soak each fails, in a short run few.
func errorStep() int {
	if testing.Short() {
		return 29
	}
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		return 1
	}
	return 7
}

// night is one export after another one, of a disk that changed a little.
type night struct {
	first, second []byte
	point         lifeboat.RestorePoint
	base          *baddrive.Drive
}

func newNight(t *testing.T, torn bool) night {
	t.Helper()
	n := night{first: randomDisk(11, 4<<20+513)}
	n.second = slices.Clone(n.first)
	copy(n.second[1<<20:], randomDisk(12, 1<<20))
	n.base = baddrive.New(1, baddrive.Options{TornRenames: torn})
	createStore(t, n.base.Dir())
	s := openStore(t, n.base.Dir(), Write)
	n.point = mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: n.first}}))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// export is what is cut off.
func (n night) export(dir durable.Dir) error {
	s, err := openWith(dir, Write)
	if err != nil {
		return err
	}
	c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: n.second}})
	c.Workers = 1 // the same calls in the same order for a seed
	_, err = s.Capture(context.Background(), c)
	return errors.Join(err, s.Close())
}

// check opens the store after the power came back: every point that is listed
// is whole, none that was there before is missing, and one that was said to be
// committed is there.
func (n night) check(t *testing.T, after durable.Dir, done error) {
	t.Helper()
	for _, mode := range []Mode{Read, Write, Read} {
		s, err := openWith(after, mode)
		if err != nil {
			t.Fatalf("open for mode %d: %v", mode, err)
		}
		n.checkPoints(t, s, done)
		if mode == Write {
			if _, err := s.Capture(t.Context(), testMachine("m2", map[string]Source{"disk0": &memoryDisk{data: n.second[:1<<20]}})); err != nil {
				t.Errorf("the next export: %v", err)
			}
		}
		if report, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
			t.Errorf("verify in mode %d: %v\n%+v", mode, err, report.Faults)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (n night) checkPoints(t *testing.T, s *Store, done error) {
	t.Helper()
	points, faults, err := s.Points(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		if f.Lost {
			t.Errorf("lost: %+v", f)
		}
	}
	byMachine := map[string]int{}
	for _, p := range points {
		byMachine[p.Machine.ID]++
		want := n.first
		if p.ID != n.point.ID {
			want = n.second
		}
		if p.Machine.ID == "m2" {
			want = n.second[:1<<20]
		}
		checkDisk(t, s, p.ID, "disk0", want)
	}
	if len(points) == 0 || points[0].ID != n.point.ID {
		t.Error("the point of the night before is missing")
	}
	if done == nil && byMachine["m1"] != 2 {
		t.Error("a point that was committed is missing")
	}
}

func TestExportSurvivesAPowerCutAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, torn := range []bool{false, true} {
		t.Run(fmt.Sprintf("torn-renames=%t", torn), func(t *testing.T) {
			n := newNight(t, torn)
			for seed := range crashSeeds() {
				sharedSweep(t, seed, n.base, n.export, n.check)
			}
		})
	}
}

func TestExportSurvivesAnErrorOfEveryCall(t *testing.T) {
	t.Parallel()
	n := newNight(t, false)
	for call := 1; ; call++ {
		d := n.base.Clone(uint64(call))
		d.FailAt(call)
		err := n.export(d.Dir())
		if d.Calls() < call {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Run(fmt.Sprintf("call=%d", call), func(t *testing.T) {
			n.check(t, d.Restart(), err)
		})
	}
}

func TestFirstExportThatIsKilledIsReusedByTheNextOne(t *testing.T) {
	drive := newDrive(t)
	data := randomDisk(5, 12<<20)
	src := &memoryDisk{data: data}
	ctx, cancel := context.WithCancel(t.Context())
	s := openStore(t, drive.Dir(), Write)
	c := testMachine("m1", map[string]Source{"disk0": src})
	c.Sources["disk0"] = &cancelling{memoryDisk: src, after: 8 << 20, cancel: cancel}
	if _, err := s.Capture(ctx, c); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled capture: %v", err)
	}
	if points, _, _ := s.Points(t.Context()); len(points) != 0 {
		t.Fatal("half a point is listed")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, drive.Dir(), Write)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": src}))
	if p.Disks[0].NewBytes >= p.Disks[0].DataBytes*3/4 {
		t.Errorf("%d of %d bytes were written again", p.Disks[0].NewBytes, p.Disks[0].DataBytes)
	}
	checkDisk(t, s, p.ID, "disk0", data)
}

// cancelling is a source that ends the capture after some bytes.
type cancelling struct {
	*memoryDisk
	after  int64
	cancel func()
}

func (c *cancelling) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if offset >= c.after {
		c.cancel()
	}
	return c.memoryDisk.ReadAt(ctx, p, offset)
}

// A process that is killed leaves packs without an end and without an index
// run. Copying the folder of a store that is still open gives just that.
func TestPacksOfAKilledProcessAreSalvaged(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	dir, err := durable.OpenOS(from, false)
	if err != nil {
		t.Fatal(err)
	}
	createStore(t, dir)
	s, err := Open(t.Context(), dir, []Secret{testIdentity().Secret()}, OpenOptions{Mode: Write})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := randomDisk(5, 24<<20)
	ctx, cancel := context.WithCancel(t.Context())
	c := testMachine("m1", map[string]Source{"disk0": &cancelling{memoryDisk: &memoryDisk{data: data}, after: 20 << 20, cancel: cancel}})
	if _, err := s.Capture(ctx, c); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	killed, err := durable.OpenOS(to, false)
	if err != nil {
		t.Fatal(err)
	}
	w := openStore(t, killed, Write)
	p := mustCapture(t, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	if p.Disks[0].NewBytes >= p.Disks[0].DataBytes*3/4 {
		t.Errorf("%d of %d bytes were written again", p.Disks[0].NewBytes, p.Disks[0].DataBytes)
	}
	checkDisk(t, w, p.ID, "disk0", data)
	if report, err := w.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Errorf("%+v, %v", report, err)
	}
	w.Close()
	r := openStore(t, killed, Read)
	if report, err := r.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestLostIndexIsFoundAgainInThePacks(t *testing.T) {
	drive := newDrive(t)
	data := randomDisk(6, 9<<20)
	s := openStore(t, drive.Dir(), Write)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	s.Close()
	runs, err := drive.Dir().List("index")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		drive.Erase("index/"+r.Name(), format.RunPageSize, 64)
		if err := drive.Dir().Remove("index/" + r.Name()); err != nil {
			t.Fatal(err)
		}
	}
	reader := openStore(t, drive.ReadOnlyDir(), Read)
	checkDisk(t, reader, p.ID, "disk0", data)
	reader.Close()
	w := openStore(t, drive.Dir(), Write)
	again := mustCapture(t, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	if again.Disks[0].NewBytes != 0 {
		t.Errorf("%d bytes were written again after the index was rebuilt", again.Disks[0].NewBytes)
	}
}
