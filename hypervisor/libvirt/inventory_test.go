//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

func TestListShowsEveryMachineAsItIs(t *testing.T) {
	d := libvirtd.Start(t)
	h := openOn(t, d)
	image := d.Dir + "/web02.raw"
	if err := os.WriteFile(image, make([]byte, 3<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	disk := "<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='" + image + "'/><target dev='vda' bus='virtio'/></disk>" +
		"<graphics type='vnc' passwd='geheim'/></devices>"
	uuid := defineSmall(t, d, "web02", disk)
	own := ours{ID: strings.Repeat("ab", 16), Recovery: "r1"}
	defineSmall(t, d, "web01", "<metadata>"+own.text()+"</metadata><devices><graphics type='vnc' passwd='geheim'/></devices>")
	defineSmall(t, d, "web03", strings.ReplaceAll(disk, image, d.Dir+"/gone.raw"))
	d.Virsh(t, "start", "web01")

	list, err := h.List(t.Context())
	if err == nil || !strings.Contains(err.Error(), "web03") {
		t.Errorf("the machine whose disk is gone is not in the error: %v", err)
	}
	if len(list) != 2 || list[0].Machine.Name != "web01" || list[1].Machine.Name != "web02" {
		t.Fatalf("list: %+v", list)
	}
	if web01 := list[0]; web01.Power != hypervisor.PowerOn || web01.Recovery != "r1" || web01.Machine.ID != own.ID {
		t.Errorf("web01: %+v", web01)
	}
	web02 := list[1]
	if web02.Power != hypervisor.PowerOff || web02.HostID != uuid || web02.Recovery != "" ||
		web02.Machine.ID != hypervisor.DerivedID(Kind, uuid) || web02.Machine.Disks[0].SizeBytes != 3<<20 {
		t.Errorf("web02: %+v", web02)
	}
	for _, l := range list {
		if l.Machine.Native == nil || !strings.Contains(l.Machine.Native.Text, "<uuid>"+l.HostID) {
			t.Errorf("%s: libvirt's own description is not kept", l.Machine.Name)
		} else if strings.Contains(l.Machine.Native.Text, "geheim") {
			t.Errorf("%s: the password of its screen is in the description", l.Machine.Name)
		}
	}
	if found, err := h.find(t.Context(), own.ID); err != nil || found.name != "web01" {
		t.Errorf("find by the id that it carries: %+v, %v", found, err)
	}
}

func TestTheVariablesOfUEFIAreRead(t *testing.T) {
	d := libvirtd.Start(t)
	h := openOn(t, d)
	if err := os.Mkdir(d.Dir+"/nvram", 0o755); err != nil {
		t.Fatal(err)
	}
	uefi := func(name, nvram string) {
		define(t, d, `<domain type='qemu'><name>`+name+`</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os firmware='efi'>
			<type arch='x86_64' machine='q35'>hvm</type>
			<firmware><feature enabled='no' name='secure-boot'/><feature enabled='no' name='enrolled-keys'/></firmware>`+nvram+`</os><features><acpi/></features></domain>`)
	}
	// One whose variables this process can read, one whose lie in the daemon's own
	// folders alone, and one that never ran.
	uefi("near", "<nvram>"+d.Dir+"/nvram/near.fd</nvram>")
	uefi("far", "")
	uefi("new", "")
	template, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		t.Skipf("needs UEFI firmware: build/need qemu: %v", err)
	}
	for _, name := range []string{"near", "far"} {
		d.Virsh(t, "start", "--paused", name)
		s := lookAt(t, h, name)
		if notes := s.dom.readState(t.Context(), s.sight); len(notes) > 0 || !bytes.Equal(s.machine.Firmware.NVRAM, template) {
			t.Errorf("%s: %d bytes of variables, %q, want the template's %d", name, len(s.machine.Firmware.NVRAM), notes, len(template))
		}
		if s.machine.Firmware.Kind != lifeboat.FirmwareUEFI || s.machine.Firmware.SecureBoot {
			t.Errorf("%s: firmware %s, Secure Boot %v", name, s.machine.Firmware.Kind, s.machine.Firmware.SecureBoot)
		}
	}
	// A guest that writes them between that and the moment of its disks.
	near := lookAt(t, h, "near")
	held := &still{domain: near.dom, description: near.machine}
	held.description.Firmware.NVRAM = template
	var said []string
	h.o.Note = func(_, text string) { said = append(said, text) }
	held.readStateAgain(t.Context(), near.sight)
	if len(said) > 0 || !bytes.Equal(held.description.Firmware.NVRAM, template) {
		t.Errorf("nothing was written, and it says %q", said)
	}
	written := bytes.Clone(template)
	written[len(written)-1] ^= 1
	must(t, os.WriteFile(d.Dir+"/nvram/near.fd", written, 0o600))
	held.readStateAgain(t.Context(), near.sight)
	if len(said) != 1 || !bytes.Equal(held.description.Firmware.NVRAM, written) {
		t.Errorf("the point has the older variables, and it says %q", said)
	}
	s := lookAt(t, h, "new")
	if notes := s.dom.readState(t.Context(), s.sight); len(notes) > 0 || s.machine.Firmware.NVRAM != nil {
		t.Errorf("a machine that never ran: %q", notes)
	}
	if pools := d.Virsh(t, "pool-list", "--all", "--name"); strings.Contains(pools, readPoolPrefix) {
		t.Errorf("a pool was left behind: %s", pools)
	}
}

// seen is a machine and how it was found.
type seen struct {
	*sight
	dom *domain
}

func lookAt(t *testing.T, h *Host, name string) seen {
	t.Helper()
	d, err := h.find(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return seen{s, d}
}
