//go:build libvirt_dlopen && cgo

package libvirt

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"lifeboat/hypervisor"
)

// testSnapshots: a machine goes back to an internal snapshot and runs, although
// it was tracked before and is exported all the while. With a checkpoint there
// libvirt would leave it shut off.
func testSnapshots(t *testing.T, p *production) {
	dir, err := os.MkdirTemp(p.daemon.Dir, "snap-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	_, err = runImage(t.Context(), "create", "-q", "-f", "qcow2", dir+"/root.qcow2", fmt.Sprint(diskBytes))
	must(t, err)
	define(t, p.daemon, `<domain type='qemu'><name>snap</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
		<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='`+dir+`/root.qcow2'/><target dev='vda' bus='virtio'/></disk>
		</devices></domain>`)
	must(t, p.h.PowerOn(t.Context(), "snap"))
	d, err := p.h.find(t.Context(), "snap")
	must(t, err)
	forgetAtEnd(t, d)
	q := &production{t, p.daemon, p.h, d, standIn{p.h, p.guest.dir}}

	token := q.commit(t, "drive-a", "")
	p.daemon.Virsh(t, "snapshot-create-as", d.uuid, "before-upgrade")
	defer p.daemon.Virsh(t, "snapshot-delete", d.uuid, "before-upgrade")
	wantFinding(t, p.h.Check(t.Context()), "change tracking of snap", false, "internal snapshots")
	q.readsAll(t, "drive-a", token, whySnapshots)
	if again := q.commit(t, "drive-a", token); again != "" {
		t.Errorf("its point has the token %s", again)
	}
	if left := q.checkpoints(t); len(left) > 0 {
		t.Errorf("it still has the checkpoints %v", left)
	}
	p.daemon.Virsh(t, "snapshot-revert", d.uuid, "before-upgrade")
	if power, err := d.power(t.Context()); err != nil || power != hypervisor.PowerOn {
		t.Errorf("after going back it is %s (%v)", power, err)
	}
}

// testNoTracking: a host that is not to be tracked loses what there was, on
// machines that run and on those that are off.
func testNoTracking(t *testing.T, p *production) {
	defer func() { p.h.o.NoTracking = false }()
	token := p.commit(t, "drive-a", "")
	p.h.o.NoTracking = true
	p.readsAll(t, "drive-a", token, whySwitchedOff)
	if left := p.checkpoints(t); len(left) > 0 {
		t.Errorf("it still has the checkpoints %v", left)
	}
	p.h.o.NoTracking = false
	token = p.commit(t, "drive-a", "")
	must(t, p.h.PowerOff(t.Context(), p.d.uuid, 0))
	p.h.o.NoTracking = true
	p.readsAll(t, "drive-a", token, whySwitchedOff)
	if left := p.checkpoints(t); len(left) > 0 {
		t.Errorf("off it still has the checkpoints %v", left)
	}
	info, err := imageChain(t.Context(), p.rootImage(t), "qcow2")
	must(t, err)
	if text := fmt.Sprint(info); strings.Contains(text, checkpointPrefix) {
		t.Errorf("the image still records changes: %s", text)
	}
	must(t, p.h.PowerOn(t.Context(), p.d.uuid))
}

// rootImage is the file of the disk vda.
func (p *production) rootImage(t *testing.T) string {
	t.Helper()
	seen, err := p.d.look(t.Context())
	must(t, err)
	return seen.disks[0].path
}
