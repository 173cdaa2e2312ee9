// Command lifeboat exports running servers onto rotating drives and boots them
// straight from such a drive when the building is gone.
//
// This folder is the only place where the rooms are wired together: one file
// per command, and nothing in it that another room should own.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"lifeboat/imagestore"
)

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(imagestore.MemoryLimit)
	}
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	a.ownProcess = true
	ctx, stop := a.signals(context.Background())
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// signals returns a context that the first Ctrl-C (or SIGTERM) cancels: what
// runs stops safely and says what was kept. The second one ends the process at
// once, which is safe as well, because a restore point exists whole or not at
// all. Losing the terminal is no reason to stop.
func (a *app) signals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	caught := make(chan os.Signal, 2)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		s, ok := <-caught
		if !ok {
			return
		}
		a.note("stopping safely; once more stops at once")
		cancel(stoppedBy{s})
		if _, ok := <-caught; ok {
			os.Exit(exitStopped)
		}
	}()
	return ctx, func() {
		signal.Stop(caught)
		close(caught)
		cancel(nil)
	}
}

// stoppedBy is the cause of a context that a signal cancelled.
type stoppedBy struct{ signal os.Signal }

func (s stoppedBy) Error() string { return "stopped by " + s.signal.String() }
