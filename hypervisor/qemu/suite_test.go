package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/fixtures/hostsuite"
	"lifeboat/hypervisor"
)

func TestHost(t *testing.T) {
	hostsuite.Run(t, func(t *testing.T, n hostsuite.Needs) hostsuite.Subject {
		h := newHost(t, func(o *Options) {
			if n.SmallScratch > 0 {
				o.ScratchDir = smallFileSystem(t, n.SmallScratch)
			}
		})
		return hostsuite.Subject{
			Host: h, Guest: standIn{h}, Cable: &hypervisor.Network{Kind: hypervisor.NetworkSegment, Name: "suite"},
			Image: func(t *testing.T, machine, disk string) string {
				t.Helper()
				m, err := h.find(machine)
				must(t, err)
				return m.path(m.def.Disks[disk].File)
			},
			Crash:      func(t *testing.T, machine string) { crash(t, h, machine) },
			DieHolding: func(t *testing.T, machine string, o hypervisor.FreezeOptions) { dieAt(t, h, machine, "held", o) },
			Leftovers:  func(t *testing.T, machine string) []string { return leftovers(t, h, machine) },
		}
	})
}

// standIn reads and writes in the guest's stead.
type standIn struct{ h *Host }

func (g standIn) Write(ctx context.Context, machine, disk string, offset, length int64, pattern byte) error {
	return guestDo(ctx, g.h, machine, disk, fmt.Sprintf("write -P 0x%02x %d %d", pattern, offset, length))
}

func (g standIn) Check(ctx context.Context, machine, disk string, offset, length int64, pattern byte) error {
	return guestCheck(ctx, g.h, machine, disk, offset, length, pattern)
}

// smallFileSystem returns the folder of a file system that is soon full.
func smallFileSystem(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("lifeboat-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("needs a small file system: run the tests as root (%v)", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// crash kills the process of a machine.
func crash(t *testing.T, h *Host, name string) {
	t.Helper()
	m, err := h.find(name)
	must(t, err)
	mon, err := m.monitor(t.Context(), commandSocket)
	must(t, err)
	defer mon.close()
	p, err := mon.peer()
	must(t, err)
	must(t, p.kill())
	must(t, p.wait(t.Context()))
}

const dyingVariable = "LIFEBOAT_TEST_DYING_EXPORT"

// dyingOrder is what the process that is killed has to do.
type dyingOrder struct {
	Dir, RunDir, Machine string
	At                   string // "frozen" or "held"
	Freeze               hypervisor.FreezeOptions
}

// dieAt lets another process export a machine and kills it at the given moment.
func dieAt(t *testing.T, h *Host, machine, at string, o hypervisor.FreezeOptions) {
	t.Helper()
	order, err := json.Marshal(dyingOrder{Dir: h.o.Dir, RunDir: h.o.RunDir, Machine: machine, At: at, Freeze: o})
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestAProcessThatIsKilledWhileItHoldsAMachine$")
	cmd.Env = append(os.Environ(), dyingVariable+"="+string(order))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "now\n" {
		t.Errorf("the process to be killed said %q (%v)", line, err)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
}

// TestAProcessThatIsKilledWhileItHoldsAMachine is the other process, and nothing
// by itself.
func TestAProcessThatIsKilledWhileItHoldsAMachine(t *testing.T) {
	text := os.Getenv(dyingVariable)
	if text == "" {
		t.Skip("runs as a part of other tests")
	}
	var order dyingOrder
	must(t, json.Unmarshal([]byte(text), &order))
	h, err := Open(Options{Name: "dying", Dir: order.Dir, RunDir: order.RunDir})
	must(t, err)
	if order.At == "frozen" {
		m, err := h.find(order.Machine)
		must(t, err)
		lock, err := m.lock(t.Context())
		must(t, err)
		g, err := m.startGuard(lock, nil, "")
		must(t, err)
		must(t, g.tell("freeze"))
	} else {
		_, err = h.Freeze(t.Context(), order.Machine, order.Freeze)
		must(t, err)
	}
	fmt.Println("now")
	select {}
}

// leftovers names what is in a machine's graph and folder beyond what belongs
// there. Of a machine that was removed, everything is too much.
func leftovers(t *testing.T, h *Host, name string) []string {
	t.Helper()
	entries, err := os.ReadDir(h.o.Dir)
	must(t, err)
	sockets, err := os.ReadDir(h.o.RunDir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	m, err := h.find(name)
	if err != nil {
		var left []string
		for _, e := range append(entries, sockets...) {
			left = append(left, e.Name())
		}
		return left
	}
	left := filesBeyond(t, m)
	mon, err := m.monitor(t.Context(), commandSocket)
	if err != nil {
		return left
	}
	defer mon.close()
	nodes, err := blockNodes(t.Context(), mon)
	must(t, err)
	for node := range nodes {
		switch node[:2] {
		case nodeStill, nodeCopy, nodeScratch, nodeLocal:
			left = append(left, "node "+node)
		}
	}
	var exports []struct{ ID string }
	must(t, mon.run(t.Context(), "query-block-exports", nil, &exports))
	for _, e := range exports {
		left = append(left, "export "+e.ID)
	}
	return left
}

func filesBeyond(t *testing.T, m *machine) []string {
	t.Helper()
	entries, err := os.ReadDir(m.dir)
	must(t, err)
	belongs := map[string]bool{definitionFile: true, runningFile: true, lockFile: true, nvramFile: true,
		serialLogFile: true, qemuLogFile: true, linksFile: true}
	for _, file := range m.def.Disks {
		belongs[file.File] = true
	}
	var left []string
	for _, e := range entries {
		if !belongs[e.Name()] && !strings.HasPrefix(e.Name(), "plug-") {
			left = append(left, "file "+e.Name())
		}
	}
	return left
}
