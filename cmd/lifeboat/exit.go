package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/diskfile"
	"lifeboat/rotation"
	"lifeboat/runbook"
)

// The exit codes are an interface: job schedulers branch on them.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitPartial = 3
	exitNoDrive = 10
	exitHeld    = 11
	exitDamage  = 12
	exitPerson  = 13
	exitStopped = 130
)

// exitMeanings explains the codes in each command's help.
var exitMeanings = map[int]string{
	exitDone:    "done",
	exitFailed:  "failed; read the problem",
	exitUsage:   "wrong usage",
	exitPartial: "done in part; the rest is listed",
	exitNoDrive: "no drive, or not the right one",
	exitHeld:    "another run holds the drive",
	exitDamage:  "damage found",
	exitPerson:  "waiting for a person",
	exitStopped: "stopped by a signal",
}

// usageError is a mistake in how the program was called.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// errNeedsPerson: only a person can answer, and none is there. A step of a runbook
// that meets it waits for one, and its run can be resumed.
var errNeedsPerson = runbook.ErrPerson

// exitCode maps an error to the code that a job scheduler sees.
func exitCode(err error) int {
	var usage usageError
	var stopped stoppedBy
	var other runEnded
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &other) && other.f.Exit != nil:
		return *other.f.Exit
	case errors.As(err, &stopped), errors.Is(err, context.Canceled):
		return exitStopped
	case errors.As(err, &usage), errors.Is(err, runbook.ErrUsage):
		return exitUsage
	case errors.Is(err, lifeboat.ErrPartial):
		return exitPartial
	case errors.Is(err, lifeboat.ErrNoDrive), errors.Is(err, lifeboat.ErrWrongDrive):
		return exitNoDrive
	case errors.Is(err, lifeboat.ErrDriveHeld):
		return exitHeld
	case errors.Is(err, lifeboat.ErrDamaged):
		return exitDamage
	case errors.Is(err, errNeedsPerson):
		return exitPerson
	default:
		return exitFailed
	}
}

// problemOf turns any error into the three lines that an operator reads.
func problemOf(err error) lifeboat.Problem {
	var p *lifeboat.Problem
	if errors.As(err, &p) {
		said := *p
		if errors.Is(err, diskfile.ErrNoTool) {
			said.Next = installNext(osRelease(), said.Next)
		}
		return said
	}
	var other runEnded
	if errors.As(err, &other) && other.f.Problem != nil {
		return lifeboat.Problem{What: other.f.Problem.Problem, Safe: other.f.Problem.Safe, Next: other.f.Problem.Next}
	}
	var usage usageError
	if errors.As(err, &usage) {
		return lifeboat.Problem{What: usage.text, Safe: "nothing was done", Next: "read the help: add --help to the command"}
	}
	var stopped stoppedBy
	if errors.As(err, &stopped) || errors.Is(err, context.Canceled) {
		return lifeboat.Problem{
			What: "stopped, before it was done",
			Safe: "every restore point that was listed before is still there, and nothing half-done counts as one",
			Next: "run the same command again",
		}
	}
	return lifeboat.Problem{
		What: err.Error(),
		Safe: "every restore point that was listed before is still there; this command deletes none",
		Next: "run the same command with --verbose, and keep what it prints",
	}
}

func osRelease() string {
	text, _ := os.ReadFile("/etc/os-release")
	return string(text)
}

// installNext is the line that installs QEMU on the distribution that a text of
// os-release describes, or else what was to be said.
func installNext(osRelease, otherwise string) string {
	if command, known := rotation.InstallQEMU(osRelease); known {
		return "as root, run: " + command
	}
	return otherwise
}

// printProblem writes the three lines, or one JSON document.
func (a *app) printProblem(command string, err error) {
	if a.json {
		a.writeJSON(a.stderr, newProblemJSON(command, err))
		return
	}
	p := problemOf(err)
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %s\n", command, oneLine(p.What))
	if p.Safe != "" {
		fmt.Fprintf(&out, "  safe:  %s\n", oneLine(p.Safe))
	}
	if p.Next != "" {
		fmt.Fprintf(&out, "  next:  %s\n", oneLine(p.Next))
	}
	if a.verbose {
		for _, cause := range causes(err) {
			fmt.Fprintf(&out, "  cause: %s\n", oneLine(cause))
		}
	}
	a.outMu.Lock()
	defer a.outMu.Unlock()
	a.clearLine()
	io.WriteString(a.stderr, plainText(out.String()))
}

// causes lists an error and everything that it wraps, each once, those of
// several that were joined one after the other.
func causes(err error) []string {
	var all []string
	var walk func(error)
	walk = func(e error) {
		if e == nil {
			return
		}
		if text := e.Error(); !slices.Contains(all, text) {
			all = append(all, text)
		}
		switch w := e.(type) {
		case interface{ Unwrap() error }:
			walk(w.Unwrap())
		case interface{ Unwrap() []error }:
			for _, inner := range w.Unwrap() {
				walk(inner)
			}
		}
	}
	walk(err)
	return all
}

type problemJSON struct {
	Command string `json:"command"`
	Problem string `json:"problem"`
	Safe    string `json:"safe,omitempty"`
	Next    string `json:"next,omitempty"`
	Cause   string `json:"cause,omitempty"`
	Exit    int    `json:"exit"`
}

func newProblemJSON(command string, err error) problemJSON {
	p := problemOf(err)
	cause := ""
	if p.Err != nil {
		cause = p.Err.Error()
	}
	return problemJSON{command, p.What, p.Safe, p.Next, cause, exitCode(err)}
}
