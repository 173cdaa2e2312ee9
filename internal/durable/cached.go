package durable

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// networks are the file systems of another computer, by the numbers of
// statfs(2), as linux/magic.h has them.
var networks = map[int64]bool{
	unix.NFS_SUPER_MAGIC: true, unix.SMB_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true, unix.CIFS_SUPER_MAGIC: true,
	unix.V9FS_MAGIC: true, unix.CEPH_SUPER_MAGIC: true, unix.AFS_SUPER_MAGIC: true, unix.CODA_SUPER_MAGIC: true,
}

// Cached says why a read may be answered from a memory that DropCache does not
// reach, or "" when what is read after it comes from the medium. On a file
// system that lives in memory, memory is the medium.
func (d *OSDir) Cached() string {
	stat, err := d.statfs()
	if err != nil {
		return "the file system does not say what it is: " + err.Error()
	}
	switch {
	case networks[int64(stat.Type)]:
		return "it is on another computer, which may answer from its own memory"
	case stat.Type != unix.FUSE_SUPER_MAGIC:
		return ""
	}
	device, err := d.openDevice()
	if err != nil {
		return "its file system runs in a program that may answer from memory: " + err.Error()
	}
	device.Close()
	return ""
}

// openDevice opens the block device that a file system in user space has for
// itself. The program reads the drive through the device's own memory, which
// emptying that of a file does not touch.
func (d *OSDir) openDevice() (*os.File, error) {
	top, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer top.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(top.Fd()), &stat); err != nil {
		return nil, err
	}
	name, err := deviceName(unix.Major(stat.Dev), unix.Minor(stat.Dev))
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var opened unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &opened); err != nil || opened.Mode&unix.S_IFMT != unix.S_IFBLK || opened.Rdev != stat.Dev {
		f.Close()
		return nil, fmt.Errorf("%s is another device", name)
	}
	return f, nil
}

// deviceName finds the name of a block device by its numbers.
func deviceName(major, minor uint32) (string, error) {
	if major == 0 {
		return "", errors.New("it has no device of its own")
	}
	f, err := os.Open(fmt.Sprintf("/sys/dev/block/%d:%d/uevent", major, minor))
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "DEVNAME="); ok {
			return "/dev/" + name, nil
		}
	}
	return "", errors.Join(lines.Err(), fmt.Errorf("device %d:%d has no name", major, minor))
}

// dropDevice empties what the kernel keeps of the device below a file system in
// user space. Where it may not, Cached says so.
func (d *OSDir) dropDevice() error {
	stat, err := d.statfs()
	if err != nil {
		return err
	}
	if stat.Type != unix.FUSE_SUPER_MAGIC {
		return nil
	}
	device, err := d.openDevice()
	if err != nil {
		return nil
	}
	defer device.Close()
	return explain(unix.Fadvise(int(device.Fd()), 0, 0, unix.FADV_DONTNEED))
}
