package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// indexFigures are what an index of a size costs.
type indexFigures struct {
	Chunks  int64              `json:"chunks"`
	Figures map[string]float64 `json:"figures"`
}

// indexTitles say what the benchmark's figures are.
var indexTitles = map[string]string{
	"build-s":                   "writing it, s",
	"index-MiB":                 "index on the drive, MiB",
	"packs":                     "packs",
	"points":                    "restore points",
	"open-s":                    "opening for reading, s",
	"open-anon-MiB":             "memory after that, MiB",
	"write-s":                   "opening for writing, s",
	"write-anon-MiB":            "memory after that, MiB",
	"export-s":                  "export of a disk of 64 MiB of new data, s",
	"tiny-s":                    "export that changes a region, s",
	"export-anon-MiB":           "most memory while exporting, MiB",
	"read-anon-MiB":             "most memory while reading and verifying, MiB",
	"absent-us":                 "an absent id, µs",
	"absent-reads-per-thousand": "reads for 1,000 absent ids",
	"cold-us":                   "an id that is there, page not read before, µs",
	"warm-us":                   "an id that is there, page in memory, µs",
	"points-s":                  "listing all restore points, s",
	"merge-s":                   "merging all into one run, s",
	"merge-anon-MiB":            "most memory while merging, MiB",
}

func indexTitle(name string) string {
	if title, ok := indexTitles[name]; ok {
		return title
	}
	return name
}

// measureIndex lets the store's own benchmark build indexes without data, of so
// many million chunks each.
func measureIndex(ctx context.Context, w *workplace, millions string, keep func(indexFigures) error) error {
	dir := filepath.Join(w.dir, "index")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, text := range strings.FieldsFunc(millions, func(r rune) bool { return r == ',' || r == ' ' }) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("-scale takes numbers of millions, not %q", text)
		}
		w.say("an index of %d million chunks", n)
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkScale$", "-benchtime", "1x", "-timeout", "60m", "./imagestore")
		cmd.Env = append(os.Environ(), "LIFEBOAT_BENCH_MILLIONS="+text, "TMPDIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("measure an index of %d million chunks: %w\n%s", n, err, out)
		}
		if err := keep(indexFigures{Chunks: n * 1e6, Figures: benchFigures(string(out))}); err != nil {
			return err
		}
	}
	return nil
}

var benchFigure = regexp.MustCompile(`\s([0-9.e+-]+) ([A-Za-z][A-Za-z-]*)`)

// benchFigures reads the figures of the line that a Go benchmark prints.
func benchFigures(out string) map[string]float64 {
	figures := map[string]float64{}
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "Benchmark") {
			continue
		}
		for _, found := range benchFigure.FindAllStringSubmatch(line, -1) {
			if v, err := strconv.ParseFloat(found[1], 64); err == nil && found[2] != "ns" {
				figures[found[2]] = round(v)
			}
		}
	}
	return figures
}
