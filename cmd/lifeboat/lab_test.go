package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/runbook"
)

// smallFirm is a plan of two machines on a network that is behind NAT in a recovery.
func smallFirm(mode runbook.Mode) *runbook.Plan {
	card := func(mac, address string) []runbook.PlannedCard {
		return []runbook.PlannedCard{{MAC: mac, Network: "servers", Address: []string{address}}}
	}
	db, web := lifeboat.RestorePoint{}, lifeboat.RestorePoint{}
	db.Machine.HostName = "db.firm.example"
	return &runbook.Plan{
		Mode: mode,
		Machines: []runbook.PlannedMachine{
			{Name: "db", Point: db, Cards: card("52:54:00:00:00:0a", "10.77.0.10/24")},
			{Name: "web", Point: web, Cards: card("52:54:00:00:00:0b", "10.77.0.11")},
		},
		Networks: []runbook.PlannedNetwork{
			{Name: "servers", Cable: runbook.Cable{Kind: runbook.CableNAT}, Gateway: "10.77.0.1", DNS: []string{"10.77.0.53"},
				Names: map[string]string{"mail": "10.77.0.25"}, Forwards: []runbook.Forward{{HostPort: 8443, Machine: "web", Port: 443}}, VPN: 51820},
			{Name: "lan", Cable: runbook.Cable{Kind: runbook.CableBridge, Name: "br0"}},
		},
	}
}

func TestALabIsWhatThePlanSays(t *testing.T) {
	c, err := labConfig("run", smallFirm(runbook.Recover))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	n := c.Networks[0]
	if len(c.Networks) != 1 || !n.Uplink || n.VPN != 51820 || n.CIDR.String() != "10.77.0.0/24" || len(c.Cards) != 2 {
		t.Errorf("the lab is %+v", c)
	}
	if f := n.Forwards[0]; f.Listen.String() != "127.0.0.1:8443" || f.To.String() != "10.77.0.11:443" {
		t.Errorf("a forward without an address is %+v", f)
	}
}

// TestALabOfADrillHasNoWayOut, whatever the networks are in a recovery.
func TestALabOfADrillHasNoWayOut(t *testing.T) {
	c, err := labConfig("run", smallFirm(runbook.Drill))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Networks {
		if n.Uplink || n.VPN != 0 || len(n.Forwards) > 0 {
			t.Errorf("network %s leads somewhere: %+v", n.Name, n)
		}
	}
	if len(c.Networks) != 2 {
		t.Errorf("a drill isolates every network, and here: %+v", c.Networks)
	}
}

// labTraces is what a lab could leave on this computer: what was not there before.
// Other tests plug and unplug beside this one.
func labTraces(t *testing.T, dir string, before []string) (all []string) {
	t.Helper()
	for _, words := range [][]string{{"ip", "-o", "link"}, {"ip", "rule"}, {"ip", "route", "show", "table", "all"}, {"iptables-save"}} {
		out, err := exec.Command(words[0], words[1:]...).Output()
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(out)) {
			if !strings.HasPrefix(line, "#") && strings.Contains(line, "lb") {
				all = append(all, line)
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) || strings.Contains(line, "nsfs") {
			all = append(all, line)
		}
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, c := range commands {
		if text, err := os.ReadFile(c); err == nil && strings.Contains(string(text), dir) {
			all = append(all, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return slices.DeleteFunc(all, func(line string) bool { return slices.Contains(before, line) })
}

func TestALabOutlivesItsProcessAndLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changing networks needs root: run the tests as root")
	}
	a := &app{stateDir: t.TempDir()}
	dir := filepath.Join(a.stateDir, "runs", newID())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	before := labTraces(t, dir, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	l, err := a.openLab(ctx, dir, smallFirm(runbook.Drill))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.closeLab(dir) })
	n, ok := l.cable("servers")
	if !ok {
		t.Fatal("the network is not of the lab")
	}
	// Commands run inside before the first machine is plugged in.
	ns, err := l.Namespace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	inside, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()))
	ns.Close()
	if own, _ := os.Readlink("/proc/self/ns/net"); err != nil || inside == own {
		t.Errorf("the lab's namespace is %s, that of this program is %s (%v)", inside, own, err)
	}
	cable, err := l.client.Tap(ctx, n.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer cable.Close()
	for range 2 {
		s, err := readLabServing(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		s.Process.signal(syscall.SIGKILL)
		waitUntil(t, "another process serves the lab", func() bool {
			now, err := readLabServing(l.dir)
			return err == nil && now.Ready && now.Process != s.Process && now.Process.alive()
		})
		found, err := l.Resolve(ctx, "10.77.0.53", "mail")
		if err != nil || !slices.Equal(found, []netip.Addr{netip.MustParseAddr("10.77.0.25")}) {
			t.Fatalf("mail is %v (%v)", found, err)
		}
		if st, err := l.Status(ctx); err != nil || st.Cables != 1 {
			t.Errorf("after the kill the machine's cable leads into another lab: %+v (%v)", st, err)
		}
	}
	// Everything is killed, and the machine as well.
	s, err := readLabServing(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Guard.signal(syscall.SIGSTOP) // so that it does not start another meanwhile
	s.Process.signal(syscall.SIGKILL)
	s.Guard.signal(syscall.SIGKILL)
	cable.Close()
	waitUntil(t, "nothing is left of a lab that was killed", func() bool { return len(labTraces(t, dir, before)) == 0 })
	if alone, err := lockPresence(l.dir, unix.LOCK_EX); err != nil {
		t.Errorf("somebody is still there: %v", err)
	} else {
		alone.Close()
	}

	// It can be opened again, and closed.
	if l, err = a.openLab(ctx, dir, smallFirm(runbook.Drill)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Resolve(ctx, "10.77.0.53", "db"); err != nil {
		t.Error(err)
	}
	if err := a.closeLab(dir); err != nil {
		t.Fatal(err)
	}
	if err := a.closeLab(dir); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "nothing is left of a lab that was closed", func() bool { return len(labTraces(t, dir, before)) == 0 })
}

// TestTheLabOfARecoveryStays when a command that goes on with it fails, and the files of
// the staff stay right.
func TestTheLabOfARecoveryStays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changing networks needs root: run the tests as root")
	}
	a := &app{stateDir: t.TempDir()}
	dir := filepath.Join(a.stateDir, "runs", newID())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	plan := smallFirm(runbook.Recover)
	plan.Networks[0].VPN = 20000 + os.Getpid()%20000
	plan.Networks[0].Forwards[0].HostPort = plan.Networks[0].VPN
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	l, err := a.openLab(ctx, dir, plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.closeLab(dir) })
	files := l.staffFiles()
	if len(files) == 0 {
		t.Fatal("the staff have no files")
	}
	before, err := readLabServing(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	if _, err := a.openLab(stopped, dir, plan); err == nil || strings.Contains(problemOf(err).Safe, "no machine was started") {
		t.Errorf("a command that was stopped: %v", err)
	}
	now, err := readLabServing(l.dir)
	if err != nil || now.Process != before.Process || !now.Process.alive() {
		t.Errorf("the lab of running machines was ended: %+v (%v)", now, err)
	}
	// Also one that ended, and is opened again, keeps its keys; taken back, it has none.
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := a.endLabOf(dir); err != nil {
		t.Fatal(err)
	}
	if _, err = a.openLab(ctx, dir, plan); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(files[0]); err != nil || string(again) != string(text) {
		t.Errorf("the file of the staff is another one (%v)", err)
	}
	if err := a.closeLab(dir); err != nil {
		t.Fatal(err)
	}
	if left := l.staffFiles(); len(left) > 0 {
		t.Errorf("secrets are left: %v", left)
	}
}

func waitUntil(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}

// TestTheReasonOfALabThatCannotBeIsSaid before anything is started.
func TestTheReasonOfALabThatCannotBeIsSaid(t *testing.T) {
	a := &app{stateDir: t.TempDir()}
	plan := smallFirm(runbook.Drill)
	plan.Networks[1].CIDR = "10.77.0.0/16"
	_, err := a.openLab(t.Context(), a.stateDir, plan)
	want := `networks "servers" and "lan" have the same addresses`
	if err == nil || !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("got %v", err)
	}
}
