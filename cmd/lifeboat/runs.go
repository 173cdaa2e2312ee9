package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"lifeboat"
)

// run is one long piece of work with a folder of its own under STATE/runs: what
// it is, a log of JSON lines that another terminal can follow, and how it ended.
// No secret is ever written there.
type run struct {
	ID  string
	dir string

	mu   sync.Mutex
	file *os.File
	// now is the clock of the command that writes it.
	now func() time.Time
}

// runFile is run.json: written when the run begins and again when it ends.
type runFile struct {
	ID      string       `json:"id"`
	Kind    string       `json:"kind"`
	Args    []string     `json:"args"`
	Process process      `json:"process"`
	Began   time.Time    `json:"began"`
	Ended   time.Time    `json:"ended,omitzero"`
	Exit    *int         `json:"exit,omitempty"`
	Summary string       `json:"summary,omitempty"`
	Problem *problemJSON `json:"problem,omitempty"`
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (a *app) runsDir() string { return filepath.Join(a.stateDir, "runs") }

// beginRun makes the run's folder. A state folder that cannot be written is an
// error: a run that nobody could find again must not start.
func (a *app) beginRun(kind string, args []string) (*run, error) {
	r := &run{ID: newID(), now: a.now}
	if a.promisedRun != "" {
		r.ID = a.promisedRun
	}
	r.dir = filepath.Join(a.runsDir(), r.ID)
	self, err := thisProcess()
	if err != nil {
		return nil, err
	}
	if err = os.MkdirAll(r.dir, 0o700); err == nil {
		r.file, err = os.OpenFile(filepath.Join(r.dir, "log.jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	if err == nil {
		err = r.write(runFile{ID: r.ID, Kind: kind, Args: args, Process: self, Began: a.now().UTC()})
	}
	if err != nil {
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("the state folder %s cannot be written: %v", a.stateDir, err),
			Safe: "nothing was begun",
			Next: "make room there, or name another folder for this command: --state DIR",
			Err:  err,
		}
	}
	return r, nil
}

func (r *run) write(f runFile) error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(r.dir, "run.json"), append(data, '\n'), 0o600)
}

// log adds a line to the run's log. A log that cannot be written never stops
// the work itself.
func (r *run) log(e event) {
	if r == nil {
		return
	}
	e.Run = r.ID
	if e.Time.IsZero() {
		e.Time = r.now().UTC()
	}
	line, err := json.Marshal(e)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file != nil {
		r.file.Write(append(line, '\n'))
	}
}

// end records how the run ended.
func (r *run) end(summary string, err error) {
	f, rerr := readRun(r.dir)
	if rerr != nil {
		return
	}
	code := exitCode(err)
	f.Ended, f.Exit, f.Summary = r.now().UTC(), &code, summary
	if err != nil {
		p := newProblemJSON(f.Kind, err)
		f.Problem = &p
	}
	// Whoever follows the log reads run.json at this event.
	r.write(f)
	r.log(event{Event: "end", Text: summary, Result: f})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file.Close()
	r.file = nil
}

func readRun(dir string) (runFile, error) {
	var f runFile
	data, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(data, &f)
}

// state says in a word what a run is doing now.
func (f runFile) state() string {
	switch {
	case f.Exit != nil && *f.Exit == exitDone:
		return "done"
	case f.Exit != nil && *f.Exit == exitStopped:
		return "stopped"
	case f.Exit != nil && *f.Exit == exitPartial:
		return "done in part"
	case f.Exit != nil:
		return "failed"
	case f.Process.alive():
		return "running"
	default:
		return "died"
	}
}

// listRuns returns all runs, newest first.
func (a *app) listRuns() ([]runFile, error) {
	entries, err := os.ReadDir(a.runsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []runFile
	for _, e := range entries {
		if f, err := readRun(filepath.Join(a.runsDir(), e.Name())); err == nil {
			all = append(all, f)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Began.After(all[j].Began) })
	return all, nil
}

// findRun finds a run by the beginning of its id; "" is the newest.
func (a *app) findRun(prefix string) (runFile, error) {
	all, err := a.listRuns()
	if err != nil {
		return runFile{}, err
	}
	var found []runFile
	for _, f := range all {
		if strings.HasPrefix(f.ID, prefix) {
			found = append(found, f)
		}
	}
	switch {
	case len(found) == 0:
		return runFile{}, usagef("no run begins with %q; see: lifeboat run list", prefix)
	case len(found) > 1 && prefix != "":
		return runFile{}, usagef("%d runs begin with %q: give more of the id", len(found), prefix)
	}
	return found[0], nil
}
