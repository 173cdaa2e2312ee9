package runbook

import (
	"context"
	"errors"
	"time"
)

// Errors of a [World] that the engine knows what to do with.
var (
	// ErrPerson: only a person can go on, and none is there. The run ends as it is
	// and can be resumed.
	ErrPerson = errors.New("a person has to answer")
	// ErrRefused: a person said no.
	ErrRefused = errors.New("a person said no")
	// ErrHostGone: the host of the machine does not answer any more. Its machines
	// are placed again.
	ErrHostGone = errors.New("the host went away")
	// ErrAddressInUse: somebody answers at an address or with a MAC of a machine that
	// was to be plugged in. It stops that machine and is never tried again by itself.
	ErrAddressInUse = errors.New("the address is in use")
	// ErrCheckFailed: the machine runs, and its check did not pass in its time.
	ErrCheckFailed = errors.New("the check did not pass")
	// ErrNoRoot: the machine's system does not find its disk in this form.
	ErrNoRoot = errors.New("the system does not find its disk")
	// ErrLimit: a command was ended by its limit, and nobody knows how far it got.
	ErrLimit = errors.New("its time was over")
	// ErrNoForm: the machine was built in every form that its host has for it.
	ErrNoForm = errors.New("there is no other kind of disk controller to try")
)

// World is what steps act on: hosts, drives, networks, people. Its methods are
// called from several goroutines, at most one for a step at a time. They end soon
// after their context does, and leave nothing that Done would not see.
type World interface {
	// Done looks whether the effect of a step is there, at the world and never at
	// what was written down. It is asked before each Do, also the first.
	Done(ctx context.Context, a Action) (bool, error)
	// Do does a step. What it returns beside an error is kept too. It waits by itself
	// for what comes back (a drive that was pulled, room for overlays) and says so.
	Do(ctx context.Context, a Action) (Result, error)
	// Undo takes a machine away, so that another form or an older point of it can be
	// booted. What it wrote goes in a drill, and is set aside in a recovery. The store
	// is never touched.
	Undo(ctx context.Context, a Action) error
	// Alive says whether a host answers.
	Alive(ctx context.Context, host string) bool
	// Look keeps the console of a machine: a screenshot and its last lines, under
	// names in the run's folder. It is called after each check, passed or failed.
	Look(ctx context.Context, a Action) (Evidence, error)
}

// Action is one step in the hands of a [World].
type Action struct {
	Plan *Plan
	Step PlannedStep
	// Machine is nil for a step about none. Its Point, DriveIDs and Host are those of
	// this try, which may be others than those of the plan. Of an older point only
	// ID, TakenAt and DriveIDs are known; Point.Machine is still that of the plan.
	Machine *PlannedMachine
	// Attempt counts from 1. Form counts the disk controllers tried, from 0: the one
	// that the machine had.
	Attempt, Form int
	// Say tells people what is going on, in a line.
	Say func(text string)
}

// Result is what a step came to.
type Result struct {
	// Detail is a line: what was seen.
	Detail string `json:"detail,omitempty"`
	// Spent is where time went inside the step, if the step knows.
	Spent map[Spending]time.Duration `json:"spent,omitempty"`
	// ReadBytes came from the drive for it.
	ReadBytes int64 `json:"readBytes,omitempty"`
	// Output is the end of what a command printed, bounded and without secrets.
	Output string `json:"output,omitempty"`
	// Who confirmed, as they said.
	Who string `json:"who,omitempty"`
	// Form says what a boot put in the place of what the machine had, if anything.
	Form string `json:"form,omitempty"`
}

// Evidence are files in the run's folder.
type Evidence struct {
	// Screenshot is a PNG, Console the last lines of the serial console.
	Screenshot string `json:"screenshot,omitempty"`
	Console    string `json:"console,omitempty"`
}
