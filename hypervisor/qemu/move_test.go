package qemu

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
)

// patternDisk is a disk of 8 MiB of one byte.
type patternDisk byte

func (d patternDisk) SizeBytes() int64 { return 8 << 20 }

func (d patternDisk) ReadAt(_ context.Context, p []byte, _ int64) error {
	for i := range p {
		p[i] = byte(d)
	}
	return nil
}

func (d patternDisk) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return []lifeboat.Extent{within}, nil
}

// serve gives out a disk as "x" until the test ends.
func serve(t *testing.T, disk nbd.Export) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lb-nbd-")
	must(t, err)
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = nbd.NewServer(map[string]nbd.Export{"x": disk}, nbd.ServerOptions{}).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		os.RemoveAll(dir)
	})
	return socket
}

// bootFromServer starts a machine from an NBD server of the test's own.
func bootFromServer(t *testing.T, h *Host) *machine {
	t.Helper()
	socket := serve(t, patternDisk(0x5a))
	m := sample("web01", lifeboat.Disk{Key: "root", SizeBytes: 8 << 20, Bus: lifeboat.BusVirtio})
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m, Recovery: "run-1",
		Disks: map[string]hypervisor.Backing{"root": {NBD: &hypervisor.NBDBacking{Socket: socket, Export: "x"}}}}))
	must(t, h.PowerOn(t.Context(), "web01"))
	found, err := h.find("web01")
	must(t, err)
	return found
}

// TestAMoverThatDiesLeavesAWholeMachine lets a mover die at each of its steps:
// its guard either gives the move up or brings it to its end.
func TestAMoverThatDiesLeavesAWholeMachine(t *testing.T) {
	steps := []struct {
		name  string
		moved bool
		do    func(t *testing.T, m *machine, mon *monitor, disk lifeboat.Disk)
	}{
		{"while it copies", false, func(t *testing.T, m *machine, mon *monitor, disk lifeboat.Disk) {
			must(t, m.beginMove(t.Context(), mon, disk))
		}},
		{"when both are alike and the guest stands", false, func(t *testing.T, m *machine, mon *monitor, disk lifeboat.Disk) {
			must(t, m.beginMove(t.Context(), mon, disk))
			must(t, waitJob(t.Context(), mon, jobPrefix+disk.Key, "ready", func(float64) {}))
			must(t, mon.run(t.Context(), "stop", nil, nil))
		}},
		{"after the change-over, before it is recorded", true, func(t *testing.T, m *machine, mon *monitor, disk lifeboat.Disk) {
			must(t, m.beginMove(t.Context(), mon, disk))
			must(t, waitJob(t.Context(), mon, jobPrefix+disk.Key, "ready", func(float64) {}))
			must(t, mon.run(t.Context(), "stop", nil, nil))
			must(t, changeOver(t.Context(), mon, disk, func(float64) {}))
		}},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			h := newHost(t)
			m := bootFromServer(t, h)
			guestWrite(t, h, "web01", "root", 1<<20, 64<<10, 0x66)
			lock, err := m.lock(t.Context())
			must(t, err)
			guard, err := m.startGuard(lock, nil, "")
			must(t, err)
			mon, err := m.monitor(t.Context(), workSocket)
			must(t, err)
			step.do(t, m, mon, m.def.Machine.Disks[0])
			mon.close()
			guard.abandon()
			lock.Close()

			again, err := h.find("web01")
			must(t, err)
			if moved := again.def.Disks["root"].Base == nil; moved != step.moved {
				t.Errorf("moved: %v", moved)
			}
			eventually(t, bootCeiling, "it runs", func() bool {
				power, err := again.power(t.Context())
				return err == nil && power == hypervisor.PowerOn
			})
			must(t, guestCheck(t.Context(), h, "web01", "root", 0, 1<<20, 0x5a))
			must(t, guestCheck(t.Context(), h, "web01", "root", 1<<20, 64<<10, 0x66))
			must(t, h.Settle(t.Context(), "web01", nil))
			must(t, guestCheck(t.Context(), h, "web01", "root", 1<<20, 64<<10, 0x66))
			if left := leftovers(t, h, "web01"); len(left) != 1 || left[0] != "node "+nodeName(nodeLocal, "root") {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
