package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// needQEMU skips a test where QEMU is missing.
func needQEMU(t *testing.T) {
	t.Helper()
	for _, name := range []string{"qemu-system-x86_64", "qemu-img", "qemu-storage-daemon"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s: apt-get install qemu-system-x86 qemu-utils", name)
		}
	}
}

// newHost returns a host in a folder of the test's own. Every machine on it is
// off when the test ends.
func newHost(t *testing.T, change ...func(*Options)) *Host {
	t.Helper()
	needQEMU(t)
	run, err := os.MkdirTemp("", "lb-run-")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Name: "test", Dir: t.TempDir(), RunDir: run, Accelerator: AcceleratorTCG, ScratchReserveBytes: 1,
		Note: func(machine, text string) { t.Logf("note: %s: %s", machine, text) }}
	for _, f := range change {
		f(&o)
	}
	h, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		powerOffAll(t, h)
		os.RemoveAll(run)
	})
	return h
}

func powerOffAll(t *testing.T, h *Host) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	machines, _ := h.machines()
	for _, m := range machines {
		if err := m.takePower(ctx); err != nil {
			t.Errorf("switch %s off: %v", m.name(), err)
		}
		if t.Failed() {
			log, _ := os.ReadFile(m.path(qemuLogFile))
			t.Logf("qemu said of %s: %s", m.name(), log)
		}
	}
}

// sample is a machine without a guest: QEMU runs, firmware looks for something
// to boot, and the test writes to its disks in the guest's stead.
func sample(name string, disks ...lifeboat.Disk) lifeboat.Machine {
	if len(disks) == 0 {
		disks = []lifeboat.Disk{{Key: "root", SizeBytes: 16 << 20, Bus: lifeboat.BusVirtio}}
	}
	return lifeboat.Machine{
		Version: 1, Name: name, CPUs: 1, MemoryBytes: 64 << 20,
		Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}, Disks: disks,
	}
}

// guestIO lets the device of a disk carry out a command of qemu-io, on the same
// path as its guest.
func guestIO(ctx context.Context, h *Host, name, key, command string) error {
	m, err := h.find(name)
	if err != nil {
		return err
	}
	mon, err := m.monitor(ctx, commandSocket)
	if err != nil {
		return err
	}
	defer mon.close()
	disk, _ := m.def.Machine.Disk(key)
	var said string
	line := fmt.Sprintf("qemu-io -d %s %q", drivePath(disk), command)
	if err := mon.run(ctx, "human-monitor-command", args{"command-line": line}, &said); err != nil {
		return err
	}
	if strings.Contains(said, "failed") || strings.Contains(said, "rror") {
		return fmt.Errorf("%s: %s", command, strings.TrimSpace(said))
	}
	return nil
}

func guestWrite(t *testing.T, h *Host, name, key string, offset, length int64, pattern byte) {
	t.Helper()
	if err := guestIO(t.Context(), h, name, key, fmt.Sprintf("write -P 0x%02x %d %d", pattern, offset, length)); err != nil {
		t.Fatalf("write in the guest's stead: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func defineAndStart(t *testing.T, h *Host, m lifeboat.Machine) {
	t.Helper()
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m}))
	must(t, h.PowerOn(t.Context(), m.Name))
}
