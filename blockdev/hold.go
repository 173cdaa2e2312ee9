package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Hold keeps a disk for one program that changes its layout, until free is called:
// [Peek] waits for it, and udev does not look. It is the lock of
// https://systemd.io/BLOCK_DEVICE_LOCKING, on the device file of the whole disk.
func Hold(ctx context.Context, d Device) (free func(), err error) {
	return hold(ctx, d.Path, unix.LOCK_EX)
}

// hold locks the disk that a device file names, or is a part of.
func hold(ctx context.Context, path string, how int) (free func(), err error) {
	d, err := Of(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(d.Path)
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", d.Path, err)
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("hold %s: %w", d.Path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another program is at work on %s: %w", d.Path, context.Cause(ctx))
		case <-time.After(nodePoll):
		}
	}
}
