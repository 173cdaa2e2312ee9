package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestThePageSaysWhatTheFiguresSay(t *testing.T) {
	r, err := readReport("latest.json")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/reference/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(r.page()), string(page)); diff != "" {
		t.Errorf("docs/reference/benchmarks.md is not made of bench/latest.json; run: go run ./bench -page-only\n%s", diff)
	}
}

func TestTheFiguresAreCompleteAndTheVerdictsFollowFromThem(t *testing.T) {
	r, err := readReport("latest.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, work := range []string{workExport, workNext, workRestore, workVerify} {
		for _, tool := range []string{ours, peer, "borg 64K"} {
			c := r.cost(work, tool)
			if c == nil || c.WallS <= 0 || c.CPUS <= 0 || c.RSSMiB <= 0 || c.To == nil {
				t.Errorf("%s of %s is missing or not whole", work, tool)
			}
		}
	}
	was := r.Limits
	r.judge()
	if diff := cmp.Diff(was, r.Limits); diff != "" {
		t.Errorf("the limits are not judged by the figures:\n%s", diff)
	}
	if n := len(r.Limits); n != len(bounds) {
		t.Errorf("%d of %d limits were measured", n, len(bounds))
	}
}

func TestALimitIsMetOnTheRightSideOnly(t *testing.T) {
	r := &report{Figures: map[string]float64{}, runs: map[string][]measure{}, notes: map[string][]float64{}}
	r.add(workExport, peer, measure{WallS: 10, CPUS: 20, StoredMiB: 100})
	r.add(workNext, peer, measure{WallS: 5, CPUS: 10, StoredMiB: 10})
	r.add(workExport, ours, measure{WallS: 4.5, CPUS: 9, StoredMiB: 100})
	r.add(workNextList, ours, measure{WallS: 0.5, CPUS: 2})
	r.addReads(workSequential, ours, readFigures{GBPerS: 0.9})
	r.note("reads_per_dirty", 1.2)
	r.judge()
	got := map[string]bool{}
	for _, l := range r.Limits {
		got[l.Work+" "+l.Figure] = l.Met
	}
	want := map[string]bool{
		"export CPU": false, "export wall": true, "export stored, without parity": true,
		"next day, change list CPU": false, "next day, change list wall": true, "next day, change list read of the disks": true,
		"sequential read rate": false,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMediansAreReportedAndNotTheBest(t *testing.T) {
	r := &report{runs: map[string][]measure{}}
	for _, s := range []float64{9, 1, 5} {
		r.add(workExport, ours, measure{WallS: s})
	}
	if c := r.cost(workExport, ours); c.WallS != 5 || c.Runs != 3 {
		t.Errorf("got %v of %d runs", c.WallS, c.Runs)
	}
}

func TestComparingTwoDaysFindsEveryGrainThatChanged(t *testing.T) {
	dir := t.TempDir()
	before, after := filepath.Join(dir, "before.raw"), filepath.Join(dir, "after.raw")
	sparse := func(path string, blocks ...int64) {
		f, err := os.Create(path)
		if err == nil {
			err = f.Truncate(64 * dirtyGrain)
		}
		for _, at := range blocks {
			if err == nil {
				_, err = f.WriteAt([]byte{byte(at)}, at*dirtyGrain+4096)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	sparse(before, 1, 2, 7)     // 7 becomes a hole
	sparse(after, 1, 2, 40, 63) // 40 and 63 were holes
	changed, err := compareDisks(before, after)
	if err != nil {
		t.Fatal(err)
	}
	var grains []int64
	for _, e := range changed {
		grains = append(grains, e.Offset/dirtyGrain)
	}
	if !slices.Equal(grains, []int64{7, 40, 63}) {
		t.Errorf("grains %v changed", grains)
	}
}

func TestTheFiguresOfAGoBenchmarkAreRead(t *testing.T) {
	out := strings.Join([]string{"goos: linux", "cpu: Some Processor 3 GHz",
		"BenchmarkScale-2 \t       1\t41858159630 ns/op\t         0.3274 absent-us\t 6.375 open-anon-MiB\t1e+03 points", "PASS"}, "\n")
	want := map[string]float64{"absent-us": 0.3274, "open-anon-MiB": 6.375, "points": 1000}
	if diff := cmp.Diff(want, benchFigures(out)); diff != "" {
		t.Error(diff)
	}
}
