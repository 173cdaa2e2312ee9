package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// heard collects what a program prints, to be looked at while it runs.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(b)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// A person is asked for the name of one disk, and while they read another is
// plugged in and gets the same name.
func TestADiskThatIsSwappedAtThePromptIsNotErased(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a loop device needs root: run the tests as root")
	}
	p := newPlace(t, "", 1<<20)
	dir := t.TempDir()
	image := func(name, label string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 200<<20), exec.Command("mkfs.ext4", "-q", "-F", "-L", label, path).Run()); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// Of one make and size, with one name: only the kernel can tell them apart.
	old, precious := image("disk", "holiday"), image("precious", "holiday")
	out, err := exec.Command("losetup", "--find", "--show", old).Output()
	if err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		dropLoop(device, old)
		dropLoop(device, precious)
	})
	person, program := terminal(t)
	cmd := exec.Command("lifeboat", "drive", "init", device, "--label", "S"+newID()[:6], "--erase", "--state", p.state)
	cmd.Env = append(os.Environ(), "TERM=vt100")
	var stderr heard
	cmd.Stdin, cmd.Stderr = program, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(stderr.String(), "Type holiday: "); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never asked:\n%s", stderr.String())
		}
	}
	for _, args := range [][]string{{"--detach", device}, {device, precious}} {
		if out, err := exec.Command("losetup", args...).CombinedOutput(); err != nil {
			t.Fatalf("losetup %v: %v %s", args, err, out)
		}
	}
	if _, err := person.WriteString("holiday\n"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it went on with the other disk")
	}
	if !strings.Contains(stderr.String(), "is not what it was when it was shown") {
		t.Errorf("stderr:\n%s", stderr.String())
	}
	if out, err := exec.Command("e2fsck", "-fn", precious).CombinedOutput(); err != nil {
		t.Errorf("the other disk was touched: %v\n%s", err, out)
	}
}
