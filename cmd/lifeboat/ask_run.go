package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"lifeboat"
	"lifeboat/runbook"
)

const (
	// mostOutput is how much of what a command printed stands in the record, and
	// mostKept how much is kept in the run's folder.
	mostOutput = 4 << 10
	mostKept   = 1 << 20
	// probeLimit is what the probe of a step may take.
	probeLimit = time.Minute
	// outputFolder is, in the run's folder, where the output of commands is kept.
	outputFolder = "printed"
)

// inheritedVariables are what a command has of whoever started Lifeboat. No more:
// a recovery that works from one person's shell alone was not rehearsed.
var inheritedVariables = regexp.MustCompile(`^(PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_[A-Z]+|TZ|TMPDIR|TERM)=`)

// stepVariable marks the processes of a step, so that all of them are found when
// its time is over, wherever they went.
const stepVariable = "LIFEBOAT_STEP"

// command runs the command of a step on this computer.
func (k *asker) command(ctx context.Context, act runbook.Action) (runbook.Result, error) {
	limit := cmp.Or(act.Step.Step.Limit, runbook.DefaultLimit)
	s := act.Step.Step
	out, err := k.execute(ctx, act, s.Command, s.Env, limit)
	text := mask(string(out), secretValues(s.Env))
	k.keepOutput(act, []byte(text))
	r := runbook.Result{Output: tail(text, mostOutput), Detail: "ended with 0"}
	if err != nil {
		r.Detail = ""
		err = commandFailed(act, err, lastWords([]byte(text)))
	}
	return r, err
}

// commandDone runs the probe of a run step: 0 says that its work is done.
func (k *asker) commandDone(ctx context.Context, act runbook.Action) (bool, error) {
	if len(act.Step.Step.Done) == 0 {
		return false, nil
	}
	_, err := k.execute(ctx, act, act.Step.Step.Done, act.Step.Step.Env, probeLimit)
	var code *endedWith
	if errors.As(err, &code) {
		return false, nil
	}
	return err == nil, err
}

// tryCommand runs the command of a check: 0 passes.
func (k *asker) tryCommand(ctx context.Context, act runbook.Action, c runbook.Check) (string, error) {
	limit := cmp.Or(c.Timeout, tryLimit)
	out, err := k.execute(ctx, act, c.Command, nil, limit)
	said := lastWords(out)
	if err != nil && said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return said, err
}

// endedWith is a command that ended, and did not do its work.
type endedWith struct{ code int }

func (e *endedWith) Error() string { return fmt.Sprintf("it ended with %d", e.code) }

// errOverLimit: a command had not ended at its limit, and was killed.
var errOverLimit = fmt.Errorf("it did not end in its time and was killed with everything that it started: %w", runbook.ErrLimit)

// execute runs a command without a shell, and returns the end of what it printed.
// It ends with ctx and at its limit, with all processes that came from it.
func (k *asker) execute(ctx context.Context, act runbook.Action, command []string, env map[string]string, limit time.Duration) ([]byte, error) {
	if len(command) == 0 {
		return nil, &neverPasses{why: "it names no command", next: "correct it in the runbook"}
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil, &neverPasses{why: fmt.Sprintf("this computer has no program %s", shellWord(command[0])), next: "install it, or correct the runbook"}
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	inside, err := k.whereToRun(ctx, act)
	if err != nil {
		return nil, err
	}
	if inside != nil {
		defer inside.Close()
	}
	mark := stepVariable + "=" + k.mark(act)
	cmd := &exec.Cmd{
		Path: path, Args: command,
		Env:         slices.Concat(inherited(), pairs(env), k.variables(act), []string{mark}),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	over, err := k.noteCommand(act, mark)
	if err != nil {
		return nil, fmt.Errorf("write down that %s runs: %w", shellWord(command[0]), err)
	}
	defer over()
	var out lastBytes
	cmd.Stdout, cmd.Stderr = &out, &out
	// A child that outlives it may hold its output open: that is not waited for.
	cmd.WaitDelay = time.Second
	resolv, err := k.resolvConf()
	if err != nil {
		return nil, fmt.Errorf("lead names to the lab: %w", err)
	}
	if err := start(cmd, inside, resolv); err != nil {
		return nil, fmt.Errorf("start %s: %w", shellWord(command[0]), err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, limit, errOverLimit)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-limited.Done():
		killAll(cmd.Process.Pid, mark)
		<-ended
		return out.bytes(), context.Cause(limited)
	}
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // it ended; somebody whom it left behind goes on, as it wished
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		err = &endedWith{exit.ExitCode()}
	}
	return out.bytes(), err
}

// mark names a try of a step.
func (k *asker) mark(act runbook.Action) string {
	return k.run.ID + "/" + act.Step.ID + "/" + strconv.Itoa(act.Attempt)
}

// killAll ends a process, its session, and whatever else bears its mark.
func killAll(pid int, mark string) {
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	killMarked(mark)
}

// marked are the living processes that have a variable of that value.
func marked(mark string) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// That of another user, or one that ended, cannot be read and is not ours.
		environ, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && slices.ContainsFunc(bytes.Split(environ, []byte{0}), func(v []byte) bool { return string(v) == mark }) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func inherited() (env []string) {
	for _, v := range os.Environ() {
		if inheritedVariables.MatchString(v) {
			env = append(env, v)
		}
	}
	return env
}

// pairs are variables as a system takes them, in the order of their names.
func pairs(env map[string]string) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

var notInName = regexp.MustCompile(`[^A-Z0-9]`)

// variables tell a command where it is: the run, the mode, the site, and the first
// address of each machine.
func (k *asker) variables(act runbook.Action) []string {
	list := []string{"LIFEBOAT_RUN=" + k.run.ID, "LIFEBOAT_MODE=" + string(k.plan.Mode), "LIFEBOAT_SITE=" + k.plan.Site}
	if act.Machine != nil {
		list = append(list, "LIFEBOAT_MACHINE="+act.Machine.Name)
	}
	for _, m := range k.plan.Machines {
		for _, card := range m.Cards {
			if a, ok := cardAddress(card); ok {
				list = append(list, "LIFEBOAT_ADDRESS_"+notInName.ReplaceAllString(strings.ToUpper(m.Name), "_")+"="+a.String())
				break
			}
		}
	}
	return list
}

// keepOutput keeps what a command printed in the run's folder. That it cannot be
// kept is told and fails no step.
func (k *asker) keepOutput(act runbook.Action, text []byte) {
	dir := filepath.Join(k.run.dir, outputFolder)
	err := os.Mkdir(dir, 0o700)
	if err == nil || errors.Is(err, fs.ErrExist) {
		name := notInFile.ReplaceAllString(act.Step.ID, "_")
		err = writeFile(filepath.Join(dir, fmt.Sprintf("%s-%d.txt", name[:min(len(name), 100)], act.Attempt)), text, 0o600)
	}
	if err != nil {
		k.a.warn("what %s printed could not be kept: %v", act.Step.ID, err)
	}
}

var notInFile = regexp.MustCompile(`[^A-Za-z0-9_-]`)

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	mu   sync.Mutex
	data []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.data = append(l.data, p...)
	if over := len(l.data) - 2*mostKept; over > 0 {
		l.data = append(l.data[:0], l.data[len(l.data)-mostKept:]...)
	}
	return len(p), nil
}

func (l *lastBytes) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.data[max(0, len(l.data)-mostKept):])
}

// whereToRun is the network namespace that a command runs in; nil: this computer's
// own. In a drill there is none but the lab's, also for a step that is for drills
// alone: its smoke test that writes a row would write it to production.
func (k *asker) whereToRun(ctx context.Context, act runbook.Action) (*os.File, error) {
	switch {
	case !k.drill():
		return nil, nil
	case k.lab != nil:
		return k.lab.Namespace(ctx)
	}
	p := &lifeboat.Problem{
		What: fmt.Sprintf("%s: a drill without a lab runs no command on this computer, because it could reach production", act.Step.ID),
		Safe: "it was not started",
		Next: "run the drill as root with a qemu host of this computer, or say when: recover at that step",
	}
	p.Err = &neverPasses{why: p.What, next: p.Next}
	return nil, p
}
