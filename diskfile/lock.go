package diskfile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"lifeboat"
)

// QEMU marks what it does with an image by locks on single bytes of it: one
// byte for each thing that it does, and one for each that it does not want
// others to do. We do the same, so that it sees us as we see it.
const (
	doesBase  = 100
	mindsBase = 200

	bitRead   = 0
	bitWrite  = 1
	bitResize = 3
)

// claim marks a file as read, or as written, by us, and refuses when someone
// else is writing it, or minds. It lasts as long as the file is open. On a file
// system without locks it knows nothing and lets everything pass.
func claim(f *os.File, write bool) error {
	mine := []int64{doesBase + bitRead, mindsBase + bitWrite, mindsBase + bitResize}
	theirs := []int64{doesBase + bitWrite, doesBase + bitResize, mindsBase + bitRead}
	if write {
		mine = append(mine, doesBase+bitWrite, doesBase+bitResize)
		theirs = append(theirs, mindsBase+bitWrite, mindsBase+bitResize)
	}
	// First mark, then look: of two who come at once, at least one sees the
	// other.
	for _, at := range mine {
		if err := lockByte(f, unix.F_OFD_SETLK, unix.F_RDLCK, at); err != nil {
			return err
		}
	}
	for _, at := range theirs {
		if err := lockByte(f, unix.F_OFD_GETLK, unix.F_WRLCK, at); err != nil {
			return err
		}
	}
	return nil
}

// lockByte sets a lock on a byte, or asks whether it could be set.
func lockByte(f *os.File, command int, kind int16, at int64) error {
	lock := unix.Flock_t{Type: kind, Whence: unix.SEEK_SET, Start: at, Len: 1}
	err := unix.FcntlFlock(f.Fd(), command, &lock)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return inUse(f.Name(), "a running machine or a tool holds it")
	case errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		return nil
	case err != nil:
		return fmt.Errorf("look who uses %s: %w", f.Name(), err)
	case command == unix.F_OFD_GETLK && lock.Type != unix.F_UNLCK:
		return inUse(f.Name(), "a running machine or a tool holds it")
	default:
		return nil
	}
}

// CheckFree refuses, with a lifeboat.Problem that wraps [ErrInUse], to take a
// file or block device for something to write over while a running machine, a
// tool or this system uses it. It changes nothing and keeps no claim.
func CheckFree(path string) error {
	f, _, err := openDisk(path, os.O_RDONLY)
	if err == nil {
		err = errors.Join(claim(f, true), f.Close())
	}
	if errors.Is(err, ErrInUse) {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s is in use: a running machine, a tool or this system has it open", path),
			Safe: "nothing was changed",
			Next: "shut that machine down or unmount the device first, or name another place",
			Err:  err,
		}
	}
	return err
}

func inUse(path, who string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: the disk is in use: %s", path, who),
		Safe: "nothing was read or changed",
		Next: "export the machine through its host, or shut it down first; unmount a device that this system uses",
		Err:  ErrInUse,
	}
}
