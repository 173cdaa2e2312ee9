package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/fixtures/medium"
)

func itoa(n int) string { return strconv.Itoa(n) }

const bigDisk = 192 << 20

func TestCtrlCStopsSafelyAndTheNextExportUsesWhatWasWritten(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", bigDisk)
	cmd := p.startHalfway()
	cmd.Process.Signal(os.Interrupt)
	goOn(cmd)
	stopped := p.wait(cmd).mustEnd(exitStopped).mustSay("stopped; 0 of 1 machines were exported", "what was written of the others is used by the next try", "run the export again")
	if !strings.Contains(stopped.stderr, "stopping safely; once more stops at once") {
		t.Errorf("stderr does not say what Ctrl-C did:\n%s", stopped.stderr)
	}
	if got := p.points(); !slices.Equal(got, []string{"before"}) {
		t.Errorf("points: %v", got)
	}
	p.must("verify", "--drive", p.drive)
	again := p.export(p.disk, "big").mustEnd(0)
	if got, err := jsonAt([]byte(again.stdout), "result:machines.0.newBytes"); err != nil || mustInt(t, got) >= bigDisk {
		t.Errorf("nothing of the first try was used: %s new bytes, %v", got, err)
	}
	p.mustRestore("big", p.disk)
}

func TestASecondCtrlCStopsAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", bigDisk)
	cmd := p.startHalfway()
	cmd.Process.Signal(os.Interrupt)
	// Two signals of one kind that wait at the same time are one.
	cmd.Process.Signal(syscall.SIGTERM)
	goOn(cmd)
	p.wait(cmd).mustEnd(exitStopped)
	if got := p.points(); !slices.Equal(got, []string{"before"}) {
		t.Errorf("points: %v", got)
	}
	p.export(p.disk, "big").mustEnd(0)
	p.must("verify", "--drive", p.drive)
}

func TestRunStopStopsADetachedExportAsCtrlCDoes(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", bigDisk)
	out := p.must("export", "--file", p.disk, "--as", "big", "--drive", p.drive, "--detach")
	id := out.stdout[:32]
	if stop := p.run("run", "stop", id); stop.code == exitUsage {
		t.Skip("the export ended before it could be stopped; a slower medium enables this test")
	}
	p.run("run", "attach", id).mustEnd(exitStopped).mustSay("^stopped", ".", "run .* again")
	p.export(p.disk, "big").mustEnd(0)
}

func TestTheSecondOfTwoExportsIsToldWhoHoldsTheDriveAndReadersGoOn(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", bigDisk)
	cmd := p.startHalfway()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	second := p.run("export", "--file", p.before, "--as", "other", "--drive", p.drive)
	second.mustEnd(exitHeld).mustSay("another run works on drive K.*"+itoa(cmd.Process.Pid)+".*"+host+"|"+host+".*"+itoa(cmd.Process.Pid), "that run goes on", "lifeboat run list")
	p.run("key", "add", "x", "--generate", "--drive", p.drive).mustEnd(exitHeld)
	if got := p.points(); !slices.Equal(got, []string{"before"}) {
		t.Errorf("points: %v", got)
	}
	p.must("verify", "--drive", p.drive)
	p.mustRestore("before", p.before)
	goOn(cmd)
	p.wait(cmd).mustEnd(0)
	p.mustRestore("big", p.disk)
	p.must("verify", "--drive", p.drive)
}

func TestADriveThatIsPulledOutHalfwayKeepsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	m := medium.New(t, medium.Ext4, 1<<30)
	at := m.Path
	if err := os.Remove(at + "/lost+found"); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, at, bigDisk)
	cmd := p.startHalfway()
	m.Pull(t)
	goOn(cmd)
	p.wait(cmd).mustEnd(exitFailed).mustSay("big: drive K.* stopped answering", "holds no point of it yet", "cable.*lifeboat verify")
	m.Again(t, "") // which fails if something still holds the drive
	if got := p.points(); !slices.Equal(got, []string{"before"}) {
		t.Errorf("points: %v", got)
	}
	p.must("verify", "--drive", at)
	p.export(p.disk, "big").mustEnd(0)
	p.mustRestore("big", p.disk)
	p.mustRestore("before", p.before)

	// Gone while it is only read, and while nobody looks.
	out := t.TempDir() + "/out.img"
	cmd = p.command("restore", "big", "--drive", at, "--to", out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.standStill(cmd, func() bool { return written(out+".partial") > 0 })
	m.Pull(t)
	goOn(cmd)
	p.wait(cmd).mustEnd(exitFailed).mustSay("drive K.* does not answer any more", "is on the drive|only read", "attach the drive again")
	if written(out) != 0 || written(out+".partial") != 0 {
		t.Error("the restore left something behind")
	}
	p.run("point", "list", "--drive", at).mustEnd(exitFailed).mustSay("the medium at .* does not answer", "nothing was changed", "cable")
}

// written is what a file takes on its disk; 0 if there is none.
func written(path string) int64 {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return 0
	}
	return stat.Blocks * 512
}

func mustInt(t *testing.T, text string) int64 {
	t.Helper()
	var n int64
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestARestoreThatIsStoppedLeavesTheOldFile(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", bigDisk)
	p.export(p.disk, "big").mustEnd(0)
	target := t.TempDir() + "/there.img"
	old := []byte("what was there before")
	// The killed one comes last: what it leaves must not be taken for the other's.
	for _, signal := range []os.Signal{os.Interrupt, os.Kill} {
		code := exitStopped
		if signal == os.Kill {
			code = -1
		}
		if err := os.WriteFile(target, old, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := p.command("restore", "big", "--drive", p.drive, "--to", target, "--yes")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p.standStill(cmd, func() bool { return written(target+".partial") > 0 })
		cmd.Process.Signal(signal)
		goOn(cmd)
		stopped := p.wait(cmd).mustEnd(code)
		if got, err := os.ReadFile(target); err != nil || !slices.Equal(got, old) {
			t.Errorf("%v: the old file is gone: %v", signal, err)
		}
		if code != exitStopped {
			continue
		}
		stopped.mustSay("big", "what stood at the target before is still there", "again")
		if _, err := os.Stat(target + ".partial"); !os.IsNotExist(err) {
			t.Errorf("a torn file is left: %v", err)
		}
	}
	p.must("restore", "big", "--drive", p.drive, "--to", target, "--yes")
	if _, err := os.Stat(target + ".partial"); !os.IsNotExist(err) {
		t.Errorf("what a killed restore left is still there: %v", err)
	}
}

func TestADriveWhoseMakingWasKilledIsMadeAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", 1<<20)
	for round := range 8 {
		at := t.TempDir()
		label := "M" + newID()[:6]
		cmd := p.command("drive", "init", at, "--label", label)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		moment := time.Duration(round) * 60 * time.Millisecond
		time.AfterFunc(moment, func() { cmd.Process.Kill() })
		if p.wait(cmd).code != 0 {
			again := p.run("drive", "init", at, "--label", label)
			if again.code != 0 {
				again.mustSay("is a drive already", ".", ".")
			}
		}
		p.must("verify", "--drive", at)
		p.must("export", "--file", p.before, "--as", "pc", "--drive", at)
	}
}

func TestCtrlCStopsAVerification(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", bigDisk)
	p.export(p.disk, "big").mustEnd(0)
	cmd := p.command("verify", "--drive", p.drive)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.standStill(cmd, func() bool {
		runs, _ := filepath.Glob(filepath.Join(p.state, "runs/*/run.json"))
		return len(runs) == 3
	})
	cmd.Process.Signal(os.Interrupt)
	goOn(cmd)
	p.wait(cmd).mustEnd(exitStopped).mustSay("stopped", "restore point", "again")
}
