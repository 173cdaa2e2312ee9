package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Retry lets a machine go on that stopped because one of its disks could not be
// read or written for the time being; its guest's requests are tried again, and
// it stops again if they fail. Any other machine is left alone.
func (h *Host) Retry(ctx context.Context, name string) error {
	m, err := h.find(name)
	if err != nil {
		return err
	}
	mon, err := m.monitor(ctx, commandSocket)
	if errors.Is(err, errOff) {
		return nil
	}
	if err != nil {
		return err
	}
	defer mon.close()
	var status struct {
		Status string `json:"status"`
	}
	err = mon.run(ctx, "query-status", nil, &status)
	// A guest that stands for another reason, as in the middle of a change-over,
	// is not ours to let go.
	if err == nil && status.Status == "io-error" {
		err = mon.run(ctx, "cont", nil, nil)
	}
	if err != nil && !isClosed(err) {
		return fmt.Errorf("let %s go on: %w", m.name(), err)
	}
	return nil
}

// guestExecEvery is how often the agent is asked whether a program has ended.
const guestExecEvery = 50 * time.Millisecond

// Run runs a program in a guest through its agent and returns what it printed.
// A program that fails is an error with what it printed to stderr.
func (h *Host) Run(ctx context.Context, name, path string, arguments ...string) (string, error) {
	m, err := h.find(name)
	if err != nil {
		return "", err
	}
	a, err := dialAgent(ctx, filepath.Join(m.sockets(), agentSocket))
	if err != nil {
		return "", fmt.Errorf("run %s in %s: %w", path, m.name(), err)
	}
	defer a.close()
	var started struct {
		PID int64 `json:"pid"`
	}
	// The agent insists on an array, also on an empty one.
	arguments = append([]string{}, arguments...)
	if err := a.run(ctx, agentPatience, "guest-exec", args{"path": path, "arg": arguments, "capture-output": true}, &started); err != nil {
		return "", fmt.Errorf("run %s in %s: %w", path, m.name(), err)
	}
	for {
		var s struct {
			Exited bool   `json:"exited"`
			Code   int    `json:"exitcode"`
			Out    []byte `json:"out-data"`
			Err    []byte `json:"err-data"`
		}
		if err := a.run(ctx, agentPatience, "guest-exec-status", args{"pid": started.PID}, &s); err != nil {
			return "", fmt.Errorf("run %s in %s: %w", path, m.name(), err)
		}
		if s.Exited && s.Code != 0 {
			return string(s.Out), fmt.Errorf("run %s in %s: it ended with %d: %s", path, m.name(), s.Code, bytes.TrimSpace(s.Err))
		}
		if s.Exited {
			return string(s.Out), nil
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(guestExecEvery):
		}
	}
}
