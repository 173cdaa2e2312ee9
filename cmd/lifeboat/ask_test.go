package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal makes a terminal: what a person sits at, and what a program sees.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this system lends no terminal (%v): mount devpts to enable this test", err)
	}
	t.Cleanup(func() { person.Close() })
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func TestCtrlCAtTheQuestionForASecretLeavesATerminalThatEchoes(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", 1<<20)
	_, program := terminal(t)
	cmd := exec.Command("lifeboat", "point", "list", "--drive", p.drive, "--state", t.TempDir())
	cmd.Env = append(os.Environ(), "TERM=vt100")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = program, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	for deadline := time.Now().Add(2 * time.Minute); echoes(t, program); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never asked for a secret:\n%s", stderr.String())
		}
	}
	cmd.Process.Signal(os.Interrupt)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("one Ctrl-C did nothing")
	}
	if code := cmd.ProcessState.ExitCode(); code != exitStopped {
		t.Errorf("exit code %d, want %d", code, exitStopped)
	}
	if !echoes(t, program) {
		t.Error("the terminal does not echo any more")
	}
	if !bytes.Contains(stderr.Bytes(), []byte("stopped, before it was done")) {
		t.Errorf("stderr:\n%s", stderr.String())
	}
}
