package qemu

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running program, told from a later one with the same number by
// the time it started.
type process struct {
	pid     int
	started string
}

func processOf(pid int) (process, error) {
	started, _, err := readStat(pid)
	if err != nil {
		return process{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return process{pid: pid, started: started}, nil
}

// alive says that it still runs. One that ended and was not yet collected by its
// parent does not.
func (p process) alive() bool {
	started, state, err := readStat(p.pid)
	return err == nil && started == p.started && state != "Z" && state != "X"
}

// wait returns when the process has ended.
func (p process) wait(ctx context.Context) error {
	for p.alive() {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// kill takes its life, if it is still the same process.
func (p process) kill() error {
	if !p.alive() {
		return nil
	}
	return unix.Kill(p.pid, unix.SIGKILL)
}

// readStat returns when a process started, in ticks since the computer did, and
// its state.
func readStat(pid int) (started, state string, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	// The name in parentheses may hold blanks and parentheses itself.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return "", "", fmt.Errorf("process %d has a short stat line", pid)
	}
	return fields[19], fields[0], nil
}

// bootID changes whenever the computer starts.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// pause waits, or returns the reason why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
