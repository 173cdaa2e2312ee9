package blockdev

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one line of the kernel's table of mounted file systems.
type Mount struct {
	// Number is "major:minor" of the device; file systems without one, and btrfs,
	// have a number of their own.
	Number     string
	Point      string
	Source     string
	Filesystem string
	ReadOnly   bool
}

// Mounts returns the table, in the order in which the kernel has it: a later line
// covers an earlier one with the same point.
func Mounts() ([]Mount, error) { return here.mounts() }

func (k kernel) mounts() ([]Mount, error) {
	data, err := os.ReadFile(filepath.Join(k.proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read the table of mounted file systems: %w", err)
	}
	return ParseMounts(data), nil
}

// MountOf returns the mount that a path lies in.
func MountOf(path string) (Mount, error) {
	mounts, err := Mounts()
	if err != nil {
		return Mount{}, err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	best, found := Mount{}, false
	for _, m := range mounts {
		if m.Holds(path) && (!found || len(m.Point) >= len(best.Point)) {
			best, found = m, true
		}
	}
	if !found {
		return Mount{}, fmt.Errorf("%s lies in no mounted file system", path)
	}
	return best, nil
}

// Holds says that a path without links lies at or below the mount's point.
func (m Mount) Holds(path string) bool {
	return path == m.Point || m.Point == "/" || strings.HasPrefix(path, m.Point+"/")
}

// ParseMounts reads the text of proc_pid_mountinfo(5). A line that it does not
// understand is left out: the kernel may add kinds of its own.
func ParseMounts(data []byte) []Mount {
	var all []Mount
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 6 || len(tail) < 2 {
			continue
		}
		all = append(all, Mount{Number: head[2], Point: unescape(head[4]), Filesystem: tail[0], Source: unescape(tail[1]),
			ReadOnly: slices.Contains(strings.Split(head[5], ","), "ro")})
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

// uses returns mounts and swaps by the number of their device.
func (k kernel) uses() (map[string][]Use, error) {
	mounts, err := k.mounts()
	if err != nil {
		return nil, err
	}
	uses := map[string][]Use{}
	for _, m := range mounts {
		u := Use{Kind: UsedMounted, By: m.Point}
		uses[m.Number] = append(uses[m.Number], u)
		// btrfs has a number of its own: its source names the device.
		if n := deviceNumber(m.Source); n != "" && n != m.Number {
			uses[n] = append(uses[n], u)
		}
	}
	swaps, _ := os.ReadFile(filepath.Join(k.proc, "swaps"))
	for line := range strings.Lines(string(swaps)) {
		fields := strings.Fields(line)
		if len(fields) > 0 {
			if n := deviceNumber(unescape(fields[0])); n != "" {
				uses[n] = append(uses[n], Use{Kind: UsedSwap})
			}
		}
	}
	return uses, nil
}

func deviceNumber(path string) string {
	var st unix.Stat_t
	if !strings.HasPrefix(path, "/") || unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return ""
	}
	return numberOf(uint64(st.Rdev))
}
