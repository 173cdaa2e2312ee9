package qemu

import (
	"context"
	"errors"
	"fmt"
)

// Retry lets a machine go on that stopped because one of its disks could not be
// read or written for the time being; its guest's requests are tried again, and
// it stops again if they fail. Any other machine is left alone.
func (h *Host) Retry(ctx context.Context, name string) error {
	// A guest that stands for another reason, as in the middle of a change-over,
	// is not ours to let go.
	_, err := h.turn(ctx, name, "io-error", "cont")
	return err
}

// Pause makes a machine stand that runs.
func (h *Host) Pause(ctx context.Context, name string) (stood bool, err error) {
	return h.turn(ctx, name, "running", "stop")
}

// Continue lets a machine go on that Pause made stand.
func (h *Host) Continue(ctx context.Context, name string) error {
	_, err := h.turn(ctx, name, "paused", "cont")
	return err
}

// turn gives a machine an order if it is in that status, and says whether it did.
func (h *Host) turn(ctx context.Context, name, in, order string) (did bool, err error) {
	m, err := h.find(name)
	if err != nil {
		return false, err
	}
	mon, err := m.monitor(ctx, commandSocket)
	if errors.Is(err, errOff) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer mon.close()
	var status struct {
		Status string `json:"status"`
	}
	err = mon.run(ctx, "query-status", nil, &status)
	if err == nil && status.Status == in {
		err = mon.run(ctx, order, nil, nil)
		did = err == nil
	}
	if err != nil && !isClosed(err) {
		return false, fmt.Errorf("tell %s to %s: %w", m.name(), order, err)
	}
	return did, nil
}
