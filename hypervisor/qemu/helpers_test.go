package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
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
	ctx, cancel := context.WithTimeout(context.Background(), bootCeiling)
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

// guestDo lets the device of a disk carry out a command of qemu-io, on the same
// path as its guest. QEMU does not say how it ended: guestCheck looks.
func guestDo(ctx context.Context, h *Host, name, key, command string) error {
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
	if said != "" {
		return fmt.Errorf("%s: %s", command, strings.TrimSpace(said))
	}
	return nil
}

// guestCheck reads what the guest of a disk would read, through an export of the
// node that its device uses, and fails if a byte is not the given one.
func guestCheck(ctx context.Context, h *Host, name, key string, offset, length int64, pattern byte) error {
	m, err := h.find(name)
	if err != nil {
		return err
	}
	data := make([]byte, length)
	for {
		borrowed, err := guestRead(ctx, m, key, data, offset)
		if err == nil {
			break
		}
		// The server of a still goes when the still breaks; the guest reads on.
		if !(borrowed && errors.Is(err, nbd.ErrGone)) && !refused(err) || ctx.Err() != nil {
			return err
		}
	}
	for i, b := range data {
		if b != pattern {
			return fmt.Errorf("byte %d is 0x%02x, not 0x%02x", offset+int64(i), b, pattern)
		}
	}
	return nil
}

// guestRead says as well whether it had to use the server of a still.
func guestRead(ctx context.Context, m *machine, key string, data []byte, offset int64) (borrowed bool, err error) {
	socket, done, err := exposeNode(ctx, m, key)
	if err != nil {
		return false, err
	}
	defer done()
	borrowed = filepath.Base(socket) == nbdSocket
	client, err := nbd.Dial(ctx, "unix", socket, "check-"+key, nbd.DialOptions{})
	if err != nil {
		return borrowed, err
	}
	defer client.Close()
	return borrowed, client.ReadAt(ctx, data, offset)
}

// exposeNode exports the node that a disk's device uses, on the server of the
// still that is held, or on one of its own.
func exposeNode(ctx context.Context, m *machine, key string) (socket string, done func(), err error) {
	mon, err := m.monitor(ctx, commandSocket)
	if err != nil {
		return "", nil, err
	}
	defer mon.close()
	disk, _ := m.def.Machine.Disk(key)
	node, err := driveOf(ctx, mon, disk)
	if err != nil {
		return "", nil, err
	}
	socket = filepath.Join(m.sockets(), "check.sock")
	os.Remove(socket)
	address := args{"type": "unix", "data": args{"path": socket}}
	own := true
	if err := mon.run(ctx, "nbd-server-start", args{"addr": address}, nil); refused(err) {
		own, socket = false, filepath.Join(m.sockets(), nbdSocket)
	} else if err != nil {
		return "", nil, err
	}
	export := args{"type": "nbd", "id": "check-" + key, "node-name": node, "name": "check-" + key}
	if err := mon.run(ctx, "block-export-add", export, nil); err != nil {
		return "", nil, err
	}
	return socket, func() {
		ctx, cancel := context.WithTimeout(context.Background(), bootCeiling)
		defer cancel()
		mon, err := m.monitor(ctx, commandSocket)
		if err != nil {
			return
		}
		defer mon.close()
		mon.run(ctx, "block-export-del", args{"id": "check-" + key, "mode": "hard"}, nil)
		for exports := []struct{ ID string }{{"check-" + key}}; len(exports) > 0 && strings.HasPrefix(exports[0].ID, "check-"); {
			if mon.run(ctx, "query-block-exports", nil, &exports) != nil {
				return
			}
		}
		if own {
			mon.run(ctx, "nbd-server-stop", nil, nil)
		}
	}, nil
}

func guestWrite(t *testing.T, h *Host, name, key string, offset, length int64, pattern byte) {
	t.Helper()
	if err := guestDo(t.Context(), h, name, key, fmt.Sprintf("write -P 0x%02x %d %d", pattern, offset, length)); err != nil {
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
