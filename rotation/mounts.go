package rotation

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one line of the kernel's table of mounted file systems.
type mount struct {
	point      string
	source     string
	filesystem string
}

// network says that a server may keep us waiting.
func (m mount) network() bool {
	return m.filesystem == "nfs" || m.filesystem == "nfs4" || m.filesystem == "cifs" || m.filesystem == "smb3" ||
		strings.HasPrefix(m.filesystem, "fuse.")
}

// mayBeDrive says that drives are found on such file systems. The many that a
// running system keeps for itself are not looked at.
func (m mount) mayBeDrive() bool {
	switch m.filesystem {
	case "ext4", "ext3", "ext2", "xfs", "btrfs", "exfat", "vfat", "ntfs", "ntfs3", "fuseblk", "f2fs", "zfs":
		return true
	}
	return m.network()
}

func readMounts() ([]mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the table of mounted file systems: %w", err)
	}
	return parseMounts(data), nil
}

// parseMounts reads the text of proc_pid_mountinfo(5). A line that it does not
// understand is left out: the kernel may add kinds of its own.
func parseMounts(data []byte) []mount {
	var all []mount
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 6 || len(tail) < 2 {
			continue
		}
		all = append(all, mount{point: unescape(head[4]), filesystem: tail[0], source: unescape(tail[1])})
	}
	return all
}

// unescape turns \040 back into a blank; the kernel writes blank, tab, line end
// and backslash that way.
func unescape(s string) string {
	var out strings.Builder
	for len(s) > 0 {
		if s[0] == '\\' && len(s) >= 4 {
			if code, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				out.WriteByte(byte(code))
				s = s[4:]
				continue
			}
		}
		out.WriteByte(s[0])
		s = s[1:]
	}
	return out.String()
}

// mountOf returns the mount that a path without links lies in. Later lines cover earlier ones
// with the same point.
func mountOf(mounts []mount, path string) (mount, bool) {
	best, found := mount{}, false
	for _, m := range mounts {
		if within(path, m.point) && (!found || len(m.point) >= len(best.point)) {
			best, found = m, true
		}
	}
	return best, found
}

func within(path, point string) bool {
	return path == point || point == "/" || strings.HasPrefix(path, point+"/")
}

// writable says that this process may write in a folder.
func writable(path string) bool {
	return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil
}
