//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

// openHost returns a host with a storage pool of the test's own.
func openHost(t testing.TB, daemon *libvirtd.Daemon, change ...func(*Options)) *Host {
	t.Helper()
	dir, err := os.MkdirTemp(daemon.Dir, "pool-")
	must(t, err)
	must(t, os.Chmod(dir, 0o711))
	pool := filepath.Base(dir)
	daemon.Virsh(t, "pool-create-as", pool, "dir", "--target", dir)
	o := Options{Name: "test", URI: daemon.URI, Pool: pool, ScratchReserveBytes: 1, Notes: &memoryNotes{},
		Note: func(m, text string) { t.Logf("note: %s: %s", m, text) }}
	for _, f := range change {
		f(&o)
	}
	h, err := Open(o)
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

type testHost struct {
	*Host
	t      *testing.T
	daemon *libvirtd.Daemon
	pool   string
}

func newHost(t *testing.T, daemon *libvirtd.Daemon, change ...func(*Options)) *testHost {
	t.Helper()
	h := openHost(t, daemon, change...)
	t.Cleanup(func() {
		virsh := func(words ...string) string {
			out, _ := exec.Command("virsh", append([]string{"-q", "-c", daemon.URI}, words...)...).CombinedOutput()
			return string(out)
		}
		for _, uuid := range strings.Fields(virsh("list", "--all", "--uuid")) {
			virsh("destroy", uuid)
			virsh("undefine", uuid, "--nvram", "--checkpoints-metadata")
		}
	})
	return &testHost{h, t, daemon, filepath.Join(daemon.Dir, h.o.Pool)}
}

// Define stands in for that of the host until it has one.
func (h *testHost) Define(ctx context.Context, d hypervisor.Definition) error {
	if _, err := h.find(ctx, d.Machine.Name); err == nil {
		return fmt.Errorf("exists")
	}
	var disks strings.Builder
	for i, disk := range d.Machine.Disks {
		if d.Disks[disk.Key].NBD != nil {
			h.t.Skip("the host does not define machines yet")
		}
		path := filepath.Join(h.pool, fmt.Sprintf("%x-%s.qcow2", d.Machine.Name, disk.Key))
		if _, err := runImage(ctx, "create", "-q", "-f", "qcow2", path, fmt.Sprint(disk.SizeBytes)); err != nil {
			return err
		}
		fmt.Fprintf(&disks, "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vd%c' bus='virtio'/><alias name='%s'/></disk>", path, 'a'+i, diskAlias(disk.Key))
	}
	define(h.t, h.daemon, fmt.Sprintf(`<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>%s</devices></domain>`, escape(d.Machine.Name), disks.String()))
	return nil
}

// Remove stands in for that of the host.
func (h *testHost) Remove(context.Context, string) error {
	h.t.Skip("the host does not remove machines yet")
	return nil
}
