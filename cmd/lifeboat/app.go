package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/term"

	"lifeboat/hypervisor"
)

// app is what every command has in its hands: the three streams, and the
// answers to the flags that all commands share.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	stateDir       string
	passphraseFile string
	json           bool
	verbose        bool
	quiet          bool
	noColor        bool
	// toldTime is what --now says, and ahead how far this command's clock is
	// before the computer's for it.
	toldTime string
	ahead    time.Duration

	// terminal is held by who asks a person, until there is an answer: steps of a
	// runbook ask side by side.
	terminal sync.Mutex
	// asked keeps a secret that a person typed, so that one command asks once.
	asked *string
	// promisedRun is the id that a detached run was promised before it began.
	promisedRun string
	// command is the name that problems are reported under.
	command string
	// ownProcess: nothing else runs in this process, whose time zone may be set.
	ownProcess bool

	// hosts are those that this command has a connection to.
	hostsMu sync.Mutex
	hosts   map[hostFile]hypervisor.Host
	memory  memory
	// brokenLedger sees to it that a ledger that does not hold is told of once.
	brokenLedger sync.Once

	// watched, if given, hears how far long work is.
	watched func(event)

	// outMu keeps lines whole; drawn says that a line of progress stands on the
	// terminal, which whatever is printed next has to remove.
	outMu sync.Mutex
	drawn bool
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	return &app{stdin: stdin, stdout: stdout, stderr: stderr, stateDir: defaultStateDir(), command: "lifeboat"}
}

// run executes one command line and returns its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.takePromisedRun()
	root := a.rootCommand()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	a.closeHosts()
	a.closeMemory()
	if err == nil {
		return exitDone
	}
	a.command = commandName(c)
	// A flag that does not exist ends the reading of those behind it.
	a.json = a.json || slices.Contains(args, "--json")
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = errors.Join(err, cause)
	}
	a.endPromisedRun(err)
	a.printProblem(a.command, err)
	return exitCode(err)
}

// defaultStateDir is where a control machine keeps its state when nobody says
// otherwise: the system's place for root, the person's own for anybody else.
func defaultStateDir() string {
	if dir := os.Getenv("LIFEBOAT_STATE"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/lifeboat"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "lifeboat")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "lifeboat-state"
	}
	return filepath.Join(home, ".local", "state", "lifeboat")
}

// note tells a person something in passing, on stderr.
func (a *app) note(format string, args ...any) {
	if a.quiet || a.json {
		return
	}
	a.outMu.Lock()
	defer a.outMu.Unlock()
	a.clearLine()
	fmt.Fprintf(a.stderr, "%s\n", plainText(fmt.Sprintf(format, args...)))
}

// clearLine removes a line of progress. The caller holds outMu.
func (a *app) clearLine() {
	if a.drawn {
		io.WriteString(a.stderr, "\r\x1b[K")
		a.drawn = false
	}
}

// warn is a note that --quiet does not silence. With --json it is a line of its
// own on stderr, so that stdout stays the one document that was asked for.
func (a *app) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if a.json {
		a.writeJSON(a.stderr, event{Event: "warning", Time: a.now().UTC(), Text: text})
		return
	}
	a.outMu.Lock()
	defer a.outMu.Unlock()
	a.clearLine()
	fmt.Fprintf(a.stderr, "warning: %s\n", oneLine(plainText(text)))
}

// print writes what was asked for to stdout.
func (a *app) print(format string, args ...any) {
	a.outMu.Lock()
	defer a.outMu.Unlock()
	a.clearLine()
	io.WriteString(a.stdout, plainText(fmt.Sprintf(format, args...)))
}

// printJSON writes one document on one line.
func (a *app) printJSON(v any) { a.writeJSON(a.stdout, v) }

func (a *app) writeJSON(w io.Writer, v any) {
	a.outMu.Lock()
	defer a.outMu.Unlock()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.Encode(v)
}

// isTerminal says whether a stream is a terminal that a person sits at.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// columns is how wide the screen is that stdout goes to, or 0 if that is none.
func (a *app) columns() int {
	if !isTerminal(a.stdout) {
		return 0
	}
	columns, _, err := term.GetSize(int(a.stdout.(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// event is one line of the JSON of a long command.
type event struct {
	Event   string    `json:"event"`
	Time    time.Time `json:"time"`
	Run     string    `json:"run,omitempty"`
	Machine string    `json:"machine,omitempty"`
	Text    string    `json:"text,omitempty"`
	// Progress in bytes; remaining time in seconds.
	DoneBytes        int64   `json:"doneBytes,omitempty"`
	TotalBytes       int64   `json:"totalBytes,omitempty"`
	BytesPerSecond   float64 `json:"bytesPerSecond,omitempty"`
	RemainingSeconds float64 `json:"remainingSeconds,omitempty"`
	Result           any     `json:"result,omitempty"`
}
