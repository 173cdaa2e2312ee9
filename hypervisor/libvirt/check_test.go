//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"os"
	"testing"
	"time"

	"lifeboat/fixtures/libvirtd"
)

func TestCheckSaysWhatWorksAndWhatDoesNot(t *testing.T) {
	d := libvirtd.Start(t)
	h := openOn(t, d)
	h.o.KVM = func(context.Context) (bool, string) { return false, "guests hang under it" }
	image := d.Dir + "/disk.raw"
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	channel := "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
	disk := "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='" + image + "'/><target dev='vda' bus='virtio'/>"
	defineSmall(t, d, "raw", "<devices>"+disk+"</disk></devices>")
	defineSmall(t, d, "shared", "<devices>"+disk+"<shareable/></disk></devices>")
	defineSmall(t, d, "deaf", "<devices>"+channel+"</devices>")
	defineSmall(t, d, "dumb", "")
	d.Virsh(t, "start", "deaf")
	d.Virsh(t, "start", "dumb")

	before := d.Virsh(t, "list", "--all") + d.Virsh(t, "pool-list", "--all")
	findings := h.Check(t.Context())
	wantFinding(t, findings, "libvirt", true, "version ")
	wantFinding(t, findings, "privileges", true, "manage")
	wantFinding(t, findings, "QEMU", true, "version ")
	wantFinding(t, findings, "backups of running machines", true, "qcow2")
	wantFinding(t, findings, "free memory", true, "MiB")
	wantFinding(t, findings, "space for machines", false, "default")
	wantFinding(t, findings, "space for exports", false, "default")
	wantFinding(t, findings, "machines", true, "4 on this host")
	wantFinding(t, findings, "change tracking of raw", false, "vda (raw)")
	wantFinding(t, findings, "export of shared", false, "leave it out")
	wantFinding(t, findings, "agent of deaf", false, "qemu-guest-agent")
	wantFinding(t, findings, "agent of dumb", false, "no channel")
	if after := d.Virsh(t, "list", "--all") + d.Virsh(t, "pool-list", "--all"); after != before {
		t.Errorf("a check changed the host from\n%s to\n%s", before, after)
	}

	if err := os.Mkdir(d.Dir+"/pool", 0o755); err != nil {
		t.Fatal(err)
	}
	d.Virsh(t, "pool-create-as", "default", "dir", "--target", d.Dir+"/pool")
	h.o.ScratchDir = d.Dir
	findings = h.Check(t.Context())
	wantFinding(t, findings, "space for machines", true, d.Dir+"/pool")
	wantFinding(t, findings, "space for exports", true, "left alone")
}

func TestCheckOfAHostThatIsAwaySaysSo(t *testing.T) {
	findings := openURI(t, "qemu+unix:///system?socket=/nowhere/libvirt-sock").Check(t.Context())
	wantFinding(t, findings, "libvirt", false, "systemctl status libvirtd")
	wantFinding(t, findings, "privileges", false, "not known")
}

// The right to look alone is not enough, and is found out.
func TestAUserWhoMayOnlyLookIsFoundOut(t *testing.T) {
	d := libvirtd.Start(t)
	defineSmall(t, d, "web01", "")
	h := openURI(t, d.URI+"-ro")
	findings := h.Check(t.Context())
	wantFinding(t, findings, "libvirt", true, "version")
	wantFinding(t, findings, "privileges", false, "look at the host and not manage it")
	err := h.PowerOff(t.Context(), "web01", time.Second)
	wantProblem(t, err, "refuses this user", "usermod -aG libvirt")
}
