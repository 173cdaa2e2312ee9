package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// detachedRunEnv carries the id that a detached run was promised.
const detachedRunEnv = "LIFEBOAT_RUN"

// startDetached runs this same command line again without a terminal, and
// returns when it is on its way and can be followed.
func (a *app) startDetached(kind string) error {
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(s string) bool { return s == "--detach" || s == "--detach=true" })
	a.promisedRun = newID()
	r, err := a.beginRun(kind, args)
	if err != nil {
		return err
	}
	r.file.Close()
	pid, err := startAgain(r, args)
	if err != nil {
		return fmt.Errorf("start the detached %s: %w", kind, err)
	}
	awaitTakenOver(r, pid)
	// How the run ends is its own to say from here on.
	a.promisedRun = ""
	if a.json {
		a.printJSON(event{Event: "detached", Time: a.now().UTC(), Run: r.ID})
		return nil
	}
	a.print("%s\n", r.ID)
	a.note("follow it with: lifeboat run attach %s", short(r.ID))
	return nil
}

// startAgain starts this program in a session of its own; what it prints goes
// to a file in the run's folder.
func startAgain(r *run, args []string) (pid int, err error) {
	out, err := os.OpenFile(filepath.Join(r.dir, "output"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	// The program may have been started from a folder that goes away.
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), detachedRunEnv+"="+r.ID)
	detached(cmd)
	if cmd.Dir, err = os.Getwd(); err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	// Whoever waits for it in this process keeps it from staying a dead entry
	// in the table of processes, which would look alive.
	go cmd.Wait()
	return cmd.Process.Pid, nil
}

// awaitTakenOver waits until the new process has written itself into the run:
// until then the run would seem to have died with this process.
func awaitTakenOver(r *run, pid int) {
	const patience = 10 * time.Second
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if f, err := readRun(r.dir); err == nil && f.Process.PID == pid || syscall.Kill(pid, 0) != nil {
			return
		}
	}
}

// takePromisedRun makes this process the one that a detached run is, before it
// does anything else: it can be followed and stopped from its first moment.
func (a *app) takePromisedRun() {
	a.promisedRun = os.Getenv(detachedRunEnv)
	if a.promisedRun == "" {
		return
	}
	// What this process starts is no run of that id.
	os.Unsetenv(detachedRunEnv)
	r := &run{ID: a.promisedRun, dir: filepath.Join(a.runsDir(), a.promisedRun), now: a.now}
	f, err := readRun(r.dir)
	if err != nil {
		return
	}
	if f.Process, err = thisProcess(); err == nil {
		r.write(f)
	}
}

// endPromisedRun records why a detached run failed that did not get as far as
// its work: nobody sees what it prints.
func (a *app) endPromisedRun(err error) {
	if a.promisedRun == "" {
		return
	}
	r := &run{ID: a.promisedRun, dir: filepath.Join(a.runsDir(), a.promisedRun), now: a.now}
	if f, rerr := readRun(r.dir); rerr != nil || f.Exit != nil {
		return
	}
	file, ferr := os.OpenFile(filepath.Join(r.dir, "log.jsonl"), os.O_APPEND|os.O_WRONLY, 0o600)
	if ferr != nil {
		return
	}
	r.file = file
	r.end(problemOf(err).What, err)
}
