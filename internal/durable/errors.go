package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"lifeboat"
)

var (
	fullErrors = []error{unix.ENOSPC, unix.EDQUOT}
	// EROFS is here because a folder that began read-only never gets as far as
	// the kernel: a file system that turned read-only under us has failed.
	goneErrors = []error{unix.EIO, unix.ENODEV, unix.ENXIO, unix.ESTALE, unix.ENOTCONN, unix.EROFS,
		unix.ESHUTDOWN, unix.ETIMEDOUT}
	damageErrors = []error{unix.EUCLEAN, unix.EBADMSG}
	cannotSync   = []error{unix.EINVAL, unix.ENOTSUP, unix.ENOSYS}
)

// explain adds the meaning that callers branch on to an error of the system.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case isAny(err, fullErrors):
		return fmt.Errorf("%w: %w", lifeboat.ErrDriveFull, err)
	case isAny(err, goneErrors):
		return fmt.Errorf("%w: %w", lifeboat.ErrDriveGone, err)
	case isAny(err, damageErrors):
		return fmt.Errorf("%w: %w", lifeboat.ErrDamaged, err)
	}
	return err
}

// explainRead tells a bad sector from a drive that went away. Both are EIO, but
// the first costs a few blocks and the second only patience.
func (d *OSDir) explainRead(err error) error {
	if errors.Is(err, unix.EIO) && d.answers() {
		return fmt.Errorf("%w: %w", lifeboat.ErrDamaged, err)
	}
	return explain(err)
}

// answers says whether the medium is still attached. The device of a drive that
// was pulled vanishes from sysfs at once, while the file system goes on
// answering from memory; a file system that was shut down refuses to sync.
// Without a device of its own (network, user space) there is no telling, and an
// I/O error counts as a drive that is gone.
func (d *OSDir) answers() bool {
	top, err := d.root.Open(".")
	if err != nil {
		return false
	}
	defer top.Close()
	if errors.Is(top.Sync(), unix.EIO) {
		return false
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(top.Fd()), &stat); err != nil {
		return false
	}
	major, minor := unix.Major(stat.Dev), unix.Minor(stat.Dev)
	if major == 0 {
		var fsStat unix.Statfs_t
		// Btrfs has no device number of its own and answers EIO for a block
		// whose checksum is wrong.
		return unix.Fstatfs(int(top.Fd()), &fsStat) == nil && fsStat.Type == unix.BTRFS_SUPER_MAGIC
	}
	_, err = os.Stat(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	return err == nil
}

func isAny(err error, targets []error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
