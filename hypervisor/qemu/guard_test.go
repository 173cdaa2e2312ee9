package qemu

import (
	"context"
	"os"
	"testing"
	"time"

	"lifeboat/hypervisor"
)

// halfway brings an export to the point where everything is prepared.
func halfway(t *testing.T, h *Host, name string) *still {
	t.Helper()
	m, err := h.find(name)
	must(t, err)
	lock, err := m.lock(t.Context())
	must(t, err)
	s := &still{machine: m, lock: lock, options: hypervisor.FreezeOptions{DriveID: "d"}, disks: map[string]*stillDisk{}}
	s.monitor, err = m.monitor(t.Context(), workSocket)
	must(t, err)
	must(t, s.describe(t.Context()))
	s.guard, err = m.startGuard(lock, nil, "")
	must(t, err)
	must(t, s.prepareDisks(t.Context()))
	return s
}

func mustRunUntouched(t *testing.T, h *Host, name string) {
	t.Helper()
	m, err := h.find(name)
	must(t, err)
	eventually(t, 10*time.Second, "the guest runs and nothing is left", func() bool {
		power, err := m.power(t.Context())
		return err == nil && power == hypervisor.PowerOn && len(leftovers(t, h, name)) == 0
	})
}

func TestAGuestThatStandsWhenItsExporterDiesGoesOn(t *testing.T) {
	h := newHost(t)
	defineAndStart(t, h, sample("web01"))
	s := halfway(t, h, "web01")
	must(t, s.guard.tell("hold"))
	must(t, s.monitor.run(t.Context(), "stop", nil, nil))
	must(t, s.swap(t.Context()))
	s.monitor.close()
	s.lock.Close()
	s.guard.abandon() // as the kernel does for a dead exporter
	mustRunUntouched(t, h, "web01")
}

func TestAGuestThatStandsWhileItsExporterHangsGoesOn(t *testing.T) {
	h := newHost(t)
	defineAndStart(t, h, sample("web01"))
	s := halfway(t, h, "web01")
	defer s.Release(context.Background())
	must(t, s.guard.tell("hold"))
	must(t, s.monitor.run(t.Context(), "stop", nil, nil))
	eventually(t, 10*time.Second, "the guest runs", func() bool {
		power, err := s.machine.power(t.Context())
		return err == nil && power == hypervisor.PowerOn
	})
}

func TestWhatADeadExporterAndItsDeadGuardLeaveIsRemovedByTheNext(t *testing.T) {
	h := newHost(t)
	defineAndStart(t, h, sample("web01"))
	first, err := h.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "d"})
	must(t, err)
	s := first.(*still)
	must(t, s.guard.cmd.Process.Signal(os.Kill))
	s.guard.cmd.Wait()
	s.stopWatch()
	s.monitor.close()
	s.lock.Close()
	if len(leftovers(t, h, "web01")) == 0 {
		t.Fatal("nothing was left, so nothing is shown")
	}
	second, err := h.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "d"})
	must(t, err)
	must(t, second.Release(t.Context()))
	mustRunUntouched(t, h, "web01")
}
