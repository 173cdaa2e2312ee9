package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what one run found; bench/latest.json holds it.
type report struct {
	MeasuredAt string `json:"measured_at"`
	Commit     string `json:"commit"`
	// Machine says what it was measured on, Versions which tools.
	Machine  machineFacts      `json:"machine"`
	Versions map[string]string `json:"versions"`
	Fleet    fleetFacts        `json:"fleet"`
	Works    []*work           `json:"works"`
	Reads    []*reads          `json:"reads"`
	// Figures are single ones that a limit speaks of.
	Figures map[string]float64 `json:"figures"`
	Index   []indexFigures     `json:"index"`
	Limits  []limit            `json:"limits"`

	runs  map[string][]measure
	notes map[string][]float64
}

type machineFacts struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	MemoryMiB  int    `json:"memory_mib"`
	Kernel     string `json:"kernel"`
}

// fleetFacts describe the disks.
type fleetFacts struct {
	Day1MiB  float64 `json:"day1_mib"`
	Day2MiB  float64 `json:"day2_mib"`
	DirtyMiB float64 `json:"dirty_mib"`
}

// work is one kind of work and what it cost each tool.
type work struct {
	Work  string  `json:"work"`
	Tools []*cost `json:"tools"`
}

// cost holds the medians of a tool's runs.
type cost struct {
	Tool string `json:"tool"`
	Runs int    `json:"runs"`
	measure
	// To says how many times the peer's figures these are.
	To *ratios `json:"to_restic,omitempty"`
}

type ratios struct {
	Wall   float64 `json:"wall"`
	CPU    float64 `json:"cpu"`
	Stored float64 `json:"stored,omitempty"`
}

// reads is what reading one disk at random or in order gave each tool.
type reads struct {
	Work  string      `json:"work"`
	Tools []*readCost `json:"tools"`
}

type readCost struct {
	Tool string `json:"tool"`
	readFigures
	all []readFigures
}

// readFigures are the latencies of single reads, or a rate.
type readFigures struct {
	latencies
	GBPerS float64 `json:"gb_per_s,omitempty"`
	// AnonMiB is the server's anonymous memory at the end.
	AnonMiB float64 `json:"anon_mib,omitempty"`
}

// limit is one figure that was to be reached.
type limit struct {
	Work   string  `json:"work"`
	Figure string  `json:"figure"`
	Value  float64 `json:"value"`
	// Bound is the most that the value may be, or with AtLeast the least.
	Bound   float64 `json:"bound"`
	AtLeast bool    `json:"at_least,omitempty"`
	Unit    string  `json:"unit"`
	Met     bool    `json:"met"`
}

func newReport(ctx context.Context, w *workplace, program string) *report {
	r := &report{MeasuredAt: time.Now().UTC().Format(time.RFC3339), Commit: firstLine(ctx, "git", "describe", "--always", "--dirty"),
		Machine: describeMachine(ctx), Figures: map[string]float64{}, runs: map[string][]measure{}, notes: map[string][]float64{}}
	r.Versions = map[string]string{
		ours:       strings.TrimPrefix(firstLine(ctx, program, "version"), "lifeboat "),
		peer:       firstLine(ctx, "restic", "version"),
		"borg":     firstLine(ctx, "borg", "--version"),
		"qemu-img": firstLine(ctx, "qemu-img", "--version"),
		"zstd":     firstLine(ctx, "zstd", "--version"),
	}
	r.Fleet.DirtyMiB = mib(w.dirtyBytes())
	for _, name := range diskNames {
		r.Fleet.Day1MiB += dataMiB(w.day(1, name))
		r.Fleet.Day2MiB += dataMiB(w.day(2, name))
	}
	return r
}

// dataMiB is how much of an image is no hole.
func dataMiB(path string) float64 {
	data, _ := dataOf(path)
	return mib(total(data))
}

// firstLine is the first line that a program prints, or "unknown".
func firstLine(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	line, _, _ := strings.Cut(string(out), "\n")
	if err != nil || line == "" {
		return "unknown"
	}
	return strings.TrimSpace(line)
}

func describeMachine(ctx context.Context) machineFacts {
	m := machineFacts{CPU: "unknown", Processors: runtime.NumCPU(), Kernel: firstLine(ctx, "uname", "-sr")}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	memory, _ := os.ReadFile("/proc/meminfo")
	var kib int
	fmt.Sscanf(string(memory), "MemTotal: %d kB", &kib)
	m.MemoryMiB = kib / 1024
	return m
}

// add keeps one measurement. The works stand in the order in which they came.
func (r *report) add(name, tool string, m measure) {
	i := slices.IndexFunc(r.Works, func(w *work) bool { return w.Work == name })
	if i < 0 {
		r.Works = append(r.Works, &work{Work: name})
		i = len(r.Works) - 1
	}
	w := r.Works[i]
	k := slices.IndexFunc(w.Tools, func(c *cost) bool { return c.Tool == tool })
	if k < 0 {
		w.Tools = append(w.Tools, &cost{Tool: tool})
		k = len(w.Tools) - 1
	}
	key := name + "\x00" + tool
	r.runs[key] = append(r.runs[key], m)
	w.Tools[k].Runs = len(r.runs[key])
	w.Tools[k].measure = medianOf(r.runs[key])
}

func (r *report) addReads(name, tool string, f readFigures) {
	i := slices.IndexFunc(r.Reads, func(w *reads) bool { return w.Work == name })
	if i < 0 {
		r.Reads = append(r.Reads, &reads{Work: name})
		i = len(r.Reads) - 1
	}
	w := r.Reads[i]
	k := slices.IndexFunc(w.Tools, func(c *readCost) bool { return c.Tool == tool })
	if k < 0 {
		w.Tools = append(w.Tools, &readCost{Tool: tool})
		k = len(w.Tools) - 1
	}
	c := w.Tools[k]
	c.all = append(c.all, f)
	of := func(pick func(readFigures) float64) float64 { return median(c.all, pick) }
	c.readFigures = readFigures{
		latencies: latencies{of(func(f readFigures) float64 { return f.MeanMS }), of(func(f readFigures) float64 { return f.P50MS }), of(func(f readFigures) float64 { return f.P99MS })},
		GBPerS:    of(func(f readFigures) float64 { return f.GBPerS }),
		AnonMiB:   of(func(f readFigures) float64 { return f.AnonMiB }),
	}
}

// note keeps a single figure; the median of all is reported.
func (r *report) note(name string, value float64) {
	r.notes[name] = append(r.notes[name], value)
	r.Figures[name] = round(median(r.notes[name], func(v float64) float64 { return v }))
}

// median is the middle one of the values that pick takes, rounded.
func median[T any](list []T, pick func(T) float64) float64 {
	var values []float64
	for _, v := range list {
		values = append(values, pick(v))
	}
	slices.Sort(values)
	n := len(values)
	if n%2 == 0 {
		return round((values[n/2-1] + values[n/2]) / 2)
	}
	return round(values[n/2])
}

// round keeps what a figure of a benchmark can mean.
func round(v float64) float64 {
	var rounded float64
	fmt.Sscan(fmt.Sprintf("%.4g", v), &rounded)
	return rounded
}

func medianOf(runs []measure) measure {
	of := func(pick func(measure) float64) float64 { return median(runs, pick) }
	return measure{
		WallS: of(func(m measure) float64 { return m.WallS }), CPUS: of(func(m measure) float64 { return m.CPUS }),
		RSSMiB: of(func(m measure) float64 { return m.RSSMiB }), AnonMiB: of(func(m measure) float64 { return m.AnonMiB }),
		StoredMiB: of(func(m measure) float64 { return m.StoredMiB }), ParityMiB: of(func(m measure) float64 { return m.ParityMiB }),
	}
}

// cost finds what a work cost a tool, or nil.
func (r *report) cost(name, tool string) *cost {
	for _, w := range r.Works {
		for _, c := range w.Tools {
			if w.Work == name && c.Tool == tool {
				return c
			}
		}
	}
	return nil
}

func (r *report) readCost(name, tool string) *readCost {
	for _, w := range r.Reads {
		for _, c := range w.Tools {
			if w.Work == name && c.Tool == tool {
				return c
			}
		}
	}
	return nil
}

func (r *report) write(path string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "\t")
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func readReport(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &report{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}
