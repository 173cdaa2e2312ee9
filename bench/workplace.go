package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// diskNames are the machines of the fleet, a disk each.
var diskNames = []string{"web", "db", "file"}

// workplace is where tools are measured: a folder that is emptied between them,
// and one path at which the disks of either day appear.
type workplace struct {
	disks   string // holds day1 and day2
	dir     string
	src     string // where a day's disks appear
	repo    string // what a tool keeps
	mounted bool
	began   time.Time
	// dirty are the places where day 2 differs from day 1, by disk; offsets are
	// where blocks of web are read at random.
	dirty   map[string][]extent
	offsets []int64
}

func newWorkplace(dir, disks string) (*workplace, error) {
	if dir == "" {
		dir = filepath.Join(disks, "work")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	w := &workplace{disks: disks, dir: dir, src: filepath.Join(dir, "src"), repo: filepath.Join(dir, "repo"), began: time.Now()}
	unix.Unmount(w.src, 0) // left by a run that was killed
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(w.src, 0o755)); err != nil {
		return nil, err
	}
	if w.dirty, err = w.compareDays(); err != nil {
		return nil, err
	}
	w.offsets, err = pickBlocks(w.day(1, "web"), randomReads)
	return w, err
}

func (w *workplace) close() {
	w.unmount()
	os.RemoveAll(w.dir)
}

// day is the file of a disk as it was on a day.
func (w *workplace) day(n int, disk string) string {
	return filepath.Join(w.disks, fmt.Sprintf("day%d", n), disk+".raw")
}

// sources are the paths of the disks as the tools see them, the same each day.
func (w *workplace) sources() (paths []string) {
	for _, name := range diskNames {
		paths = append(paths, filepath.Join(w.src, name+".raw"))
	}
	return paths
}

// use lets the disks of a day appear.
func (w *workplace) use(day int) error {
	w.unmount()
	if err := unix.Mount(filepath.Join(w.disks, fmt.Sprintf("day%d", day)), w.src, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount the disks of day %d: %w", day, err)
	}
	w.mounted = true
	return nil
}

func (w *workplace) unmount() {
	if w.mounted && unix.Unmount(w.src, 0) == nil {
		w.mounted = false
	}
}

// say prints what is going on.
func (w *workplace) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%4.0fs] %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// tool is one that is measured.
type tool interface {
	name() string
	// works does and reports all that the tool is good for. The workplace is
	// empty, and the disks of day 1 are in place.
	works(ctx context.Context, s *session) error
}

// session is one round of one tool.
type session struct {
	*workplace
	report *report
	tool   string
	label  string
	env    []string
}

// measure runs all works of a tool in an empty workplace, with the disks in the
// computer's memory: what is measured is the tool and not this computer's disk.
func (w *workplace) measure(ctx context.Context, r *report, t tool, label string) error {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	w.unmount()
	for _, e := range entries {
		if e.Name() == filepath.Base(w.src) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(w.dir, e.Name())); err != nil {
			return err
		}
	}
	unix.Sync()
	if err := w.warm(); err != nil {
		return err
	}
	if err := w.use(1); err != nil {
		return err
	}
	s := &session{workplace: w, report: r, tool: t.name(), label: label, env: append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(w.dir, "cache"))}
	if err := t.works(ctx, s); err != nil {
		return fmt.Errorf("%s: %w", t.name(), err)
	}
	return nil
}

// do measures one work.
func (s *session) do(ctx context.Context, work, program string, args ...string) (measure, error) {
	m, out, err := runMeasured(ctx, s.dir, s.env, program, args...)
	if err != nil {
		return m, fmt.Errorf("%s: %w\n%s", work, err, out)
	}
	s.say("%s: %s: %.1f s, %.1f CPU s, %.0f MiB", s.label, work, m.WallS, m.CPUS, m.RSSMiB)
	return m, nil
}

// record measures one work and keeps the figures.
func (s *session) record(ctx context.Context, work, program string, args ...string) error {
	m, err := s.do(ctx, work, program, args...)
	if err == nil {
		s.report.add(work, s.tool, m)
	}
	return err
}

// stores measures an export, and how much the repository has grown by it.
func (s *session) stores(ctx context.Context, work, repo, program string, args ...string) error {
	before, err := stored(repo)
	if err != nil {
		return err
	}
	m, err := s.do(ctx, work, program, args...)
	if err != nil {
		return err
	}
	after, err := stored(repo)
	m.StoredMiB, m.ParityMiB = mib(after.data-before.data), mib(after.parity-before.parity)
	s.report.add(work, s.tool, m)
	return err
}

// quiet runs what is not measured.
func (s *session) quiet(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = s.env, s.dir
	var problem strings.Builder
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, problem.String())
	}
	return out, nil
}

// size is what a repository takes up, in bytes.
type size struct{ data, parity int64 }

// stored sums up the files of a repository; one that is not there yet has none.
func stored(repo string) (size, error) {
	var n size
	err := filepath.WalkDir(repo, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if filepath.Ext(path) == ".par" {
			n.parity += info.Size()
		} else {
			n.data += info.Size()
		}
		return nil
	})
	return n, err
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// same compares a restored disk with the one that it is of, and removes it.
func (s *session) same(path string, day int, disk string) error {
	defer os.Remove(path)
	if out, err := exec.Command("cmp", path, s.day(day, disk)).CombinedOutput(); err != nil {
		return fmt.Errorf("what was restored is not what was stored: %w\n%s", err, out)
	}
	return nil
}

// warm reads all disks once, without their holes.
func (w *workplace) warm() error {
	for day := 1; day <= 2; day++ {
		for _, name := range diskNames {
			err := eachData(w.day(day, name), func(r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
