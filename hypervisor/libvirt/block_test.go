//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"lifeboat/hypervisor"
)

// testBlockDevice: a disk that is a block device of the host is read whole, from
// a machine that runs and from one that is off.
func testBlockDevice(t *testing.T, p *production) {
	want := bytes.Repeat([]byte("block device "), diskBytes/13+1)[:diskBytes]
	file := p.guest.dir + "/loop.img"
	must(t, os.WriteFile(file, want, 0o600))
	out, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", file).Output()
	if err != nil {
		t.Skipf("no loop device can be had here, so no block device is tried: %v", err)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { must(t, exec.Command("losetup", "-d", device).Run()) })
	define(t, p.daemon, `<domain type='qemu'><name>block</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
		<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='`+device+`'/><target dev='vda' bus='virtio'/></disk>
		</devices></domain>`)
	d, err := p.h.find(t.Context(), "block")
	must(t, err)
	forgetAtEnd(t, d)
	reads := func(drive string) {
		t.Helper()
		s, err := p.h.Freeze(t.Context(), d.uuid, hypervisor.FreezeOptions{DriveID: drive})
		must(t, err)
		defer s.Release(context.Background())
		disk, err := s.Disk("vda")
		must(t, err)
		got := make([]byte, diskBytes)
		must(t, disk.ReadAt(t.Context(), got, 0))
		if !bytes.Equal(got, want) {
			t.Error("it reads other bytes")
		}
		if _, ok, why := disk.Changed(t.Context()); ok || why != whyRaw || disk.Token() != "" {
			t.Errorf("it tracks changes: %v, %q, %q", ok, why, disk.Token())
		}
	}
	reads("drive-a")
	must(t, p.h.PowerOn(t.Context(), d.uuid))
	reads("drive-a")
}
