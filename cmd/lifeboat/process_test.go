package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// place is a control machine with one drive, for tests in which processes are
// stopped, killed, or run beside each other.
type place struct {
	t *testing.T
	// state, drive and disk are paths; disk holds bytes that do not compress.
	state, drive, disk string
	// before is a disk whose point, of the machine of that name, is committed.
	before string
}

// newPlace makes a drive in a folder (empty for one of its own), a point of the
// machine "before", and a disk that takes a while to export.
func newPlace(t *testing.T, drive string, diskBytes int64) *place {
	t.Helper()
	dir := t.TempDir()
	if drive == "" {
		drive = filepath.Join(dir, "drive")
	}
	p := &place{t: t, state: filepath.Join(dir, "state"), drive: drive, disk: filepath.Join(dir, "disk.img"), before: filepath.Join(dir, "before.img")}
	secret := filepath.Join(dir, "secret.txt")
	if err := os.WriteFile(secret, []byte(scriptSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(drive, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, size := range map[string]int64{p.disk: diskBytes, p.before: 4 << 20} {
		if err := writeRandom(path, size, path); err != nil {
			t.Fatal(err)
		}
	}
	p.must("init", "--site", "test", "--passphrase-file", secret)
	p.must("drive", "init", drive, "--label", "K"+newID()[:6])
	p.export(p.before, "before").mustEnd(0)
	return p
}

// said is what a process printed and how it ended.
type said struct {
	t              *testing.T
	stdout, stderr string
	code           int
}

func (p *place) command(args ...string) *exec.Cmd {
	cmd := exec.Command("lifeboat", append(args, "--state", p.state)...)
	cmd.Stdout, cmd.Stderr = new(bytes.Buffer), new(bytes.Buffer)
	return cmd
}

func (p *place) run(args ...string) said {
	p.t.Helper()
	cmd := p.command(args...)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return p.wait(cmd)
}

func (p *place) must(args ...string) said { p.t.Helper(); return p.run(args...).mustEnd(0) }

func (p *place) export(disk, name string) said {
	p.t.Helper()
	return p.run("export", "--file", disk, "--as", name, "--drive", p.drive, "--json")
}

// wait waits until a process ends by itself; a signal counts as its number.
func (p *place) wait(cmd *exec.Cmd) said {
	p.t.Helper()
	watch := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer watch.Stop()
	cmd.Wait()
	return said{p.t, cmd.Stdout.(*bytes.Buffer).String(), cmd.Stderr.(*bytes.Buffer).String(), cmd.ProcessState.ExitCode()}
}

func (s said) mustEnd(code int) said {
	s.t.Helper()
	if s.code != code {
		s.t.Fatalf("exit code %d, want %d\n%s%s", s.code, code, s.stdout, s.stderr)
	}
	return s
}

// mustSay checks the three lines.
func (s said) mustSay(what, safe, next string) said {
	s.t.Helper()
	lines := problemLines.FindStringSubmatch(s.stderr)
	if lines == nil {
		s.t.Fatalf("no three lines end this:\n%s", s.stderr)
	}
	for i, want := range []string{what, safe, next} {
		if !regexp.MustCompile(want).MatchString(lines[i+2]) {
			s.t.Errorf("line %d does not match %s: %s", i+1, want, lines[i+2])
		}
	}
	return s
}

// startHalfway starts an export, or what else is given, and returns when it has
// written some of the disk and stands still.
func (p *place) startHalfway(args ...string) *exec.Cmd {
	p.t.Helper()
	before := p.packBytes()
	if args == nil {
		args = []string{"export", "--file", p.disk, "--as", "big", "--drive", p.drive}
	}
	cmd := p.command(args...)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { cmd.Process.Kill() })
	p.standStill(cmd, func() bool { return p.packBytes() >= before+4<<20 })
	return cmd
}

// standStill stops a process, without its knowing, as soon as something is so.
func (p *place) standStill(cmd *exec.Cmd, so func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatal("what the test waits for did not happen within a minute")
		}
	}
	cmd.Process.Signal(syscall.SIGSTOP)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		data, err := os.ReadFile("/proc/" + itoa(cmd.Process.Pid) + "/stat")
		if err == nil && strings.Contains(string(data), ") T ") {
			return
		}
	}
	p.t.Fatal("the process did not stand still; it may have ended before")
}

// goOn lets a process that stands still run again.
func goOn(cmd *exec.Cmd) { cmd.Process.Signal(syscall.SIGCONT) }

func (p *place) packBytes() (sum int64) {
	packs, _ := filepath.Glob(filepath.Join(p.drive, "lifeboat/store/packs/*/*"))
	for _, name := range packs {
		if info, err := os.Stat(name); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// points returns the names of the machines of all points, oldest first.
func (p *place) points() []string {
	p.t.Helper()
	var list struct {
		Points []struct {
			Machine struct{ Name string }
		}
	}
	out := p.must("point", "list", "--drive", p.drive, "--json")
	if err := json.Unmarshal([]byte(out.stdout), &list); err != nil {
		p.t.Fatal(err)
	}
	var names []string
	for _, point := range list.Points {
		names = append(names, point.Machine.Name)
	}
	return names
}

// mustRestore checks that the newest point of a machine is that disk.
func (p *place) mustRestore(machine, disk string) {
	p.t.Helper()
	out := filepath.Join(p.t.TempDir(), "out.img")
	p.must("restore", machine, "--drive", p.drive, "--to", out)
	if err := exec.Command("cmp", out, disk).Run(); err != nil {
		p.t.Errorf("%s came back with other bytes: %v", machine, err)
	}
	os.Remove(out)
}
