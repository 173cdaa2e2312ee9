package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// measure is what one work cost a tool.
type measure struct {
	// WallS and CPUS are seconds; the latter are of the tool and of all the
	// processes that it started.
	WallS float64 `json:"wall_s"`
	CPUS  float64 `json:"cpu_s"`
	// RSSMiB is the most memory that was resident, pages of files included;
	// AnonMiB, the most that was the tool's own, looked at every few
	// milliseconds.
	RSSMiB  float64 `json:"rss_mib"`
	AnonMiB float64 `json:"anon_mib"`
	// StoredMiB is what the repository grew by, without parity.
	StoredMiB float64 `json:"stored_mib,omitempty"`
	ParityMiB float64 `json:"parity_mib,omitempty"`
}

// anonEvery is how often the memory of a tool is looked at.
const anonEvery = 5 * time.Millisecond

// runMeasured runs a program to its end below GNU time. A process that is
// started by a Go program would count that program's memory as its own.
func runMeasured(ctx context.Context, dir string, env []string, program string, args ...string) (measure, []byte, error) {
	var m measure
	figures := filepath.Join(dir, "time")
	cmd := exec.CommandContext(ctx, "/usr/bin/time", append([]string{"-f", "%e %U %S %M", "-o", figures, program}, args...)...)
	cmd.Dir, cmd.Env = dir, env
	// A cancel ends the tool as well, and not GNU time alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return m, nil, err
	}
	ended, peak := make(chan struct{}), make(chan float64)
	go func() { peak <- watchAnon(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	close(ended)
	m.AnonMiB = <-peak
	if err != nil {
		return m, []byte(out.String()), err
	}
	text, err := os.ReadFile(figures)
	if err != nil {
		return m, nil, err
	}
	var user, system, kib float64
	if _, err := fmt.Sscan(string(text), &m.WallS, &user, &system, &kib); err != nil {
		return m, nil, fmt.Errorf("what GNU time says: %w", err)
	}
	m.CPUS, m.RSSMiB = user+system, kib/1024
	return m, []byte(out.String()), nil
}

// watchAnon returns the most anonymous memory that the first child of a process
// was seen with, in MiB.
func watchAnon(pid int, ended <-chan struct{}) (peak float64) {
	child := 0
	for {
		select {
		case <-ended:
			return peak
		case <-time.After(anonEvery):
		}
		if child == 0 {
			child = firstChild(pid)
		}
		if child != 0 {
			peak = max(peak, anonMiB(child))
		}
	}
}

func firstChild(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	child, _ := strconv.Atoi(first)
	return child
}

// anonMiB is the anonymous memory of a process, or 0 when it ended.
func anonMiB(pid int) float64 {
	n, _ := statusMiB(pid, "RssAnon:")
	return n
}

// statusMiB reads a line of what the kernel says of a process.
func statusMiB(pid int, key string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("the kernel does not say " + key)
}
