package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// print shows the figures on a terminal.
func (r *report) print(to io.Writer) {
	for _, t := range r.tables() {
		fmt.Fprintf(to, "\n%s\n\n", t.title)
		w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
		for _, row := range append([][]string{t.head}, t.rows...) {
			fmt.Fprintln(w, "  "+strings.Join(row, "\t"))
		}
		w.Flush()
	}
	missed := 0
	for _, l := range r.Limits {
		if !l.Met {
			missed++
		}
	}
	fmt.Fprintf(to, "\n%d of %d limits met\n", len(r.Limits)-missed, len(r.Limits))
}

// table is one of the report's.
type table struct {
	title string
	head  []string
	rows  [][]string
	note  string
}

func (r *report) tables() []table {
	tables := []table{r.limitTable(), r.costTable(), r.readTable()}
	if len(r.Index) > 0 {
		tables = append(tables, r.indexTable())
	}
	return tables
}

func (r *report) limitTable() table {
	t := table{title: "Limits", head: []string{"work", "figure", "measured", "limit", ""}}
	for _, l := range r.Limits {
		sign, met := "≤", "met"
		if l.AtLeast {
			sign = "≥"
		}
		if !l.Met {
			met = "not met"
		}
		t.rows = append(t.rows, []string{l.Work, l.Figure, number(l.Value) + " " + l.Unit, sign + " " + number(l.Bound), met})
	}
	return t
}

func (r *report) costTable() table {
	t := table{title: "Works", head: []string{"work", "tool", "runs", "wall s", "CPU s", "RSS MiB", "stored MiB", "parity MiB", "wall to restic", "CPU to restic", "stored to restic"},
		note: "Wall and CPU are medians in seconds; CPU counts the whole process with all that it started. RSS is the most that was resident.\n" +
			"Stored is what the repository grew by. The ratios of an export with a change list are to the peer's export without one: it takes none."}
	for _, w := range r.Works {
		for _, c := range w.Tools {
			to := ratios{}
			if c.To != nil {
				to = *c.To
			}
			t.rows = append(t.rows, []string{w.Work, c.Tool, strconv.Itoa(c.Runs), number(c.WallS), number(c.CPUS), number(c.RSSMiB),
				number(c.StoredMiB), number(c.ParityMiB), number(to.Wall), number(to.CPU), number(to.Stored)})
		}
	}
	return t
}

func (r *report) readTable() table {
	t := table{title: "Reads of one disk", head: []string{"work", "tool", "mean ms", "p50 ms", "p99 ms", "GB/s", "server's memory MiB"},
		note: "Blocks of 64 KiB at random places that hold data, each compared with the source; through NBD, and restic's through its FUSE mount.\n" +
			"The cache of decoded frames is cold. The repository is in the computer's memory."}
	for _, w := range r.Reads {
		for _, c := range w.Tools {
			t.rows = append(t.rows, []string{w.Work, c.Tool, number(c.MeanMS), number(c.P50MS), number(c.P99MS), number(c.GBPerS), number(c.AnonMiB)})
		}
	}
	return t
}

func (r *report) indexTable() table {
	t := table{title: "The index, by the number of chunks", head: []string{"figure"},
		note: "An index without data, written by the store itself, with as many packs and restore points as such a drive has. Memory is anonymous resident memory of a process of its own.\n" +
			"32 KiB a chunk: a hundred million chunks are some 3 TB of unique data."}
	var names []string
	for _, x := range r.Index {
		t.head = append(t.head, number(float64(x.Chunks)/1e6)+" million")
		for name := range x.Figures {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		row := []string{indexTitle(name)}
		for _, x := range r.Index {
			row = append(row, number(x.Figures[name]))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// number prints a figure; one that was not measured is a blank.
func number(v float64) string {
	switch {
	case v == 0:
		return ""
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}

// page is the report as a page of the manual.
func (r *report) page() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Benchmarks\n")
	line("`make bench` writes this page from `bench/latest.json`. Do not edit it. [bench/DESIGN.md](../../bench/DESIGN.md) says how each tool is")
	line("driven, and why that is fair. Figures hold for one computer; ratios of one run hold nearly everywhere.\n")
	line("Measured %s at %s, on %s (%d processors, %d MiB of memory, %s).\n", r.MeasuredAt, r.Commit, r.Machine.CPU, r.Machine.Processors, r.Machine.MemoryMiB, r.Machine.Kernel)
	line("The disks are of three real Debian machines: %s MiB of data on the first day, %s MiB on the second, of which %s MiB changed, in", number(r.Fleet.Day1MiB), number(r.Fleet.Day2MiB), number(r.Fleet.DirtyMiB))
	line("pieces of 64 KiB. Encryption, index, syncs and parity were on.\n")
	var tools []string
	for name := range r.Versions {
		tools = append(tools, name)
	}
	slices.Sort(tools)
	for _, name := range tools {
		line("- %s: %s", name, r.Versions[name])
	}
	for _, t := range r.tables() {
		line("\n## %s\n", t.title)
		line("| %s |", strings.Join(t.head, " | "))
		line("|%s", strings.Repeat("---|", len(t.head)))
		for _, row := range t.rows {
			line("| %s |", strings.Join(row, " | "))
		}
		if t.note != "" {
			line("\n%s", t.note)
		}
	}
	return b.Bytes()
}
