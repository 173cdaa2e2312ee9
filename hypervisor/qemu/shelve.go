package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"lifeboat/hypervisor"
)

// shelfFolder holds the machines that were taken off the host. It stands among
// the machines, on their file system, and is none: it has no definition.
const shelfFolder = ".shelved"

// Shelve moves the folder of a machine that is off to where no machine is looked
// for. Moved back by hand, it is a machine again.
func (h *Host) Shelve(ctx context.Context, name string) (string, error) {
	m, err := h.find(name)
	if err != nil {
		return "", err
	}
	lock, err := m.lock(ctx)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	power, err := m.power(ctx)
	if err != nil {
		return "", err
	}
	if power != hypervisor.PowerOff {
		return "", fmt.Errorf("%w: %s", hypervisor.ErrMachineRunning, m.name())
	}
	if err := removeSockets(m.sockets()); err != nil {
		return "", fmt.Errorf("remove the sockets of %s: %w", m.name(), err)
	}
	shelf := filepath.Join(h.o.Dir, shelfFolder)
	if err := os.MkdirAll(shelf, 0o700); err != nil {
		return "", fmt.Errorf("set %s aside: %w", m.name(), err)
	}
	to := filepath.Join(shelf, m.folder+"."+time.Now().UTC().Format("20060102T150405.000"))
	if err := os.Rename(m.dir, to); err != nil {
		return "", fmt.Errorf("set %s aside: %w", m.name(), err)
	}
	if err := syncFolder(shelf); err != nil {
		return to, err
	}
	return to, syncFolder(h.o.Dir)
}
