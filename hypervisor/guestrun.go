package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How often the agent is asked whether a program has ended: often at first, since
// most end at once, and seldom for those that take an hour.
const (
	guestExecFirst  = 50 * time.Millisecond
	guestExecSeldom = time.Second
)

// killPatience is what the end of a program that was killed may take.
const killPatience = 10 * time.Second

// guestPath is the search path of a program that is given variables: without it
// a script would not find its own tools.
const guestPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// RunInGuest is [GuestRunner.GuestRun] over the agent of QEMU. Between two
// questions the agent is free for others.
func RunInGuest(ctx context.Context, run AgentCommand, c GuestCommand) (GuestResult, error) {
	if c.Path == "" {
		return GuestResult{}, errors.New("no program is named")
	}
	pid, err := startInGuest(ctx, run, c)
	if err != nil {
		return GuestResult{}, fmt.Errorf("start %s in the guest: %w", GuestWords(c.Path), err)
	}
	limited, cancel := context.WithCancel(ctx)
	if c.Limit > 0 {
		limited, cancel = context.WithTimeoutCause(ctx, c.Limit, ErrGuestLimit)
	}
	defer cancel()
	result, err := awaitInGuest(limited, run, pid)
	if limited.Err() == nil {
		return result, err
	}
	// What it printed until then says most about why it hung.
	after, done := context.WithTimeout(context.WithoutCancel(ctx), killPatience)
	defer done()
	result, err = killInGuest(after, run, pid)
	cause := context.Cause(limited)
	if err != nil {
		cause = fmt.Errorf("%w (and it may go on there: %w)", cause, err)
	}
	return result, cause
}

// startInGuest returns the number of the program in the guest.
func startInGuest(ctx context.Context, run AgentCommand, c GuestCommand) (pid int64, err error) {
	// The agent insists on an array, also on an empty one.
	order := map[string]any{"path": c.Path, "arg": append([]string{}, c.Args...), "capture-output": true}
	if len(c.Env) > 0 {
		order["env"] = guestEnv(ctx, run, c.Env)
	}
	if len(c.Stdin) > 0 {
		order["input-data"] = c.Stdin
	}
	answer, err := run(ctx, "guest-exec", order)
	if err != nil {
		if said := strings.ToLower(err.Error()); strings.Contains(said, "has been disabled") || strings.Contains(said, "not been found") ||
			strings.Contains(said, "is disabled") {
			err = fmt.Errorf("%w: its agent may not start programs (guest-exec is switched off, as Red Hat's distributions do in /etc/sysconfig/qemu-ga): %w", ErrUnsupported, err)
		}
		return 0, err
	}
	var started struct {
		PID int64 `json:"pid"`
	}
	if err := json.Unmarshal(answer, &started); err != nil {
		return 0, fmt.Errorf("the agent does not say which number it has: %w", err)
	}
	return started.PID, nil
}

// guestEnv adds what a system's programs do not work without.
func guestEnv(ctx context.Context, run AgentCommand, env []string) []string {
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	}
	base := []string{guestPath}
	if answer, err := run(ctx, "guest-get-osinfo", nil); err == nil && guestFamily(answer) == "windows" {
		base = []string{`PATH=C:\Windows\System32;C:\Windows`, `SystemRoot=C:\Windows`, `ComSpec=C:\Windows\System32\cmd.exe`, `TEMP=C:\Windows\Temp`}
	}
	for _, v := range base {
		if name, _, _ := strings.Cut(v, "="); !has(name) {
			env = append(slices.Clone(env), v)
		}
	}
	return env
}

// guestStatus is the answer to guest-exec-status.
type guestStatus struct {
	Exited bool   `json:"exited"`
	Code   int    `json:"exitcode"`
	Signal int    `json:"signal"`
	Out    []byte `json:"out-data"`
	Err    []byte `json:"err-data"`
	OutCut bool   `json:"out-truncated"`
	ErrCut bool   `json:"err-truncated"`
}

// result is what is kept of it.
func (s *guestStatus) result() GuestResult {
	r := GuestResult{ExitCode: s.Code, Signal: s.Signal, Cut: s.OutCut || s.ErrCut}
	if s.Signal != 0 && r.ExitCode == 0 {
		r.ExitCode = 128 + s.Signal // as a shell says it
	}
	keep := func(b []byte) []byte {
		if len(b) > MostGuestOutput {
			b, r.Cut = b[len(b)-MostGuestOutput:], true
		}
		return b
	}
	r.Stdout, r.Stderr = keep(s.Out), keep(s.Err)
	return r
}

// awaitInGuest waits until a program has ended. An agent that does not answer for
// a while is asked again: a guest under load is slow, and its program runs.
func awaitInGuest(ctx context.Context, run AgentCommand, pid int64) (GuestResult, error) {
	for every := guestExecFirst; ; every = min(every*2, guestExecSeldom) {
		answer, err := run(ctx, "guest-exec-status", map[string]any{"pid": pid})
		var status guestStatus
		switch {
		case ctx.Err() != nil:
			return GuestResult{}, context.Cause(ctx)
		case err != nil && refusesPID(err):
			return GuestResult{}, fmt.Errorf("the agent does not know program %d any more, so how it ended is not known (the guest or its agent was started again): %w", pid, err)
		case err != nil:
			// Asked again.
		case json.Unmarshal(answer, &status) != nil:
			return GuestResult{}, errors.New("the agent does not say in order how the program ended")
		case status.Exited:
			return status.result(), nil
		}
		select {
		case <-ctx.Done():
			return GuestResult{}, context.Cause(ctx)
		case <-time.After(every):
		}
	}
}

// refusesPID says that the agent answered, and knows no such program.
func refusesPID(err error) bool {
	return strings.Contains(err.Error(), "'pid'") || strings.Contains(err.Error(), "PID")
}

// killInGuest ends a program in a guest with what it started, and returns what it
// printed. The agent has no word for that: another program does it.
func killInGuest(ctx context.Context, run AgentCommand, pid int64) (GuestResult, error) {
	number := strconv.FormatInt(pid, 10)
	kill := GuestCommand{Path: "/bin/sh", Args: []string{"-c", "kill -KILL -" + number + " 2>/dev/null; kill -KILL " + number + " 2>/dev/null"}}
	if answer, err := run(ctx, "guest-get-osinfo", nil); err == nil && guestFamily(answer) == "windows" {
		kill = GuestCommand{Path: `C:\Windows\System32\taskkill.exe`, Args: []string{"/F", "/T", "/PID", number}}
	}
	if _, err := startInGuest(ctx, run, kill); err != nil {
		return GuestResult{}, err
	}
	return awaitInGuest(ctx, run, pid)
}
