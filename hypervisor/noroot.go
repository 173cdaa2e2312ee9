package hypervisor

import (
	"bytes"
	"strings"
)

// noRootWords are what systems print that do not find their root device. The
// second word of a pair, where there is one, has to stand behind the first.
// Sources: the kernel's init/do_mounts.c; the scripts of initramfs-tools, dracut
// and mkinitcpio.
var noRootWords = [][2]string{
	{"VFS: Unable to mount root fs"},
	{"VFS: Cannot open root device"},
	{"Gave up waiting for root file system device"},
	{"Gave up waiting for root device"},
	{"ALERT!", "does not exist.  Dropping to a shell"},
	{"dracut-initqueue timeout"},
	{"dracut Warning: Could not boot"},
	{"ERROR: device", "not found. Skipping fsck"},
	{"You are being dropped to a recovery shell"},
	{"no root device"},
}

// NoRootIn finds, in what a machine printed, the line in which its system says
// that it does not find its root device; or "".
func NoRootIn(printed []byte) string {
	for _, words := range noRootWords {
		at := bytes.Index(printed, []byte(words[0]))
		if at < 0 {
			continue
		}
		line := printed[at:]
		if end := bytes.IndexAny(line, "\r\n"); end >= 0 {
			line = line[:end]
		}
		if bytes.Contains(line, []byte(words[1])) {
			return Printable(strings.TrimSpace(string(line)))
		}
	}
	return ""
}
