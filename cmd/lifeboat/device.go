package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// deviceWords says of a block device what a person knows it by: its size, its
// model, and what is on it. It only looks.
func deviceWords(path string) string {
	words := []string{deviceSize(path)}
	sys := sysFolder(path)
	for _, name := range []string{"device/model", "../device/model", "loop/backing_file"} {
		if text, err := os.ReadFile(filepath.Join(sys, name)); err == nil && len(bytes.TrimSpace(text)) > 0 {
			words = append(words, oneLine(string(text)))
			break
		}
	}
	if n := partitions(sys); n > 0 {
		words = append(words, "with "+count(n, "partition"))
	}
	if what := contentOf(path); what != "" {
		words = append(words, "it holds "+what)
	}
	return strings.Join(words, ", ")
}

// sysFolder is where the kernel tells about a device, whatever name it was
// called by.
func sysFolder(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	link := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	folder, err := filepath.EvalSymlinks(link)
	if err != nil {
		return link
	}
	return folder
}

func deviceSize(path string) string {
	const sector = 512 // the kernel counts in these, whatever the device does
	text, err := os.ReadFile(filepath.Join(sysFolder(path), "size"))
	n, perr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || perr != nil {
		return "of unknown size"
	}
	return "of " + humanBytes(n*sector)
}

func partitions(sys string) int {
	found, _ := filepath.Glob(filepath.Join(sys, "*", "partition"))
	return len(found)
}

// signatures are where the usual inhabitants of a device write their names.
var signatures = []struct {
	offset int
	bytes  string
	what   string
}{
	{1080, "\x53\xef", "an ext4 file system"},
	{0, "XFSB", "an XFS file system"},
	{65600, "_BHRfS_M", "a btrfs file system"},
	{3, "NTFS    ", "an NTFS file system"},
	{3, "EXFAT   ", "an exFAT file system"},
	{0, "LUKS\xba\xbe", "an encrypted volume (LUKS)"},
	{536, "LVM2 001", "a volume of LVM"},
	{512, "EFI PART", "a partition table (GPT)"},
	{510, "\x55\xaa", "a boot sector or partition table"},
}

// contentOf names what the beginning of a device looks like, or is "".
func contentOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 68<<10)
	n, _ := f.ReadAt(head, 0)
	for _, s := range signatures {
		if n >= s.offset+len(s.bytes) && string(head[s.offset:s.offset+len(s.bytes)]) == s.bytes {
			return s.what
		}
	}
	return ""
}
