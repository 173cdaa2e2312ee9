package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// runStep lets a run step do a command.
func runStep(t *testing.T, k *asker, act runbook.Action, s runbook.Step) (runbook.Result, error) {
	t.Helper()
	act.Step.Kind, act.Step.Step = runbook.StepRun, s
	return k.Do(t.Context(), act)
}

func TestACommandHasItsVariablesAndNoShell(t *testing.T) {
	t.Setenv("HOMEMADE_SECRET", "of the person's shell")
	k, _, act := newAskTest(t, runbook.Recover, nil)
	r, err := runStep(t, k, act, runbook.Step{Command: []string{"env"}, Env: map[string]string{"DNS_TOKEN": "very-secret"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"LIFEBOAT_RUN=" + k.run.ID, "LIFEBOAT_MODE=recover", "LIFEBOAT_SITE=Example Ltd", "LIFEBOAT_ADDRESS_WEB=192.0.2.7", "PATH=", "DNS_TOKEN=" + masked} {
		if !strings.Contains(r.Output, want) {
			t.Errorf("%q is not in:\n%s", want, r.Output)
		}
	}
	if strings.Contains(r.Output, "HOMEMADE") || strings.Contains(r.Output, "very-secret") {
		t.Errorf("it has more than it was given:\n%s", r.Output)
	}
	if r, err = runStep(t, k, act, runbook.Step{Command: []string{"echo", "$HOME; exit 3"}}); err != nil || !strings.Contains(r.Output, "$HOME; exit 3") {
		t.Errorf("%v: %s", err, r.Output)
	}
	kept, err := os.ReadFile(filepath.Join(k.run.dir, outputFolder, "step-web-1.txt"))
	if err != nil || !strings.Contains(string(kept), "$HOME; exit 3") {
		t.Errorf("kept: %q (%v)", kept, err)
	}
}

func TestACommandThatHangsIsKilledWithItsChildren(t *testing.T) {
	t.Parallel()
	k, _, act := newAskTest(t, runbook.Recover, nil)
	dir := t.TempDir()
	// One child in its group, one that left it, and one that left it and detached.
	script := `echo began; sleep 600 & setsid sleep 600 & (setsid sh -c 'sleep 600; echo late >` + dir + `/late' & ) ; wait`
	began := time.Now()
	r, err := runStep(t, k, act, runbook.Step{Command: []string{"sh", "-c", script}, Limit: 5 * time.Second})
	if !errors.Is(err, errOverLimit) || !strings.Contains(r.Output, "began") {
		t.Errorf("it ended with %v and printed %q", err, r.Output)
	}
	if time.Since(began) > 2*time.Minute {
		t.Errorf("it took %v", time.Since(began))
	}
	if left := marked(stepVariable + "=" + k.mark(act)); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

func TestACommandEndsWithTheRun(t *testing.T) {
	t.Parallel()
	k, _, act := newAskTest(t, runbook.Recover, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped by a person")
	time.AfterFunc(200*time.Millisecond, func() { cancel(stopped) })
	act.Step.Kind, act.Step.Step = runbook.StepRun, runbook.Step{Command: []string{"sleep", "600"}, Limit: time.Hour}
	if _, err := k.Do(ctx, act); !errors.Is(err, stopped) {
		t.Errorf("it ended with %v", err)
	}
}

func TestACommandMayLeaveADaemonBehindAndMayPrintWithoutEnd(t *testing.T) {
	t.Parallel()
	k, _, act := newAskTest(t, runbook.Recover, nil)
	if _, err := runStep(t, k, act, runbook.Step{Command: []string{"sh", "-c", "sleep 20 & echo started"}, Limit: 10 * time.Minute}); err != nil {
		t.Errorf("a command whose child holds its output: %v", err)
	}
	killMarked(stepVariable + "=" + k.mark(act))
	r, err := runStep(t, k, act, runbook.Step{Command: []string{"sh", "-c", "head -c 6000000 /dev/zero | tr '\\0' x; echo; echo the end"}, Limit: 10 * time.Minute})
	if err != nil || r.Output != "the end\n" {
		t.Errorf("%v: it keeps %d bytes", err, len(r.Output))
	}
	kept, err := os.Stat(filepath.Join(k.run.dir, outputFolder, "step-web-1.txt"))
	if err != nil || kept.Size() > mostKept || kept.Mode().Perm() != 0o600 {
		t.Errorf("kept: %v (%v)", kept, err)
	}
}

func TestTheProbeOfACommandSaysWhetherItIsDone(t *testing.T) {
	t.Parallel()
	k, _, act := newAskTest(t, runbook.Recover, nil)
	act.Step.Kind = runbook.StepRun
	for _, test := range []struct {
		probe []string
		done  bool
		fails bool
	}{{nil, false, false}, {[]string{"true"}, true, false}, {[]string{"false"}, false, false}, {[]string{"no-such-program-here"}, false, true}} {
		act.Step.Step = runbook.Step{Command: []string{"false"}, Done: test.probe}
		if done, err := k.Done(t.Context(), act); done != test.done || (err != nil) != test.fails {
			t.Errorf("%q: %v, %v", test.probe, done, err)
		}
	}
	if _, err := runStep(t, k, act, runbook.Step{Command: []string{"sh", "-c", "echo no space >&2; exit 7"}}); err == nil || problemOf(err).What != "web: step-web: it ended with 7: no space" {
		t.Errorf("a command that fails: %v", err)
	}
}

func TestADrillRunsNoCommandOutsideTheLab(t *testing.T) {
	t.Parallel()
	touched := filepath.Join(t.TempDir(), "production")
	k, _, act := newAskTest(t, runbook.Drill, nil)
	if _, err := runStep(t, k, act, runbook.Step{Command: []string{"touch", touched}}); err == nil || !strings.Contains(problemOf(err).What, "could reach production") {
		t.Errorf("it ended with %v", err)
	}
	act.Step.Step.Done = []string{"touch", touched}
	act.Step.Kind = runbook.StepRun
	if done, err := k.Done(t.Context(), act); err == nil || done {
		t.Errorf("its probe ended with %v, %v", done, err)
	}
	if _, err := os.Stat(touched); err == nil {
		t.Fatal("production was touched")
	}
	// A step that is for drills alone was written for the lab: it has no other place.
	if _, err := runStep(t, k, act, runbook.Step{Command: []string{"touch", touched}, When: runbook.WhenDrill}); err == nil {
		t.Error("a step for drills alone ran on this computer")
	}
}

// A command of a drill has the lab's network and none of this computer's services.
func TestACommandInALabSeesNeitherNetworksNorServicesOfThisComputer(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs a network namespace: run the tests as root")
	}
	k, _, act := newAskTest(t, runbook.Drill, &emptyLab{t: t})
	script := `echo links: $(tail -n +3 /proc/net/dev | cut -d: -f1); echo run: $(ls -A /run | wc -l); echo root: $(ls / | grep -c usr)`
	r, err := runStep(t, k, act, runbook.Step{Command: []string{"sh", "-c", script}})
	if err != nil || r.Output != "links: lo\nrun: 0\nroot: 1\n" {
		t.Errorf("%v:\n%s", err, r.Output)
	}
	// Sockets lead past networks wherever they are.
	service := filepath.Join(t.TempDir(), "mysql.sock")
	l, err := net.Listen("unix", service)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := runStep(t, k, act, runbook.Step{Command: []string{"test", "!", "-S", service}}); err != nil {
		t.Errorf("a command of a drill sees the socket of a service: %v", err)
	}
	if conn, err := net.Dial("unix", service); err != nil {
		t.Errorf("the service is not reached any more: %v", err)
	} else {
		conn.Close()
	}
	here, err := os.ReadDir("/run")
	if err != nil || len(here) == 0 {
		t.Errorf("this computer lost its services: %v (%v)", here, err)
	}
}

// A probe of a guest step waits for the agent of a guest that still boots, as the
// step does.
func TestTheProbeOfAGuestStepWaitsForTheAgent(t *testing.T) {
	t.Parallel()
	k, host, act := newAskTest(t, runbook.Recover, nil)
	host.noAgent = 1
	host.run = func(hypervisor.GuestCommand) (hypervisor.GuestResult, error) { return hypervisor.GuestResult{}, nil }
	act.Step.Kind, act.Step.Step = runbook.StepGuest, runbook.Step{Command: []string{"false"}, Done: []string{"true"}}
	if done, err := k.Done(t.Context(), act); err != nil || !done {
		t.Errorf("%v, %v", done, err)
	}
}
