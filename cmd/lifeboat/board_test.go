package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat"
)

// What the board says fits what was plugged in: of a disk of somebody else nothing
// is said of copies, and a drive that was ejected stays safe to unplug.
func TestTheBoardSaysWhatToDoWithTheDisk(t *testing.T) {
	for name, c := range map[string]struct {
		drive string
		safe  string
		want  string
	}{
		"no drive of ours": {want: "Problem: it is odd. It was not touched. Call Anna."},
		"a drive":          {drive: "A", want: "Problem: it is odd. Leave it plugged in, and do not take it away as a good copy. Call Anna."},
		"ejected":          {drive: "A", safe: "Safe to unplug drive A; give it to Ben.", want: "Safe to unplug drive A; give it to Ben. But: it is odd. Call Anna."},
	} {
		page := filepath.Join(t.TempDir(), "page", "index.html")
		a := &app{stdout: io.Discard, stderr: io.Discard}
		b := a.newBoard(attendFlags{page: page, console: "/nonexistent"})
		b.drive = c.drive
		if c.safe != "" {
			b.say(boardSafe, c.safe)
		}
		b.problem(lifeboat.Problem{What: "it is odd"}, "Anna")
		text, err := os.ReadFile(page)
		if err != nil || !strings.Contains(string(text), "<p>"+c.want+"</p>") {
			t.Errorf("%s: %s %v", name, text, err)
		}
	}
}
