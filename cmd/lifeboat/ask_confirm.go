package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/runbook"
)

// longestAnswer bounds the name of whoever says yes, in bytes.
const longestAnswer = 200

// confirm asks a person, who answers with a name, or with no. Without a terminal
// the run ends as it is and waits.
func (k *asker) confirm(ctx context.Context, act runbook.Action) (runbook.Result, error) {
	s := act.Step.Step
	whom := "somebody"
	if s.Who != "" {
		whom = oneLine(plainText(s.Who))
	}
	if !isTerminal(k.a.stdin) {
		return runbook.Result{}, &lifeboat.Problem{
			What: fmt.Sprintf("%s has to say yes, and nobody is at a terminal: %s", whom, oneLine(plainText(s.Text))),
			Safe: "what was done so far stays done; nothing that waits for this was begun",
			Next: "go on at a terminal: lifeboat " + string(k.plan.Mode) + " --resume " + short(k.run.ID),
			Err:  errNeedsPerson,
		}
	}
	if err := k.a.takeTerminal(ctx); err != nil {
		return runbook.Result{}, err
	}
	defer k.a.terminal.Unlock()
	// What is asked says itself that it waits: a line about it would stand in the answer.
	for {
		k.a.ask(fmt.Sprintf("\n%s\nTo be said by: %s\nWho says yes? Type a name, or no: ", strings.TrimSpace(s.Text), whom))
		name, err := readLine(ctx, k.a.stdin.(*os.File))
		if err != nil {
			k.a.ask("\n")
			return runbook.Result{}, err
		}
		switch strings.ToLower(name) {
		case "no", "n":
			return runbook.Result{}, &lifeboat.Problem{
				What: fmt.Sprintf("%s: a person said no: %s", act.Step.ID, oneLine(plainText(s.Text))),
				Safe: "what was done so far stays done; nothing that waits for this was begun",
				Next: "when it may go on after all: lifeboat " + string(k.plan.Mode) + " --resume " + short(k.run.ID),
				Err:  runbook.ErrRefused,
			}
		case "", "yes", "y":
			k.a.ask("The name is kept with the answer, so that it can be asked about later.\n")
		default:
			return runbook.Result{Who: name, Detail: "yes, says " + name}, nil
		}
	}
}

// readLine reads a line that is typed from now on: what was typed before the
// question is no answer to it. It leaves nothing behind that reads.
func readLine(ctx context.Context, in *os.File) (string, error) {
	fd := int(in.Fd())
	if err := unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH); err != nil {
		return "", fmt.Errorf("ask at the terminal: %w", err)
	}
	var line []byte
	buffer := make([]byte, 4096)
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, int(lineEvery.Milliseconds()))
		if err != nil && err != unix.EINTR {
			return "", fmt.Errorf("ask at the terminal: %w", err)
		}
		if n < 1 {
			continue
		}
		// A terminal gives a line at a time.
		got, err := unix.Read(fd, buffer)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || got == 0 {
			return "", &lifeboat.Problem{
				What: "the terminal was closed before somebody answered", Safe: "nothing was done after the question",
				Next: "go on at a terminal with --resume", Err: errNeedsPerson,
			}
		}
		line = append(line, buffer[:got]...)
		if text, _, whole := strings.Cut(string(line), "\n"); whole || len(line) > len(buffer) {
			text = strings.TrimSpace(oneLine(plainText(text)))
			for len(text) > longestAnswer || !utf8.ValidString(text) {
				text = strings.ToValidUTF8(text[:min(len(text), longestAnswer)], "")
			}
			return text, nil
		}
	}
}
