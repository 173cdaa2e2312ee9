package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// keyFiles counts the files of key slots on a drive.
func keyFiles(t *testing.T, drive string) int {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(drive, "lifeboat", "store", "slots"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// Whoever swaps the drives while the label is typed destroys no key of the other.
func TestADriveThatIsSwappedAtThePromptKeepsItsKeys(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", 1<<20)
	meant, other := filepath.Join(filepath.Dir(p.drive), "meant"), filepath.Join(filepath.Dir(p.drive), "other")
	label := "M" + newID()[:6]
	for path, name := range map[string]string{meant: label, other: "O" + newID()[:6]} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		p.must("drive", "init", path, "--label", name)
	}
	had := keyFiles(t, other)

	person, program := terminal(t)
	said, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd := exec.Command("lifeboat", "drive", "retire", label, "--destroy", "--last-copy", "--state", p.state)
	cmd.Stdin, cmd.Stderr = program, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(said.Name())
		if err == nil && bytes.Contains(text, []byte("Type "+label)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never asked: %s", text)
		}
	}
	for _, move := range [][2]string{{meant, meant + ".swap"}, {other, meant}, {meant + ".swap", other}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := person.WriteString(label + "\n"); err != nil {
		t.Fatal(err)
	}
	ended := cmd.Wait()
	if left := keyFiles(t, meant); left != had {
		text, _ := os.ReadFile(said.Name())
		t.Fatalf("the other drive has %d of its %d key files (%v):\n%s", left, had, ended, text)
	}
	if left := keyFiles(t, other); ended != nil || left != 0 {
		t.Errorf("the drive that was meant has %d key files (%v)", left, ended)
	}
}
