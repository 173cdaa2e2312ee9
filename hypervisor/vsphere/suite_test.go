package vsphere

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"lifeboat/fixtures/hostsuite"
	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

func TestHost(t *testing.T) {
	t.Run("vCenter", func(t *testing.T) { suite(t, vcenter.Options{AreasPerPage: 3}, "DC0_C0") })
	t.Run("ESXi", func(t *testing.T) { suite(t, vcenter.Options{ESXi: true}, "") })
}

// suite runs the suite against one kind of server, with new machines on a cluster.
func suite(t *testing.T, server vcenter.Options, cluster string) {
	hostsuite.Run(t, func(t *testing.T, n hostsuite.Needs) hostsuite.Subject {
		if n.SmallScratch > 0 {
			t.Skip("a snapshot grows on the server's datastore: when that is full the server stops the machine, which no client can prevent")
		}
		s := vcenter.Start(t, server)
		o := serverOptions(s)
		o.Cluster = cluster
		o.Note = func(machine, text string) { t.Logf("note: %s: %s", machine, text) }
		h := opened(t, o)
		guest := &standIn{t: t, s: s, h: h, disks: map[string]int{}}
		return hostsuite.Subject{
			Host: h, Guest: guest, OddName: "zeta..x; rm", StillsOutlive: true, NextCleans: true,
			Cable: &hypervisor.Network{Kind: hypervisor.NetworkNamed, Name: "VM Network"},
			Crash: func(t *testing.T, machine string) {
				m := guest.machine(machine)
				must(t, h.PowerOff(t.Context(), machine, 0))
				// A host that fails does not save its list of changes.
				m.ResetTracking()
			},
			DieHolding: func(t *testing.T, machine string, f hypervisor.FreezeOptions) { dieHolding(t, o, machine, f) },
			Leftovers: func(t *testing.T, machine string) (left []string) {
				m, ok := s.Machine(machine)
				if !ok {
					return nil
				}
				if n := m.Snapshots(); n > 0 {
					left = append(left, fmt.Sprintf("%d snapshots", n))
				}
				if n := m.Deltas(); n > 0 {
					left = append(left, fmt.Sprintf("%d files of changes", n))
				}
				return left
			},
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// standIn writes and reads in the stead of guests, in the simulated datastore.
type standIn struct {
	t *testing.T
	s *vcenter.Server
	h *Host

	mu    sync.Mutex
	disks map[string]int // by machine and key, the fixture's number
}

func (g *standIn) machine(name string) *vcenter.Machine {
	m, ok := g.s.Machine(name)
	if !ok {
		g.t.Errorf("the server has no machine %s", name)
	}
	return m
}

// number finds a disk among those of the fixture, which are in the order of the
// API's list.
func (g *standIn) number(ctx context.Context, machine, key string) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n, known := g.disks[machine+"/"+key]; known {
		return n, nil
	}
	f, err := g.h.find(ctx, machine)
	if err != nil {
		return 0, err
	}
	for _, d := range f.vdisks() {
		if d.Key != key {
			continue
		}
		n := 0
		for _, device := range f.vm.Config.Hardware.Device {
			other, ok := device.(*types.VirtualDisk)
			if ok && other.Key == d.device.Key {
				g.disks[machine+"/"+key] = n
				return n, nil
			}
			if ok {
				n++
			}
		}
	}
	return 0, fmt.Errorf("%s has no disk %s", machine, key)
}

func (g *standIn) Write(ctx context.Context, machine, disk string, offset, length int64, pattern byte) error {
	n, err := g.number(ctx, machine, disk)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	g.machine(machine).Write(g.t, n, offset, bytes.Repeat([]byte{pattern}, int(length)))
	return nil
}

func (g *standIn) Check(ctx context.Context, machine, disk string, offset, length int64, pattern byte) error {
	n, err := g.number(ctx, machine, disk)
	if err != nil {
		return err
	}
	got := g.machine(machine).Bytes(g.t, n)[offset : offset+length]
	if !bytes.Equal(got, bytes.Repeat([]byte{pattern}, int(length))) {
		return fmt.Errorf("the bytes at %d are others", offset)
	}
	return nil
}

// holding tells the process that is to be killed what to hold.
type holding struct {
	URL, User, Password, Thumbprint, Machine string
	Freeze                                   hypervisor.FreezeOptions
}

// dieHolding holds a machine still in another process and kills that.
func dieHolding(t *testing.T, o Options, machine string, f hypervisor.FreezeOptions) {
	t.Helper()
	what, err := json.Marshal(holding{o.URL, o.User, o.Password, o.Thumbprint, machine, f})
	must(t, err)
	child := exec.Command(os.Args[0], "-test.run=^TestHoldUntilKilled$")
	child.Env = append(os.Environ(), "LIFEBOAT_TEST_HOLD="+string(what))
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	defer func() { _ = child.Wait() }()
	defer func() { _ = child.Process.Kill() }()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "held") {
			return
		}
		t.Log(lines.Text())
	}
	t.Fatal("the other process did not get to hold the machine")
}

func TestHoldUntilKilled(t *testing.T) {
	var what holding
	text := os.Getenv("LIFEBOAT_TEST_HOLD")
	if text == "" {
		t.Skip("this is the other process of the conformance suite, which starts it itself")
	}
	must(t, json.Unmarshal([]byte(text), &what))
	h, err := Open(Options{Name: "vc", URL: what.URL, User: what.User, Password: what.Password, Thumbprint: what.Thumbprint})
	must(t, err)
	_, err = h.Freeze(t.Context(), what.Machine, what.Freeze)
	must(t, err)
	fmt.Println("held")
	time.Sleep(time.Minute)
}
