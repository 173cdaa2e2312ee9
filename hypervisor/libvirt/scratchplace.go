package libvirt

import (
	"os"
	"strings"
	"syscall"
)

// apart are the keys of disks that lie on another file system than the scratch
// files, on this computer. Block devices always do. With folder "" nothing is
// known.
func apart(folder string, disks []diskSource) (keys []string) {
	device, ok := deviceOf(folder)
	if !ok {
		return nil
	}
	for _, d := range disks {
		if d.path == "" || d.refused != "" {
			continue
		}
		if of, ok := deviceOf(d.path); !ok || of != device {
			keys = append(keys, d.key)
		}
	}
	return keys
}

// deviceOf is the file system that a file or folder is on; ok is false where that
// cannot be seen.
func deviceOf(path string) (device uint64, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	if info.Mode()&os.ModeDevice != 0 {
		return stat.Rdev, true
	}
	return stat.Dev, true
}

// scratchApart is what that means.
func scratchApart(keys []string) string {
	return "its scratch files are on another file system than disk " + strings.Join(keys, ", ") +
		": if that fails (not if it is full) while it is exported, the guest sees a write fail"
}
