package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// options are what `make bench` may be told.
type options struct {
	program string
	fleet   string
	small   bool
	work    string
	reps    int
	scale   string
	json    string
	page    string
}

func main() {
	if len(os.Args) > 1 {
		if helper, ok := helpers[os.Args[1]]; ok {
			exit(helper(os.Args[2:]))
		}
	}
	var o options
	flag.StringVar(&o.program, "program", "bin/lifeboat", "the lifeboat to measure")
	flag.StringVar(&o.fleet, "fleet", "", "folder of the disks; they are built where there are none")
	flag.BoolVar(&o.small, "small", false, "build small disks, to try the benchmark itself")
	flag.StringVar(&o.work, "work", "", "folder to work in, of some 10 GiB; it is emptied (default: a new one beside the disks)")
	flag.IntVar(&o.reps, "reps", 3, "how often lifeboat and restic are measured, in turn")
	flag.StringVar(&o.scale, "scale", "1,10,100", "sizes of the index to measure, in millions of chunks; empty for none")
	flag.StringVar(&o.json, "json", "bench/latest.json", "where the figures go")
	flag.StringVar(&o.page, "page", "docs/reference/benchmarks.md", "where the page of the manual goes")
	pageOnly := flag.Bool("page-only", false, "measure nothing: judge the figures and write the page anew")
	flag.Parse()
	if *pageOnly {
		exit(rewritePage(o))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench(ctx, o)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// helpers are what this program does in a process of its own, so that its time
// and memory can be told apart.
var helpers = map[string]func(args []string) error{
	"capture-disks": captureDisks,
	"serve-disks":   serveDisks,
}

func rewritePage(o options) error {
	r, err := readReport(o.json)
	if err != nil {
		return err
	}
	return o.keep(r)
}

// keep judges the figures and writes them down.
func (o options) keep(r *report) error {
	r.judge()
	return errors.Join(r.write(o.json), os.WriteFile(o.page, r.page(), 0o644))
}

// bench measures everything, one after the other, and reports.
func bench(ctx context.Context, o options) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("run it as root: both days' disks are mounted in turn at one path, as a machine's disks keep theirs")
	}
	program, err := filepath.Abs(o.program)
	if err != nil {
		return err
	}
	disks, err := findFleet(ctx, o.fleet, o.small)
	if err != nil {
		return err
	}
	w, err := newWorkplace(o.work, disks)
	if err != nil {
		return err
	}
	defer w.close()
	r := newReport(ctx, w, program)
	if err := measureTools(ctx, w, r, program, o.reps); err != nil {
		return err
	}
	// What was measured is kept at once: the largest index takes minutes more.
	if err := o.keep(r); err != nil {
		return err
	}
	err = measureIndex(ctx, w, o.scale, func(f indexFigures) error {
		r.Index = append(r.Index, f)
		return o.keep(r)
	})
	if err == nil {
		err = measurePlan(ctx, w, r)
	}
	err = errors.Join(err, o.keep(r))
	r.print(os.Stdout)
	return err
}

// measureTools runs all works with all tools. Lifeboat and restic take turns, so
// that a machine that gets slower or faster meanwhile is as unjust to one as to
// the other.
func measureTools(ctx context.Context, w *workplace, r *report, program string, reps int) error {
	turns := []tool{restic{}, lifeboatTool{program}}
	for n := range reps {
		for _, t := range turns {
			if err := w.measure(ctx, r, t, fmt.Sprintf("%s %d/%d", t.name(), n+1, reps)); err != nil {
				return err
			}
		}
	}
	once := []tool{borg{"borg 64K", []string{"-C", "zstd,1", "--chunker-params", "fixed,65536"}}, borg{"borg", nil}, qemuImg{}, zstd{}}
	for _, t := range once {
		if err := w.measure(ctx, r, t, t.name()); err != nil {
			return err
		}
	}
	return nil
}
