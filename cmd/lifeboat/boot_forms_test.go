package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// pickyHost has a guest that finds its root on one bus alone.
type pickyHost struct {
	hypervisor.Host
	knows lifeboat.Bus
	// address takes connections when the guest has found its root.
	address string

	mu     sync.Mutex
	listen net.Listener
	bus    lifeboat.Bus // of the machine that is there, or empty
	on     bool
	did    []string
}

func (h *pickyHost) Name() string { return "picky" }

func (h *pickyHost) Abilities() hypervisor.Abilities {
	return hypervisor.Abilities{BootNBD: true, Cards: []string{"virtio"},
		Buses: []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusSATA, lifeboat.BusIDE}}
}

func (h *pickyHost) Define(_ context.Context, d hypervisor.Definition) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bus != "" {
		return errors.New("a machine of that name is there")
	}
	h.bus = d.Machine.Disks[0].Bus
	h.did = append(h.did, "define "+string(h.bus))
	return nil
}

func (h *pickyHost) List(context.Context) ([]hypervisor.Listed, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bus == "" {
		return nil, nil
	}
	return []hypervisor.Listed{{Machine: lifeboat.Machine{Name: "web"}, HostID: "picky-1"}}, nil
}

func (h *pickyHost) PowerOn(context.Context, string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.on = true
	if h.bus != h.knows {
		return nil
	}
	var err error
	h.listen, err = net.Listen("tcp", h.address)
	return err
}

func (h *pickyHost) PowerOff(context.Context, string, time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.on, h.did = false, append(h.did, "off")
	return nil
}

func (h *pickyHost) Remove(context.Context, string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on {
		return hypervisor.ErrMachineRunning
	}
	h.bus, h.did = "", append(h.did, "remove")
	return nil
}

func (h *pickyHost) NoRoot(context.Context, string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on && h.bus != h.knows {
		return "ALERT!  /dev/vda1 does not exist.", nil
	}
	return "", nil
}

// bootPicky boots a machine that is described as one on virtio.
func bootPicky(t *testing.T, knows lifeboat.Bus, chosen ...string) (h *pickyHost, r bootResult, said string) {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	h = &pickyHost{knows: knows, address: fmt.Sprintf("127.0.0.1:%d", port)}
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: &out, stateDir: t.TempDir()}
	b := &booter{a: a, host: h, run: &run{ID: newID()}, timeout: time.Minute,
		booted: &bootedRun{Run: newID(), Drive: lifeboat.Drive{Label: "A1"}, Machines: []bootedMachine{{Name: "web"}}}}
	if err := os.MkdirAll(b.booted.dir(a), 0o700); err != nil {
		t.Fatal(err)
	}
	m := plannedBoot{Name: "web", Checks: []bootCheck{{Machine: "web", Kind: "tcp", Port: 80, Dial: h.address}},
		Point: lifeboat.RestorePoint{ID: newID(), Machine: lifeboat.Machine{Name: "web", Disks: []lifeboat.Disk{{Key: "root", Bus: lifeboat.BusVirtio}}}}}
	for _, bus := range chosen {
		plan := &bootPlan{Machines: []plannedBoot{m}}
		if err := plan.withDisks(bus, h.Abilities()); err != nil {
			t.Fatal(err)
		}
		m = plan.Machines[0]
	}
	synctest.Test(t, func(t *testing.T) { r = b.one(t.Context(), m) })
	if kept, err := readBooted(b.booted.dir(a)); err != nil || kept.machine("web").HostID != "picky-1" {
		t.Errorf("what its host calls the machine is not written down: %+v, %v", kept, err)
	}
	if h.listen != nil {
		h.listen.Close()
	}
	return h, r, out.String()
}

func TestAMachineThatMissesItsRootIsBuiltInTheNextForm(t *testing.T) {
	h, r, said := bootPicky(t, lifeboat.BusSATA)
	if r.err != nil {
		t.Fatal(r.err)
	}
	if want := []string{"define virtio", "off", "remove", "define sata"}; !slices.Equal(h.did, want) {
		t.Errorf("the host did %v, not %v", h.did, want)
	}
	if r.Form != "disks on sata instead of virtio" {
		t.Errorf("the result is %+v", r)
	}
	for _, words := range []string{"does not find its root device", "/dev/vda1 does not exist", "disks on sata instead of virtio"} {
		if !strings.Contains(said, words) {
			t.Errorf("%q is not said: %s", words, said)
		}
	}
}

func TestAMachineThatFindsItsRootIsBuiltOnce(t *testing.T) {
	h, r, said := bootPicky(t, lifeboat.BusVirtio)
	if r.err != nil || !slices.Equal(h.did, []string{"define virtio"}) || r.Form != hypervisor.AsKnown {
		t.Errorf("%v, the host did %v, form %q", r.err, h.did, r.Form)
	}
	if strings.Contains(said, "root") {
		t.Errorf("it says %s", said)
	}
}

func TestAMachineThatFindsItsRootNowhereStaysToBeLookedAt(t *testing.T) {
	h, r, _ := bootPicky(t, lifeboat.BusNVMe)
	var p *lifeboat.Problem
	if !errors.As(r.err, &p) || !strings.Contains(p.What, "none of the 3 kinds") || !strings.Contains(p.Next, "lifeboat console web") {
		t.Errorf("it says %v", r.err)
	}
	if want := []string{"define virtio", "off", "remove", "define sata", "off", "remove", "define ide"}; !slices.Equal(h.did, want) {
		t.Errorf("the host did %v, not %v", h.did, want)
	}
}

func TestAFormThatAPersonChoseIsTheOnlyOneTried(t *testing.T) {
	h, r, _ := bootPicky(t, lifeboat.BusIDE, "ide")
	if r.err != nil || !slices.Equal(h.did, []string{"define ide"}) || r.Form != "disks on ide instead of virtio" {
		t.Errorf("%v, the host did %v, form %q", r.err, h.did, r.Form)
	}
	h, r, _ = bootPicky(t, lifeboat.BusIDE, "sata")
	if r.err == nil || !slices.Equal(h.did, []string{"define sata"}) || !strings.Contains(problemOf(r.err).Next, "other --disks") {
		t.Errorf("%v, the host did %v", r.err, h.did)
	}
	h, r, _ = bootPicky(t, lifeboat.BusIDE, "virtio")
	if r.err == nil || !slices.Equal(h.did, []string{"define virtio"}) {
		t.Errorf("as its system knows it: %v, the host did %v", r.err, h.did)
	}
}
