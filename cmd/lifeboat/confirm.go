package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"lifeboat"
)

// confirm shows what is about to happen and asks.
func (a *app) confirm(ctx context.Context, yes bool, plan string) error {
	return a.confirmWord(ctx, yes, plan, "yes")
}

// confirmWord asks a person to type a word: yes, or the name of what is erased.
func (a *app) confirmWord(ctx context.Context, yes bool, plan, word string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.stdin) {
		return &lifeboat.Problem{
			What: "a person has to say yes to this, and none is here: " + sentence(plan),
			Safe: "nothing was done",
			Next: "if that is meant, run it again with --yes",
			Err:  errNeedsPerson,
		}
	}
	if err := a.takeTerminal(ctx); err != nil {
		return err
	}
	defer a.terminal.Unlock()
	a.ask(plan + "Go on? Type " + word + ": ")
	answer, err := a.typed(ctx, func(in *os.File) (string, error) { return bufio.NewReader(in).ReadString('\n') })
	if ctx.Err() != nil {
		return err
	}
	if err != nil || strings.TrimRight(answer, "\r\n") != word {
		return &lifeboat.Problem{What: "not confirmed", Safe: "nothing was done", Next: "run the command again and type " + word, Err: errNeedsPerson}
	}
	return nil
}

// sentence is a plan of several lines on one.
func sentence(plan string) string {
	return oneLine(strings.NewReplacer(":\n", ": ", "\n", "; ").Replace(strings.TrimSpace(plan)))
}

// ask prints a question. What it quotes may come from a guest.
func (a *app) ask(text string) {
	a.outMu.Lock()
	defer a.outMu.Unlock()
	a.clearLine()
	io.WriteString(a.stderr, plainText(text))
}

// lineEvery is how often somebody who waits at the terminal looks whether nobody
// waits for the answer any more.
const lineEvery = 100 * time.Millisecond

// takeTerminal waits until nobody else asks a person. Who has it unlocks it.
func (a *app) takeTerminal(ctx context.Context) error {
	for ctx.Err() == nil {
		if a.terminal.TryLock() {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(lineEvery):
		}
	}
	return context.Cause(ctx)
}

// typed returns what a person types, or the reason why ctx ended: Ctrl-C at a
// question is an answer too. The terminal is then as it was before, whatever
// read is still waiting for.
func (a *app) typed(ctx context.Context, read func(in *os.File) (string, error)) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	in := a.stdin.(*os.File)
	before, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", fmt.Errorf("ask at the terminal: %w", err)
	}
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := read(in)
		got <- answer{text, err}
	}()
	select {
	case <-ctx.Done():
		term.Restore(int(in.Fd()), before)
		a.ask("\n")
		return "", context.Cause(ctx)
	case answer := <-got:
		return answer.text, answer.err
	}
}
