package qemu

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
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
	eventually(t, bootCeiling, "the guest runs and nothing is left", func() bool {
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
	eventually(t, bootCeiling, "the guest runs", func() bool {
		power, err := s.machine.power(t.Context())
		return err == nil && power == hypervisor.PowerOn
	})
}

func TestAGuardEndsWithItsExporterAndNotWhenItIsAskedTo(t *testing.T) {
	h := newHost(t)
	defineAndStart(t, h, sample("web01"))
	s := halfway(t, h, "web01")
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		must(t, s.guard.cmd.Process.Signal(signal))
	}
	must(t, s.guard.tell("hold"))
	must(t, s.guard.tell("thaw"))
	must(t, s.Release(t.Context()))
	mustRunUntouched(t, h, "web01")
}

// impatient makes commands to QEMU give up soon.
func impatient(t *testing.T) {
	was := commandLimit
	commandLimit = 300 * time.Millisecond
	t.Cleanup(func() { commandLimit = was })
}

// slowDrive answers no read before it is told to, but for the first: QEMU looks
// for a partition table before it starts.
type slowDrive struct {
	asked   atomic.Int64
	answers chan struct{}
}

func (d *slowDrive) SizeBytes() int64 { return 16 << 20 }

func (d *slowDrive) ReadAt(ctx context.Context, p []byte, _ int64) error {
	clear(p)
	if d.asked.Add(1) == 1 {
		return nil
	}
	return waitOr(ctx, d.answers)
}

func (d *slowDrive) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return []lifeboat.Extent{within}, nil
}

func waitOr(ctx context.Context, c chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// startOnSlowDrive starts a machine whose firmware waits for its disk, so that
// QEMU cannot stop it before the disk answers.
func startOnSlowDrive(t *testing.T, h *Host) *slowDrive {
	t.Helper()
	drive := &slowDrive{answers: make(chan struct{})}
	socket := filepath.Join(h.o.RunDir, "drive.sock")
	must(t, os.MkdirAll(h.o.RunDir, 0o700))
	l, err := net.Listen("unix", socket)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { nbd.NewServer(map[string]nbd.Export{"disk": drive}, nbd.ServerOptions{}).Serve(ctx, l) })
	t.Cleanup(func() {
		powerOffAll(t, h)
		cancel()
		serving.Wait()
	})
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: sample("web01"), Disks: map[string]hypervisor.Backing{
		"root": {NBD: &hypervisor.NBDBacking{Socket: socket, Export: "disk"}}}}))
	must(t, h.PowerOn(t.Context(), "web01"))
	eventually(t, bootCeiling, "the firmware reads", func() bool { return drive.asked.Load() > 1 })
	return drive
}

func TestAGuestThatIsStoppedLateGoesOn(t *testing.T) {
	h := newHost(t)
	drive := startOnSlowDrive(t, h)
	m, err := h.find("web01")
	must(t, err)
	mon, err := m.monitor(t.Context(), workSocket)
	must(t, err)
	defer mon.close()
	impatient(t)
	time.AfterFunc(4*commandLimit, func() { close(drive.answers) })
	if err := m.still(t.Context(), mon, false, func() error { return errors.New("it stands already") }); err == nil ||
		strings.Contains(err.Error(), "it stands already") {
		t.Fatalf("QEMU stopped it at once (%v), so nothing is shown", err)
	}
	mustRun(t, m)
}

// mustRun fails if a guest does not come to run; a busy QEMU may be slow to say.
func mustRun(t *testing.T, m *machine) {
	t.Helper()
	eventually(t, bootCeiling, "the guest runs", func() bool {
		power, err := m.power(t.Context())
		return err == nil && power == hypervisor.PowerOn
	})
}

// hang makes QEMU answer nothing for a while.
func hang(t *testing.T, m *machine, d time.Duration) {
	t.Helper()
	mon, err := m.monitor(t.Context(), commandSocket)
	must(t, err)
	defer mon.close()
	p, err := mon.peer()
	must(t, err)
	must(t, unix.Kill(p.pid, unix.SIGSTOP))
	time.AfterFunc(d, func() { unix.Kill(p.pid, unix.SIGCONT) })
}

func TestAGuardTriesUntilTheGuestGoesOn(t *testing.T) {
	h := newHost(t)
	defineAndStart(t, h, sample("web01"))
	s := halfway(t, h, "web01")
	must(t, s.guard.tell("hold"))
	must(t, s.monitor.run(t.Context(), "stop", nil, nil))
	s.monitor.close()
	w := &watcher{machine: s.machine, holding: true}
	hang(t, s.machine, 2*time.Second)
	impatient(t)
	if w.letGo() || !w.holding {
		t.Error("it takes silence for an answer")
	}
	w.rescue()
	mustRun(t, s.machine)
	if w.holding {
		t.Error("it does not know that the guest runs")
	}
	s.lock.Close()
	s.guard.abandon()
	mustRunUntouched(t, h, "web01")
}

func stopCPUs(t *testing.T, h *Host, name string) {
	t.Helper()
	m, err := h.find(name)
	must(t, err)
	mon, err := m.monitor(t.Context(), commandSocket)
	must(t, err)
	defer mon.close()
	must(t, mon.run(t.Context(), "stop", nil, nil))
}

func TestReleaseLetsAGuestGoOnThatAFreezeLeftStanding(t *testing.T) {
	h := newHost(t)
	defineAndStart(t, h, sample("web01"))
	s := halfway(t, h, "web01")
	must(t, s.monitor.run(t.Context(), "stop", nil, nil))
	s.stands = true // as after a cont whose answer did not come
	must(t, s.Release(t.Context()))
	mustRunUntouched(t, h, "web01")
}

func TestAGuestThatNobodyLetGoOnIsLetGoByTheNextFreeze(t *testing.T) {
	h := newHost(t)
	defineAndStart(t, h, sample("web01"))
	m, err := h.find("web01")
	must(t, err)
	must(t, os.Mkdir(m.scratchDir(), 0o700))
	stopCPUs(t, h, "web01")
	s, err := h.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "d"})
	must(t, err)
	must(t, s.Release(t.Context()))
	mustRunUntouched(t, h, "web01")
}

func TestAMachineThatSomebodyPausedStaysPaused(t *testing.T) {
	h := newHost(t)
	defineAndStart(t, h, sample("web01"))
	stopCPUs(t, h, "web01")
	s, err := h.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "d"})
	must(t, err)
	must(t, s.Release(t.Context()))
	if power, err := s.(*still).machine.power(t.Context()); err != nil || power != hypervisor.PowerPaused {
		t.Errorf("it is %s (%v)", power, err)
	}
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
