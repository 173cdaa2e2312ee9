package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/fixtures/guests"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/qemu"
	"lifeboat/runbook"
)

// newGuestTest is a drill of a real guest with an agent, exported from a host into a
// drive folder. Its network is isolated in a lab.
func newGuestTest(t *testing.T) (*worldTest, *labClient) {
	t.Helper()
	needsQEMU(t)
	if os.Geteuid() != 0 {
		t.Skip("a lab needs root: run the tests as root")
	}
	if testing.Short() {
		t.Skip("boots a real guest; run without -short")
	}
	for _, program := range []string{"syslinux", "mformat", "apt-get", "e2fsck", "debugfs"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing; run: build/need guests qemu", program)
		}
	}
	w := &worldTest{t: t, p: newPlace(t, "", 1<<20), out: &syncBuffer{}}
	images, err := guests.Build(t.Context(), os.Getenv("LIFEBOAT_GUESTS"), guests.Lean)
	w.must(err)
	w.exportGuest(images[guests.Lean])
	w.plan = &runbook.Plan{Mode: runbook.Drill, Networks: []runbook.PlannedNetwork{
		{Name: "servers", Cable: runbook.Cable{Kind: runbook.CableBridge, Name: "br-production"}, CIDR: "10.77.0.0/24", Gateway: "10.77.0.1"}}}
	w.newProgram()
	w.readPoints([]string{"lean"})
	m := &w.plan.Machines[0]
	m.Memory, m.CPUs = m.Point.Machine.MemoryBytes, m.Point.Machine.CPUs
	nic := images[guests.Lean].Machine.NICs[0]
	m.Cards = []runbook.PlannedCard{{MAC: nic.MAC, Network: "servers", Address: nic.Addresses}}
	w.run = w.begin()
	lab, err := w.a.openLab(t.Context(), w.run.dir, w.plan)
	w.must(err)
	t.Cleanup(func() {
		if err := w.a.closeLab(w.run.dir); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.removeAll)
	return w, lab
}

// exportGuest exports a guest, switched off, from a host of production.
func (w *worldTest) exportGuest(image guests.Image) {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "production")
	host, err := qemu.Open(qemu.Options{Name: "production", Dir: dir})
	w.must(err)
	defer host.Close()
	d := hypervisor.Definition{Machine: image.Machine, Disks: map[string]hypervisor.Backing{},
		Networks: []hypervisor.Network{{Kind: hypervisor.NetworkNone}}}
	for key, path := range image.Disks {
		own := filepath.Join(w.t.TempDir(), key+".qcow2")
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path, own).CombinedOutput(); err != nil {
			w.t.Fatalf("%v: %s", err, out)
		}
		d.Disks[key] = hypervisor.Backing{File: &hypervisor.FileBacking{Path: own, Format: "qcow2"}}
	}
	w.must(host.Define(w.t.Context(), d))
	w.p.must("host", "add", "production", "--dir", dir)
	w.p.must("export", image.Machine.Name, "--drive", w.p.drive)
}

// ask does a step about the guest, and returns what it came to.
func (w *worldTest) ask(world *world, kind runbook.StepKind, id string, s runbook.Step) (runbook.Result, error) {
	w.t.Helper()
	act := w.action(kind, "lean")
	act.Step.ID, act.Step.Step = id, s
	return world.Do(w.t.Context(), act)
}

// passes lets a check pass within a time that only bounds a failure.
func (w *worldTest) passes(world *world, c runbook.Check) {
	w.t.Helper()
	c.Within = 5 * time.Minute
	r, err := w.ask(world, runbook.StepCheck, "check", runbook.Step{Checks: []runbook.Check{c}})
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", checkTitle(c), err, w.out)
	}
	w.t.Logf("%s", r.Detail)
}

// TestADrillOfARealGuestInALab boots a guest from a drive, asks it in every way that
// there is, and shows that nobody else is asked.
func TestADrillOfARealGuestInALab(t *testing.T) {
	w, lab := newGuestTest(t)
	world, err := w.a.newWorld(t.Context(), worldOptions{plan: w.plan, run: w.run, lab: lab})
	w.must(err)
	t.Cleanup(world.close)
	if !w.do(world, w.action(runbook.StepBoot, "lean")) {
		t.Fatal("a machine that nobody booted is there")
	}
	w.passes(world, runbook.Check{Kind: runbook.CheckConsole, Text: "READY"})
	w.passes(world, runbook.Check{Kind: runbook.CheckAgent})
	w.passes(world, runbook.Check{Kind: runbook.CheckTCP, Port: 80})
	w.passes(world, runbook.Check{Kind: runbook.CheckHTTP, Path: "/health", Passes: 2})
	w.passes(world, runbook.Check{Kind: runbook.CheckPing})
	w.passes(world, runbook.Check{Kind: runbook.CheckGuest, Command: []string{"sh", "-c", "true"}})
	t.Run("ItsAgentRunsCommands", func(t *testing.T) { guestCommands(t, w, world) })
	t.Run("ACommandOfTheRunReachesItAlone", func(t *testing.T) { commandsInside(t, w, world) })
	t.Run("ItsCableIsPulled", func(t *testing.T) { pullTheCable(t, w, world) })
	t.Run("ItsScreenIsKept", func(t *testing.T) { keepTheScreen(t, w, world) })
}

func guestCommands(t *testing.T, w *worldTest, world *world) {
	r, err := w.ask(world, runbook.StepGuest, "say", runbook.Step{Limit: 2 * time.Minute, Env: map[string]string{"DB_PASSWORD": "hunter22"},
		Command: []string{"sh", "-c", "echo $LIFEBOAT_MODE of $LIFEBOAT_MACHINE at $LIFEBOAT_ADDRESS_LEAN with $DB_PASSWORD"}})
	if want := "drill of lean at 10.77.0.20 with " + masked + "\n"; err != nil || r.Output != want {
		t.Errorf("%v: it printed %q, not %q", err, r.Output, want)
	}
	kept, err := os.ReadFile(filepath.Join(w.run.dir, outputFolder, "say-1.txt"))
	if err != nil || string(kept) != r.Output {
		t.Errorf("kept is %q (%v)", kept, err)
	}
	r, err = w.ask(world, runbook.StepGuest, "fail", runbook.Step{Limit: 2 * time.Minute, Command: []string{"sh", "-c", "echo broken >&2; exit 7"}})
	if err == nil || !strings.Contains(err.Error(), "it ended with 7: broken") || r.Output != "broken\n" {
		t.Errorf("%v: it printed %q", err, r.Output)
	}
	_, err = w.ask(world, runbook.StepGuest, "hang", runbook.Step{Limit: 5 * time.Second, Command: []string{"sleep", "54321"}})
	if !errors.Is(err, hypervisor.ErrGuestLimit) {
		t.Errorf("a command that hangs: %v", err)
	}
	r, err = w.ask(world, runbook.StepGuest, "look", runbook.Step{Limit: 2 * time.Minute, Command: []string{"sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[5]4321 *'; true"}})
	if err != nil || r.Output != "0\n" {
		t.Errorf("a command that was killed at its limit goes on in the guest: %q (%v)", r.Output, err)
	}
	done := w.action(runbook.StepGuest, "lean")
	done.Step.Step.Done = []string{"test", "-e", "/tmp/there"}
	if is, err := world.Done(t.Context(), done); is || err != nil {
		t.Errorf("before: done is %v (%v)", is, err)
	}
	_, err = w.ask(world, runbook.StepGuest, "make", runbook.Step{Limit: 2 * time.Minute, Command: []string{"touch", "/tmp/there"}})
	w.must(err)
	if is, err := world.Done(t.Context(), done); !is || err != nil {
		t.Errorf("afterwards: done is %v (%v)", is, err)
	}
}

// commandsInside runs commands of the runbook: they reach the guest, and nobody of
// this computer, which listens on all its addresses.
func commandsInside(t *testing.T, w *worldTest, world *world) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash connects here: install bash")
	}
	server, err := net.Listen("tcp4", ":0")
	w.must(err)
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Addr().String())
	w.must(err)
	connect := func(address, port string) []string {
		return []string{"bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%s && echo connected", address, port)}
	}
	r, err := w.ask(world, runbook.StepRun, "guest", runbook.Step{Limit: 2 * time.Minute, Command: connect("$LIFEBOAT_ADDRESS_LEAN", "80")})
	if err != nil || r.Output != "connected\n" {
		t.Errorf("it does not reach the guest: %v", err)
	}
	addresses, err := net.InterfaceAddrs()
	w.must(err)
	for _, a := range addresses {
		ip := a.(*net.IPNet).IP.To4()
		if ip == nil {
			continue
		}
		here := connect(ip.String(), port)
		if err := exec.Command(here[0], here[1:]...).Run(); err != nil {
			t.Errorf("the server does not answer at %s: %v", ip, err)
		}
		if r, err := w.ask(world, runbook.StepRun, "production", runbook.Step{Limit: 5 * time.Second, Command: here}); err == nil || strings.Contains(r.Output, "connected") {
			t.Errorf("a command of a drill reaches this computer at %s", ip)
		}
	}
}

// pullTheCable shows that checks ask the machine itself: without its cable nobody
// answers, and with it somebody does again.
func pullTheCable(t *testing.T, w *worldTest, world *world) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	host, l, there, err := world.machineOf(ctx, w.action(runbook.StepCheck, "lean"))
	if err != nil || !there {
		t.Fatalf("it is not there: %v", err)
	}
	linker := host.(hypervisor.Linker)
	w.must(linker.Link(ctx, hostWord(l), 0, false))
	for _, c := range []runbook.Check{{Kind: runbook.CheckPing}, {Kind: runbook.CheckTCP, Port: 80}} {
		c.Within, c.Timeout = 5*time.Second, 2*time.Second
		_, err := w.ask(world, runbook.StepCheck, "check", runbook.Step{Checks: []runbook.Check{c}})
		if !errors.Is(err, runbook.ErrCheckFailed) {
			t.Errorf("%s without a cable: %v", checkTitle(c), err)
		}
	}
	w.must(linker.Link(ctx, hostWord(l), 0, true))
	w.passes(world, runbook.Check{Kind: runbook.CheckPing})
	w.passes(world, runbook.Check{Kind: runbook.CheckTCP, Port: 80})
}

func keepTheScreen(t *testing.T, w *worldTest, world *world) {
	e, err := world.Look(t.Context(), w.action(runbook.StepCheck, "lean"))
	w.must(err)
	picture, err := os.ReadFile(filepath.Join(w.run.dir, e.Screenshot))
	w.must(err)
	if c, err := png.DecodeConfig(bytes.NewReader(picture)); err != nil || c.Width < 320 || c.Height < 200 {
		t.Errorf("the screen is %d by %d (%v)", c.Width, c.Height, err)
	}
	text, err := os.ReadFile(filepath.Join(w.run.dir, e.Console))
	if err != nil || !bytes.Contains(text, []byte("READY")) {
		t.Errorf("the console says %q (%v)", text, err)
	}
}
