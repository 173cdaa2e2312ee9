package rotation

import (
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/blockdev"
)

// mount is one line of the kernel's table of mounted file systems.
type mount struct{ blockdev.Mount }

// network says that a server may keep us waiting.
func (m mount) network() bool {
	return m.Filesystem == "nfs" || m.Filesystem == "nfs4" || m.Filesystem == "cifs" || m.Filesystem == "smb3" ||
		strings.HasPrefix(m.Filesystem, "fuse.")
}

// mayBeDrive says that drives are found on such file systems. The many that a
// running system keeps for itself are not looked at.
func (m mount) mayBeDrive() bool {
	switch m.Filesystem {
	case "ext4", "ext3", "ext2", "xfs", "btrfs", "exfat", "vfat", "ntfs", "ntfs3", "fuseblk", "f2fs", "zfs":
		return true
	}
	return m.network()
}

func readMounts() ([]mount, error) {
	mounts, err := blockdev.Mounts()
	return asMounts(mounts), err
}

func asMounts(mounts []blockdev.Mount) []mount {
	all := make([]mount, 0, len(mounts))
	for _, m := range mounts {
		all = append(all, mount{m})
	}
	return all
}

// mountOf returns the mount that a path without links lies in. Later lines cover earlier ones
// with the same point.
func mountOf(mounts []mount, path string) (mount, bool) {
	best, found := mount{}, false
	for _, m := range mounts {
		if m.Holds(path) && (!found || len(m.Point) >= len(best.Point)) {
			best, found = m, true
		}
	}
	return best, found
}

// writable says that this process may write in a folder.
func writable(path string) bool {
	return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil
}
