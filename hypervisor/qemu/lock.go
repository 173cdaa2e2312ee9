package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/hypervisor"
)

// lockPatience is how long a held lock is waited for: a dead export's guard
// cleans up in this time, a living export takes longer.
const lockPatience = 3 * time.Second

// lock is held by whoever starts a machine, holds it still, moves or removes it.
// The kernel drops it when the last process that has the file open is gone: the
// guard of an export shares it, so that nobody comes between a dead export and
// its cleaning up.
func (m *machine) lock(ctx context.Context) (*os.File, error) {
	f, err := os.OpenFile(m.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", m.name(), err)
	}
	for deadline := time.Now().Add(lockPatience); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", m.name(), err)
		}
		if time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("%w: %s", hypervisor.ErrMachineBusy, m.name())
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			f.Close()
			return nil, err
		}
	}
}
