package lifeboat_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// mostInAFile is more than any source, page or vector needs.
const mostInAFile = 1 << 20

// TestNoProgramIsKeptBesideItsSource: what is built by hand in a folder of the
// tree is easily kept with it, and stays in the history for good.
func TestNoProgramIsKeptBesideItsSource(t *testing.T) {
	listed, err := exec.Command("git", "ls-files", "-z").Output()
	if err != nil {
		t.Skipf("it looks at the files that git keeps: run it in a clone, with git installed (%v)", err)
	}
	for name := range strings.SplitSeq(strings.Trim(string(listed), "\x00"), "\x00") {
		if why := notSource(name); why != "" {
			t.Errorf("%s %s: take it out, and name it in .gitignore", name, why)
		}
	}
}

func notSource(name string) string {
	st, err := os.Lstat(name)
	if err != nil || !st.Mode().IsRegular() {
		return ""
	}
	if st.Size() > mostInAFile {
		return "is larger than 1 MiB"
	}
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err == nil && bytes.Equal(magic, []byte("\x7fELF")) {
		return "is a program"
	}
	return ""
}
