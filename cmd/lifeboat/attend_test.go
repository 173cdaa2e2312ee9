package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/fixtures/medium"
)

// A drive that is plugged in while attend waits is attended to, then the next one;
// and it stops when it is told to. It is no script, because it looks at every disk
// that comes: those of other scripts have to be gone.
func TestAttendWaitsForDrives(t *testing.T) {
	if why := medium.Missing(medium.Ext4); why != "" {
		t.Skip(why)
	}
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	lifeboat := func(args ...string) *exec.Cmd {
		c := exec.Command("lifeboat", args...)
		c.Dir, c.Env = folder, append(os.Environ(), "LIFEBOAT_STATE="+in("state"), "TZ=UTC")
		return c
	}
	must := func(c *exec.Cmd) string {
		t.Helper()
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", c.Args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	plug := func() string {
		device, err := medium.Loop(in("disk"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dropLoop(device, in("disk")) })
		return device
	}
	for name, text := range map[string]string{"secret.txt": scriptSecret, "console": "", "disk": ""} {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(in("disk"), 300<<20); err != nil {
		t.Fatal(err)
	}
	must(lifeboat("init", "--site", "home", "--passphrase-file", "secret.txt", "-q"))
	device := plug()
	must(lifeboat("drive", "init", device, "--label", "Waited", "-q"))
	must(lifeboat("drive", "eject", "Waited", "-q"))
	dropLoop(device, in("disk"))

	waiter := lifeboat("rotate", "attend", "--wait", "--console", "console", "--page", "page/index.html")
	var said bytes.Buffer
	waiter.Stdout, waiter.Stderr = &said, &said
	if err := waiter.Start(); err != nil {
		t.Fatal(err)
	}
	defer waiter.Process.Kill()
	until := func(file, text string) {
		t.Helper()
		const patience = 2 * time.Minute
		for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			if data, _ := os.ReadFile(in(file)); bytes.Contains(data, []byte(text)) {
				return
			}
			if time.Now().After(end) {
				waiter.Process.Kill()
				waiter.Wait()
				t.Fatalf("%s never said %q:\n%s", file, text, said.String())
			}
		}
	}
	until("console", "PLUG IN A DRIVE")
	device = plug()
	must(exec.Command("partx", "--add", device))
	until("console", "DRIVE WAITED IS HERE")
	until("page/index.html", "nothing is due with it")
	if err := waiter.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	waiter.Wait()
	if got := waiter.ProcessState.ExitCode(); got != exitStopped {
		t.Errorf("it ended with %d:\n%s", got, said.String())
	}
}
