package qemu

import (
	"context"
	"fmt"
	"os"
	"time"
)

// hasFreshOverlay says that nothing has been written to the machine's overlays
// that would be lost if they were made again.
func (m *machine) hasFreshOverlay() bool {
	if m.def.Recovery == "" {
		return false
	}
	fresh := false
	for _, file := range m.def.Disks {
		if !file.Made {
			return false
		}
		info, err := os.Stat(m.path(file.File))
		// An image without data is its own tables and no more.
		if err != nil || info.Size() > 1<<20 {
			return false
		}
		fresh = fresh || file.Base != nil
	}
	return fresh
}

// firstSign is how long a guest may take until it does anything at all.
const firstSign = 20 * time.Second

// stuck watches a machine that was just started and says that no block was read
// and nothing was printed in the given time.
func (m *machine) stuck(ctx context.Context, limit time.Duration) bool {
	printed := m.serialSize()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if m.serialSize() != printed || m.hasRead(ctx) {
			return false
		}
		if pause(ctx, 200*time.Millisecond) != nil {
			return false
		}
	}
	return true
}

func (m *machine) serialSize() int64 {
	info, err := os.Stat(m.path(serialLogFile))
	if err != nil {
		return 0
	}
	return info.Size()
}

// hasRead says that the guest has read from a disk, or cannot be asked.
func (m *machine) hasRead(ctx context.Context) bool {
	mon, err := m.monitor(ctx, commandSocket)
	if err != nil {
		return true
	}
	defer mon.close()
	var list []struct {
		Stats struct {
			Read int64 `json:"rd_operations"`
		} `json:"stats"`
		Qdev string `json:"qdev"`
	}
	if err := mon.run(ctx, "query-blockstats", nil, &list); err != nil {
		return true
	}
	for _, b := range list {
		if b.Qdev != "" && b.Stats.Read > 0 {
			return true
		}
	}
	return false
}

// restartWithTCG starts a machine again without KVM, with overlays that hold
// nothing of the first try.
func (m *machine) restartWithTCG(ctx context.Context, note string) error {
	if err := m.takePower(ctx); err != nil {
		return err
	}
	for key, file := range m.def.Disks {
		disk, _ := m.def.Machine.Disk(key)
		if err := m.host.makeImage(ctx, m.path(file.File), disk.SizeBytes); err != nil {
			return fmt.Errorf("make the overlay of %s again: %w", m.name(), err)
		}
	}
	return m.launch(ctx, AcceleratorTCG, note)
}
