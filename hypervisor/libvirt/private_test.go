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
	"time"

	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

type testHost struct {
	*Host
	t      *testing.T
	daemon *libvirtd.Daemon
	pool   string
}

func newHost(t *testing.T, daemon *libvirtd.Daemon, change ...func(*Options)) *testHost {
	t.Helper()
	dir, err := os.MkdirTemp(daemon.Dir, "p-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	pool := filepath.Base(dir)
	daemon.Virsh(t, "pool-create-as", pool, "dir", "--target", dir)
	o := Options{Name: "test", URI: daemon.URI, Pool: pool, ScratchReserveBytes: 1, Notes: &memoryNotes{},
		Note: func(m, text string) { t.Logf("note: %s: %s", m, text) }}
	for _, f := range change {
		f(&o)
	}
	h, err := Open(o)
	must(t, err)
	th := &testHost{h, t, daemon, dir}
	t.Cleanup(func() {
		V := func(w ...string) string {
			out, _ := exec.Command("virsh", append([]string{"-q", "-c", daemon.URI}, w...)...).CombinedOutput()
			return string(out)
		}
		for _, n := range strings.Fields(V("list", "--all", "--uuid")) {
			V("destroy", n)
			V("undefine", n, "--nvram", "--checkpoints-metadata")
		}
		h.Close()
		V("pool-destroy", pool)
	})
	return th
}

func (h *testHost) Define(ctx context.Context, d hypervisor.Definition) error {
	if _, err := h.find(ctx, d.Machine.Name); err == nil {
		return fmt.Errorf("exists")
	}
	var disks strings.Builder
	for i, disk := range d.Machine.Disks {
		if d.Disks[disk.Key].NBD != nil {
			h.t.Skip("needs Define of lv-recover")
		}
		p := filepath.Join(h.pool, fmt.Sprintf("%x-%s.qcow2", d.Machine.Name, disk.Key))
		if _, err := runImage(ctx, "create", "-q", "-f", "qcow2", p, fmt.Sprint(disk.SizeBytes)); err != nil {
			return err
		}
		fmt.Fprintf(&disks, "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vd%c' bus='virtio'/><alias name='%s'/></disk>", p, 'a'+i, diskAlias(disk.Key))
	}
	xml := fmt.Sprintf(`<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>%s</devices></domain>`, escape(d.Machine.Name), disks.String())
	f := filepath.Join(h.t.TempDir(), "x.xml")
	os.WriteFile(f, []byte(xml), 0o600)
	h.daemon.Virsh(h.t, "define", f)
	return nil
}

func (h *testHost) virsh(ctx context.Context, words ...string) error {
	out, err := exec.CommandContext(ctx, "virsh", append([]string{"-q", "-c", h.daemon.URI}, words...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%v: %s", words, out)
	}
	return nil
}

func (h *testHost) PowerOn(ctx context.Context, machine string) error {
	d, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	if on, _ := d.active(ctx); on {
		return nil
	}
	return h.virsh(ctx, "start", d.uuid)
}

func (h *testHost) PowerOff(ctx context.Context, machine string, grace time.Duration) error {
	d, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	if on, _ := d.active(ctx); !on {
		return nil
	}
	return h.virsh(ctx, "destroy", d.uuid)
}

func (h *testHost) Remove(ctx context.Context, machine string) error {
	h.t.Skip("needs Remove")
	return nil
}
