package runbook_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "lifeboat/runbook"
)

// vectorPlan is the plan of the journals in testdata/journal.
func vectorPlan() *Plan {
	return planOf(machinesOf(nil, "db", "web"), step("declare", StepConfirm, ""), step("notify", StepRun, "", "check-web"))
}

func journalLines(t testing.TB, name string) []json.RawMessage {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "journal", name))
	if err != nil {
		t.Fatal(err)
	}
	var lines []json.RawMessage
	for line := range bytes.Lines(data) {
		lines = append(lines, bytes.TrimSuffix(line, []byte("\n")))
	}
	return lines
}

// A journal that this program wrote once is read by every later one, and means the same.
func TestAJournalOfThisVersionIsRead(t *testing.T) {
	run, err := Replay(vectorPlan(), journalLines(t, "good.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Status{}
	for _, s := range run.Steps {
		got[s.Step.ID] = s.Status
	}
	for id, want := range map[string]Status{"boot-db": StatusDone, "check-db": StatusPending, "boot-web": StatusRunning, "check-web": StatusPending, "declare": StatusWaiting, "notify": StatusSkipped} {
		if got[id] != want {
			t.Errorf("%s is %s, not %s", id, got[id], want)
		}
	}
	if m := run.Machines[0]; m.Back != 1 || m.Point.ID != "db-old1" || m.DriveIDs[0] != "B" {
		t.Errorf("db: %+v", m)
	}
	if m := run.Machines[1]; m.Host != "beta" {
		t.Errorf("web: %+v", m)
	}
}

func TestAJournalThatIsNotOursIsRefused(t *testing.T) {
	files, _ := filepath.Glob("testdata/journal/bad-*.jsonl")
	if len(files) < 8 {
		t.Fatalf("only %d bad journals are there", len(files))
	}
	for _, f := range files {
		name := filepath.Base(f)
		_, err := Replay(vectorPlan(), journalLines(t, name))
		if err == nil {
			t.Errorf("%s was taken", name)
		}
		if newer := strings.Contains(name, "newer"); err != nil && newer != strings.Contains(err.Error(), "go on with the program that began the run") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzJournal: whatever is read never panics, and a line that is taken is written
// again as it was.
func FuzzJournal(f *testing.F) {
	files, _ := filepath.Glob("testdata/journal/*.jsonl")
	for _, name := range files {
		data, _ := os.ReadFile(name)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var lines []json.RawMessage
		for line := range bytes.Lines(data) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			lines = append(lines, line)
			again, err := Reencode(line)
			if err == nil && !bytes.Equal(again, line) {
				t.Fatalf("%q was taken and is written again as %q", line, again)
			}
		}
		if run, err := Replay(vectorPlan(), lines); err == nil {
			MakeRecord(run)
		}
	})
}

// A record of what a run left when it was torn away in the middle of a line.
func TestATornLastLineIsNoDamage(t *testing.T) {
	w, folder := newWorldWith(t)
	run := filepath.Join(folder, "journal", "000001.jsonl")
	data, err := os.ReadFile(run)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(run, data[:len(data)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(folder, "record.json"))
	r, err := ReadRecord(folder)
	if err != nil || len(r.Machines) != 1 || !r.Machines[0].Passed || !r.Ended.IsZero() {
		t.Fatalf("%v: %+v", err, r)
	}
	finishRun(t, w, folder)
	flip := bytes.Replace(data, []byte("boot-web"), []byte("boot-wob"), 1)
	if err := os.WriteFile(run, flip, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRun(folder); err == nil {
		t.Error("a changed line was taken")
	}
}
