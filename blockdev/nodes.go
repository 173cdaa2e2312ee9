package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's ways to be told of a partition, from linux/blkpg.h. A kernel that
// reads partition tables needs BLKRRPART alone; one that was built without, or a
// loop device that was set up without, is told of each partition.
const (
	blkpg          = 0x1269
	blkpgAdd       = 1
	blkpgDelete    = 2
	nodePoll       = 50 * time.Millisecond
	nodesAppear    = 30 * time.Second
	rereadAttempts = 20
)

type blkpgPartition struct {
	start, length int64
	number        int32
	names         [128]byte
	_             [4]byte
}

type blkpgCall struct {
	op, flags, length int32
	_                 int32
	data              unsafe.Pointer
}

func partitionCall(f *os.File, op int32, number int, at, size int64) error {
	p := &blkpgPartition{start: at, length: size, number: int32(number)}
	call := &blkpgCall{op: op, length: int32(unsafe.Sizeof(*p)), data: unsafe.Pointer(p)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkpg, uintptr(unsafe.Pointer(call)))
	runtime.KeepAlive(p)
	if errno != 0 {
		return errno
	}
	return nil
}

// dropNodes lets the kernel forget the partitions that a disk had.
func dropNodes(d Device) error {
	if len(d.Partitions) == 0 {
		return nil
	}
	f, err := openAlone(d.Path)
	if err != nil {
		return fmt.Errorf("let go of the partitions of %s: %w", d.Path, err)
	}
	defer f.Close()
	for _, p := range d.Partitions {
		if err := partitionCall(f, blkpgDelete, p.Number, 0, 0); err != nil && !errors.Is(err, unix.ENXIO) {
			return fmt.Errorf("let go of %s: %w", p.Path, err)
		}
	}
	return nil
}

// makeNodes has the kernel read the new table, and waits until both partitions
// can be opened.
func makeNodes(ctx context.Context, d Device, p Parts) error {
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// udev opens a disk for a moment whenever somebody has written to it.
	for try := 0; ; try++ {
		if err = unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); !errors.Is(err, unix.EBUSY) || try == rereadAttempts {
			break
		}
		time.Sleep(nodePoll)
	}
	if now, err := Of(d.Path); err == nil && len(now.Partitions) == 0 {
		err := errors.Join(partitionCall(f, blkpgAdd, 1, p.StartAt, p.StartBytes), partitionCall(f, blkpgAdd, 2, p.DriveAt, p.DriveBytes))
		if err != nil && !errors.Is(err, unix.EBUSY) { // busy: the kernel was faster
			return fmt.Errorf("tell the kernel of the partitions: %w", err)
		}
	}
	return awaitNodes(ctx, d.Path)
}

func awaitNodes(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, nodesAppear)
	defer cancel()
	for {
		d, err := Of(path)
		if err == nil && len(d.Partitions) == 2 && openable(d.Partitions[0].Path) && openable(d.Partitions[1].Path) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the partitions of %s do not appear", path), err, context.Cause(ctx))
		case <-time.After(nodePoll):
		}
	}
}

func openable(path string) bool {
	f, err := os.Open(path)
	if err == nil {
		f.Close()
	}
	return err == nil
}
