package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/runbook"
)

// emptyLab is a namespace with nothing in it.
type emptyLab struct {
	testLab
	t *testing.T
}

func (l *emptyLab) Namespace(context.Context) (*os.File, error) {
	type made struct {
		f   *os.File
		err error
	}
	got := make(chan made)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			got <- made{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		got <- made{f, err}
	}()
	m := <-got
	return m.f, m.err
}

// confirmed asks for a yes at a terminal where a person types the given lines, each
// when the question stands there.
func confirmed(t *testing.T, lines ...string) (r runbook.Result, screen string, err error) {
	t.Helper()
	k, _, act := newAskTest(t, runbook.Recover, nil)
	person, program := terminal(t)
	t.Setenv("TERM", "vt100")
	out := &syncBuffer{}
	k.a.stdin, k.a.stderr = program, out
	act.Step.Kind, act.Step.Step = runbook.StepConfirm, runbook.Step{Text: "Is the insurer told?\nHe is at 555.", Who: "Eva Lindt"}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	typed := make(chan struct{})
	go func() {
		defer close(typed)
		for i, line := range lines {
			for strings.Count(out.String(), "Who says yes?") <= i && ctx.Err() == nil {
				time.Sleep(5 * time.Millisecond)
			}
			time.Sleep(2 * lineEvery) // what comes with the question is thrown away
			person.WriteString(line + "\n")
		}
	}()
	r, err = k.Do(ctx, act)
	<-typed
	return r, out.String(), err
}

func TestAPersonConfirmsWithAName(t *testing.T) {
	r, screen, err := confirmed(t, "yes", "", "  Eva\x1b[31m Lindt ")
	if err != nil || !strings.HasPrefix(r.Who, "Eva") || strings.ContainsRune(r.Who, 0x1b) {
		t.Errorf("%v: %+v", err, r)
	}
	if !strings.Contains(screen, "He is at 555.") || !strings.Contains(screen, "To be said by: Eva Lindt") {
		t.Errorf("the screen:\n%s", screen)
	}
}

func TestAPersonSaysNo(t *testing.T) {
	if _, _, err := confirmed(t, "No"); !errors.Is(err, runbook.ErrRefused) {
		t.Errorf("it ended with %v", err)
	}
}

func TestAQuestionWithoutATerminalWaitsForAPerson(t *testing.T) {
	t.Parallel()
	k, _, act := newAskTest(t, runbook.Recover, nil)
	act.Step.Kind, act.Step.Step = runbook.StepConfirm, runbook.Step{Text: "Is it a disaster?", Who: "Eva Lindt"}
	_, err := k.Do(t.Context(), act)
	if !errors.Is(err, runbook.ErrPerson) || exitCode(err) != exitPerson || !strings.Contains(problemOf(err).What, "Eva Lindt has to say yes") {
		t.Errorf("it ended with %v", err)
	}
}

func TestAQuestionThatNobodyWaitsForAnyMoreReadsNothing(t *testing.T) {
	k, _, act := newAskTest(t, runbook.Recover, nil)
	person, program := terminal(t)
	t.Setenv("TERM", "vt100")
	k.a.stdin = program
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	act.Step.Kind, act.Step.Step = runbook.StepConfirm, runbook.Step{Text: "Go on?"}
	if _, err := k.Do(ctx, act); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	person.WriteString("for the next\n")
	buffer := make([]byte, 100)
	if n, err := program.Read(buffer); err != nil || string(buffer[:n]) != "for the next\n" {
		t.Errorf("the next question reads %q (%v)", buffer[:n], err)
	}
}

// TestOneQuestionAtATimeIsAtTheTerminal: the answer to one is never taken for that to
// another.
func TestOneQuestionAtATimeIsAtTheTerminal(t *testing.T) {
	k, _, act := newAskTest(t, runbook.Recover, nil)
	person, program := terminal(t)
	t.Setenv("TERM", "vt100")
	out := &syncBuffer{}
	k.a.stdin, k.a.stderr = program, out
	act.Step.Kind, act.Step.Step = runbook.StepConfirm, runbook.Step{Text: "Is it a disaster?"}
	type answer struct {
		text string
		err  error
	}
	secret, name := make(chan answer, 1), make(chan answer, 1)
	go func() {
		text, err := k.a.typeSecret(t.Context(), "Secret")
		secret <- answer{text, err}
	}()
	waitUntil(t, "the secret is asked for", func() bool { return strings.Contains(out.String(), "Secret: ") && !echoes(t, program) })
	go func() {
		r, err := k.Do(t.Context(), act)
		name <- answer{r.Who, err}
	}()
	short, cancel := context.WithTimeout(t.Context(), 5*lineEvery)
	defer cancel()
	if _, err := k.a.typeSecret(short, "Another"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a question that nobody waits for any more: %v", err)
	}
	if said := out.String(); strings.Contains(said, "Who says yes?") || strings.Contains(said, "Another") {
		t.Errorf("two questions at once: %q", said)
	}
	person.WriteString("a secret word\n")
	if got := <-secret; got.text != "a secret word" || got.err != nil {
		t.Errorf("the secret is %q (%v)", got.text, got.err)
	}
	waitUntil(t, "the yes is asked for", func() bool { return strings.Contains(out.String(), "Who says yes?") })
	time.Sleep(2 * lineEvery) // what comes with the question is thrown away
	person.WriteString("Eva\n")
	if got := <-name; got.text != "Eva" || got.err != nil {
		t.Errorf("the name is %q (%v)", got.text, got.err)
	}
}

// halfAlive is an asker whose machine is to be plugged into a bridge of this
// computer, where somebody may answer already.
func halfAlive(t *testing.T, who string) (*asker, *askedHost, runbook.Action, *[]string) {
	t.Helper()
	k, host, act := newAskTest(t, runbook.Recover, nil)
	k.bridges = func() []string { return []string{"br-none"} }
	host.links[0] = false
	var asked []string
	k.probe = func(_ context.Context, bridge string, a netip.Addr, mac net.HardwareAddr) (string, error) {
		asked = append(asked, bridge+" "+a.String()+" "+mac.String())
		return who, nil
	}
	act.Step.Kind = runbook.StepConnect
	return k, host, act, &asked
}

func TestAMachineWhoseAddressIsInUseIsNotPluggedIn(t *testing.T) {
	t.Parallel()
	k, host, act, asked := halfAlive(t, "192.0.2.7 answers there, with the MAC 52:54:00:00:00:99")
	_, err := k.Do(t.Context(), act)
	if !errors.Is(err, runbook.ErrAddressInUse) || host.links[0] {
		t.Errorf("it ended with %v; the cable is in: %v", err, host.links[0])
	}
	for _, want := range []string{"web:", "192.0.2.7", "52:54:00:00:00:01", "52:54:00:00:00:99"} {
		if !strings.Contains(problemOf(err).What, want) {
			t.Errorf("%q is not in: %s", want, problemOf(err).What)
		}
	}
	if len(*asked) != 1 || !strings.HasSuffix((*asked)[0], " 192.0.2.7 52:54:00:00:00:01") {
		t.Errorf("asked for %v", *asked)
	}
}

func TestAMachineWhoseAddressIsFreeIsPluggedInOnce(t *testing.T) {
	t.Parallel()
	k, host, act, asked := halfAlive(t, "")
	if done, err := k.Done(t.Context(), act); done || err != nil {
		t.Errorf("before: %v, %v", done, err)
	}
	if r, err := k.Do(t.Context(), act); err != nil || !host.links[0] || !strings.Contains(r.Detail, "nobody on lan answered at 192.0.2.7") {
		t.Errorf("%v: %+v", err, r)
	}
	if done, err := k.Done(t.Context(), act); !done || err != nil {
		t.Errorf("after: %v, %v", done, err)
	}
	// Done again, as after a kill: ours would answer, and is not asked.
	if _, err := k.Do(t.Context(), act); err != nil || len(*asked) != 1 {
		t.Errorf("again: %v; asked %v", err, *asked)
	}
}

func TestADrillPlugsNothingIn(t *testing.T) {
	t.Parallel()
	k, host, act := newAskTest(t, runbook.Drill, nil)
	host.links[0] = false
	act.Step.Kind = runbook.StepConnect
	if _, err := k.Do(t.Context(), act); err != nil || host.links[0] {
		t.Errorf("%v; the cable is in: %v", err, host.links[0])
	}
}

func TestAPingIsAnsweredByThisComputer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := hostPing(ctx, "127.0.0.1"); errors.Is(err, errNoPing) {
		t.Skip("needs a raw socket: run the tests as root")
	} else if err != nil {
		t.Error(err)
	}
}
