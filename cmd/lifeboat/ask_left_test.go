package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/runbook"
)

// killedVariable names the folder of a run for the process that is killed.
const killedVariable = "LIFEBOAT_TEST_KILLED"

// killedScript leaves a process behind that left its group and its session.
const killedScript = `setsid sleep 900 & echo began >"$0"; sleep 900; echo went on >"$0"`

// TestTheProcessThatIsKilled is not a test by itself: it is the command of Lifeboat
// that the next one kills over the command of a step.
func TestTheProcessThatIsKilled(t *testing.T) {
	dir := os.Getenv(killedVariable)
	if dir == "" {
		t.Skip("only TestACommandThatLifeboatWasKilledOverIsEnded runs this, in a process of its own")
	}
	k, _, act := newAskTest(t, runbook.Recover, nil)
	k.run = &run{ID: filepath.Base(dir), dir: dir}
	act.Step.ID = "daemon"
	if _, err := runStep(t, k, act, runbook.Step{Command: []string{"sh", "-c", "setsid sleep 900 >/dev/null 2>&1 & exit 0"}, Limit: time.Hour}); err != nil {
		t.Fatal(err)
	}
	act.Step.ID = "copy"
	_, err := runStep(t, k, act, runbook.Step{Command: []string{"sh", "-c", killedScript, filepath.Join(dir, "began")}, Limit: time.Hour})
	t.Fatalf("it ended by itself: %v", err)
}

func TestACommandThatLifeboatWasKilledOverIsEnded(t *testing.T) {
	w := newWorldTest(t, runbook.Recover)
	first := w.world()
	mark := func(step string) string { return stepVariable + "=" + w.run.ID + "/" + step + "/1" }
	t.Cleanup(func() { killMarked(mark("daemon")); killMarked(mark("copy")) })
	program, err := os.Executable()
	w.must(err)
	cmd := exec.Command(program, "-test.run=^TestTheProcessThatIsKilled$")
	cmd.Env = append(os.Environ(), killedVariable+"="+w.run.dir, "TMPDIR="+t.TempDir())
	w.must(cmd.Start())
	waitUntil(t, "the command runs", func() bool {
		_, err := os.Stat(filepath.Join(w.run.dir, "began"))
		return err == nil && len(marked(mark("copy"))) == 3
	})
	// While somebody waits for it, it is left alone.
	if left, err := endLeftCommands(w.run.dir); err != nil || len(left) > 0 || len(marked(mark("copy"))) != 3 {
		t.Errorf("a command that is waited for was ended: %v (%v)", left, err)
	}
	w.must(cmd.Process.Kill())
	cmd.Wait()
	first.close()
	if left := marked(mark("copy")); len(left) != 3 {
		t.Fatalf("of a command that Lifeboat was killed over, %d processes are left", len(left))
	}
	w.newProgram()
	w.world()
	if left := marked(mark("copy")); len(left) > 0 {
		t.Errorf("after the run goes on, the command goes on too: %v", left)
	}
	if !strings.Contains(w.out.String(), "the command of step copy still ran from before, and was ended") {
		t.Errorf("nobody is told:\n%s", w.out)
	}
	if left := marked(mark("daemon")); len(left) != 1 {
		t.Errorf("what a step left behind as it wished was ended with it: %v", left)
	}
	if left, err := filepath.Glob(filepath.Join(w.run.dir, runningFolder, "*")); err != nil || len(left) > 0 {
		t.Errorf("still written down as running: %v (%v)", left, err)
	}
}
