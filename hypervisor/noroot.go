package hypervisor

import (
	"bytes"
	"strings"
)

// noRootWords are what systems print that have given up on their root device: a
// panic or a shell follows, and nothing goes on by itself. The second word of a
// pair, where there is one, has to stand behind the first in the same line. Words
// of warning are not here: dracut says "initqueue timeout" many times before it
// starts a mirror that lacks a half, and goes on. Sources: the kernel's
// init/do_mounts.c; the scripts of initramfs-tools, dracut and mkinitcpio.
var noRootWords = [][2]string{
	{"VFS: Unable to mount root fs"},
	{"VFS: Cannot open root device"},
	{"Gave up waiting for root file system device"},
	{"Gave up waiting for root device"},
	{"ALERT!", "does not exist.  Dropping to a shell"},
	{"dracut", "Warning: Could not boot"},
	{"ERROR: Failed to mount", "on real root"},
	{"You are being dropped to a recovery shell"},
}

// rootFoundWords are what a system prints that has found a file system or its
// root after all: a person typed something, or a disk came late.
var rootFoundWords = []string{
	"login:",
	"mounted filesystem", "Ending clean mount", "Ending recovery",
	"Switching root", "Switch Root", "switching root",
	"Run /sbin/init as init process", "INIT: version",
	"md/raid",
}

// NoRootIn finds, in what a machine printed, the line in which its system says
// that it gave up on its root device; or "". What the machine printed after it
// counts as well: one that went on is not stuck. A machine that starts anew by
// itself after its panic has not gone on.
func NoRootIn(printed []byte) string {
	said := ""
	for line := range bytes.FieldsFuncSeq(printed, func(r rune) bool { return r == '\r' || r == '\n' }) {
		switch words := noRootOf(line); {
		case words != "" && said == "":
			said = words
		case words == "" && rootFound(line):
			said = ""
		}
	}
	return said
}

// noRootOf returns the part of a line that says it, or "".
func noRootOf(line []byte) string {
	for _, words := range noRootWords {
		at := bytes.Index(line, []byte(words[0]))
		if at >= 0 && bytes.Contains(line[at:], []byte(words[1])) {
			return Printable(strings.TrimSpace(string(line[at:])))
		}
	}
	return ""
}

func rootFound(line []byte) bool {
	for _, words := range rootFoundWords {
		if bytes.Contains(line, []byte(words)) {
			return true
		}
	}
	return false
}
