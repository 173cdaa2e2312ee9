package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// runnerOf returns who runs programs in the guest of a step's machine, and what
// its host calls it.
func (k *asker) runnerOf(ctx context.Context, act runbook.Action) (hypervisor.GuestRunner, string, error) {
	host, l, there, err := k.find(ctx, act)
	if err != nil {
		return nil, "", err
	}
	if !there || l.Power == hypervisor.PowerOff {
		return nil, "", fmt.Errorf("%s does not run", act.Machine.Name)
	}
	runner, ok := host.(hypervisor.GuestRunner)
	if !ok {
		return nil, "", &neverPasses{why: "its host does not reach the agents of its guests", next: "ask the machine in another way in the runbook"}
	}
	return runner, hostWord(l), nil
}

// tryAgent asks whether the guest's agent answers.
func (k *asker) tryAgent(ctx context.Context, act runbook.Action) error {
	runner, machine, err := k.runnerOf(ctx, act)
	if err != nil {
		return err
	}
	return unsupportedNever(runner.GuestPing(ctx, machine))
}

// unsupportedNever makes of what a host cannot do at all something that is not
// tried again.
func unsupportedNever(err error) error {
	if !errors.Is(err, hypervisor.ErrUnsupported) {
		return err
	}
	p := problemOf(err)
	return &neverPasses{why: p.What, next: p.Next}
}

// mostConsoleText is how much of the serial line is looked through.
const mostConsoleText = 1 << 20

// tryConsole looks whether the machine printed a text on its serial line.
func (k *asker) tryConsole(ctx context.Context, act runbook.Action, c runbook.Check) (string, error) {
	host, l, there, err := k.find(ctx, act)
	if err != nil {
		return "", err
	}
	printer, ok := host.(hypervisor.Printer)
	if !ok {
		return "", &neverPasses{why: "its host does not keep what it prints on its serial line", next: "ask the machine in another way in the runbook"}
	}
	if !there {
		return "", fmt.Errorf("%s is not there", act.Machine.Name)
	}
	text, err := printer.Printed(ctx, hostWord(l), mostConsoleText)
	if err != nil {
		return "", unsupportedNever(err)
	}
	if bytes.Contains(text, []byte(c.Text)) {
		return "printed", nil
	}
	return "", fmt.Errorf("it did not print that; its last line is %q", lastWords(text))
}

// tryGuest runs the command of a check in the guest: 0 passes.
func (k *asker) tryGuest(ctx context.Context, act runbook.Action, c runbook.Check) (string, error) {
	r, err := k.inGuest(ctx, act, c.Command, nil)
	if err != nil {
		return "", err
	}
	if r.ExitCode != 0 {
		return "", fmt.Errorf("it ended with %d: %s", r.ExitCode, lastWords(r.Stderr, r.Stdout))
	}
	return lastWords(r.Stdout), nil
}

// lastWords is the last line of the first text that has one, for a person.
func lastWords(texts ...[]byte) string {
	for _, text := range texts {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
			return hypervisor.GuestWords(mask(last, nil))
		}
	}
	return ""
}

// inGuest runs a command in the guest of a step's machine, bounded by ctx.
func (k *asker) inGuest(ctx context.Context, act runbook.Action, command []string, env map[string]string) (hypervisor.GuestResult, error) {
	runner, machine, err := k.runnerOf(ctx, act)
	if err != nil {
		return hypervisor.GuestResult{}, err
	}
	if len(command) == 0 {
		return hypervisor.GuestResult{}, &neverPasses{why: "it names no command"}
	}
	c := hypervisor.GuestCommand{Path: command[0], Args: command[1:], Env: append(k.variables(act), pairs(env)...)}
	if end, ok := ctx.Deadline(); ok {
		// A moment before ctx ends, so that the program is ended in the guest too.
		c.Limit = max(time.Until(end)-time.Second, time.Millisecond)
	}
	r, err := runner.GuestRun(ctx, machine, c)
	return r, unsupportedNever(err)
}

// agentEvery is how often an agent that is not there yet is asked again.
const agentEvery = time.Second

// guest runs the command of a step in the guest, once its agent is there.
func (k *asker) guest(ctx context.Context, act runbook.Action) (runbook.Result, error) {
	limit := cmp.Or(act.Step.Step.Limit, runbook.DefaultLimit)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	secrets := secretValues(act.Step.Step.Env)
	r, err := k.inReadyGuest(ctx, act, act.Step.Step.Command)
	output := mask(string(slices.Concat(r.Stdout, r.Stderr)), secrets)
	result := runbook.Result{Output: tail(output, mostOutput)}
	k.keepOutput(act, []byte(output))
	switch {
	case err == nil && r.ExitCode == 0:
		result.Detail = "ended with 0"
		return result, nil
	case err == nil:
		err = fmt.Errorf("it ended with %d", r.ExitCode)
	case ctx.Err() != nil && !errors.Is(err, hypervisor.ErrGuestLimit):
		err = fmt.Errorf("it did not end within %s: %w: %w", humanDuration(limit), runbook.ErrLimit, err)
	case errors.Is(err, hypervisor.ErrGuestLimit):
		err = fmt.Errorf("%w: %w", runbook.ErrLimit, err)
	}
	return result, commandFailed(act, err, lastWords([]byte(mask(string(r.Stderr), secrets)), []byte(output)))
}

// inReadyGuest runs a command of a step in the guest, once its agent is there.
func (k *asker) inReadyGuest(ctx context.Context, act runbook.Action, command []string) (hypervisor.GuestResult, error) {
	for {
		r, err := k.inGuest(ctx, act, command, act.Step.Step.Env)
		if !errors.Is(err, hypervisor.ErrNoAgent) || ctx.Err() != nil {
			return r, err
		}
		act.Say("waits for the agent in the guest")
		select {
		case <-ctx.Done():
		case <-time.After(agentEvery):
		}
	}
}

// guestDone runs the probe of a guest step in the guest. As the step itself, it waits
// for the agent of a guest that still boots.
func (k *asker) guestDone(ctx context.Context, act runbook.Action) (bool, error) {
	if len(act.Step.Step.Done) == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(act.Step.Step.Limit, runbook.DefaultLimit))
	defer cancel()
	r, err := k.inReadyGuest(ctx, act, act.Step.Step.Done)
	return err == nil && r.ExitCode == 0, err
}

// commandFailed is the problem of a command of the runbook.
func commandFailed(act runbook.Action, err error, said string) error {
	what := act.Step.ID
	if act.Machine != nil {
		what = act.Machine.Name + ": " + what
	}
	p := &lifeboat.Problem{
		What: fmt.Sprintf("%s: %v", what, err), Safe: "what it did until then stays done; the drive is only read",
		Next: "read what it printed in the run's folder, put it right, and go on: lifeboat recover --resume", Err: err,
	}
	if said != "" {
		p.What += ": " + said
	}
	return p
}

// guestWay asks inside the guest, where nobody else's network is in between.
type guestWay struct {
	runner  hypervisor.GuestRunner
	machine string
}

func (w *guestWay) ask(ctx context.Context, c runbook.Check) (string, error) {
	switch c.Kind {
	case runbook.CheckTCP:
		return w.askTCP(ctx, portOf(c))
	case runbook.CheckHTTP, runbook.CheckHTTPS:
		return w.askHTTP(ctx, c)
	}
	return "", &neverPasses{
		why:  fmt.Sprintf("the machine is reached through its guest agent alone, which cannot make a check of kind %s", c.Kind),
		next: "ask it with tcp, http, agent, console or guest in the runbook, or run it as root on a qemu host of this computer",
	}
}

func (w *guestWay) run(ctx context.Context, path string, args ...string) (hypervisor.GuestResult, error) {
	r, err := w.runner.GuestRun(ctx, w.machine, hypervisor.GuestCommand{Path: path, Args: args, Limit: tryLimit})
	return r, unsupportedNever(err)
}

// askTCP asks the guest's kernel whether somebody listens on a port, at an address
// that others reach. It needs no program but cat.
func (w *guestWay) askTCP(ctx context.Context, port int) (string, error) {
	r, err := w.run(ctx, "/bin/cat", "/proc/net/tcp", "/proc/net/tcp6")
	if err != nil {
		return "", err
	}
	if len(r.Stdout) == 0 {
		return "", &neverPasses{why: "the guest does not tell who listens in it (only Linux does)", next: "ask it with guest or agent in the runbook"}
	}
	if !listens(string(r.Stdout), port) {
		return "", fmt.Errorf("nobody in the guest listens on port %d", port)
	}
	return "the guest says that somebody listens", nil
}

// listens reads the kernel's table of TCP sockets (proc(5)): the local address in
// hexadecimal, and state 0A for one that listens.
func listens(table string, port int) bool {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != "0A" {
			continue
		}
		address, number, ok := strings.Cut(f[1], ":")
		n, err := strconv.ParseUint(number, 16, 16)
		if ok && err == nil && int(n) == port && !loopbackHex(address) {
			return true
		}
	}
	return false
}

// loopbackHex says that an address of that table is one that only the guest itself
// reaches. The kernel prints words in the byte order of the guest, a PC's.
func loopbackHex(address string) bool {
	switch len(address) {
	case 8:
		n, err := strconv.ParseUint(address, 16, 32)
		return err == nil && netip.AddrFrom4([4]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}).IsLoopback()
	case 32:
		return strings.EqualFold(address, "00000000000000000000000001000000")
	}
	return false
}

// askHTTP has the guest ask itself, with curl or wget.
func (w *guestWay) askHTTP(ctx context.Context, c runbook.Check) (string, error) {
	host := cmp.Or(c.HostName, "127.0.0.1")
	url := fmt.Sprintf("%s://%s:%d%s", c.Kind, host, portOf(c), cmp.Or(c.Path, "/"))
	r, err := w.run(ctx, "curl", "-sS", "-k", "--noproxy", "*", "--max-time", "9", "--resolve",
		fmt.Sprintf("%s:%d:127.0.0.1", host, portOf(c)), "-w", "\n%{http_code}", url)
	if err != nil && strings.Contains(err.Error(), "No such file") {
		return "", &neverPasses{why: "the guest has no curl to ask itself with", next: "install curl in it, or ask it with tcp or guest in the runbook"}
	}
	if err != nil {
		return "", err
	}
	if r.ExitCode != 0 {
		return "", fmt.Errorf("the guest cannot ask itself: %s", lastWords(r.Stderr))
	}
	at := strings.LastIndex(string(r.Stdout), "\n")
	status, _ := strconv.Atoi(strings.TrimSpace(string(r.Stdout)[at+1:]))
	if want := cmp.Or(c.Status, http.StatusOK); status != want {
		return "", fmt.Errorf("it answers %d, and %d is wanted", status, want)
	}
	if !strings.Contains(string(r.Stdout), c.Body) {
		return "", fmt.Errorf("it answers %d, and its page does not end with the text %q in it", status, c.Body)
	}
	return fmt.Sprintf("answers %d inside the guest", status), nil
}
