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
