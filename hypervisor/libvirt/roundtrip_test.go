package libvirt

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lifeboat"
	"lifeboat/hypervisor"
)

// A machine that was built from its description is described as it was, on a host
// with KVM and on one without.
func TestADefinitionIsReadAsTheMachineItWasMadeFrom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := wholeMachine(t)
		b := build{name: m.Name, uuid: m.UUID, kvm: rapid.Bool().Draw(t, "kvm"), disks: map[string]diskFile{},
			nvram: "/pool/nvram.fd", serialLog: "/pool/serial.log", ours: oursOf(&m, "run-1", "default")}
		if rapid.Bool().Draw(t, "beside production") {
			b.uuid, b.ours.UUID = "11111111-2222-3333-4444-555555555555", m.UUID
		}
		for _, d := range m.Disks {
			b.disks[d.Key] = diskFile{path: "/pool/" + d.Key, format: "qcow2"}
		}
		text, err := domainXML(hypervisor.Definition{Machine: m, Name: m.Name}, b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := describe(text, "")
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if got.recovery != "run-1" {
			t.Errorf("the run is %q", got.recovery)
		}
		want := m
		want.Native = got.machine.Native
		if diff := cmp.Diff(want, got.machine); diff != "" {
			t.Errorf("the machine differs (-want +got):\n%s\n%s", diff, text)
		}
	})
}

// wholeMachine is a machine that libvirt can build, complete in every field that a
// definition has words for. Sizes, variables and what an agent tells are not
// among them.
func wholeMachine(t *rapid.T) lifeboat.Machine {
	word := func(label string) string { return rapid.StringMatching(`([A-Za-z0-9 .-]*[A-Za-z0-9])?`).Draw(t, label) }
	flag := func(label string) bool { return rapid.Bool().Draw(t, label) }
	one := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	m := lifeboat.Machine{
		Version: lifeboat.MachineVersion, ID: rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "id"),
		Name:         rapid.StringMatching(`[a-zA-Z0-9äß&<>'" .-]{0,20}[a-z]`).Draw(t, "name"),
		UUID:         "4dea22b3-1d52-48f3-a516-" + rapid.StringMatching(`[0-9a-f]{12}`).Draw(t, "uuid"),
		SMBIOS:       lifeboat.SMBIOS{Manufacturer: word("manufacturer"), Product: word("product"), Serial: word("serial")},
		GenerationID: flag("generation"), Chipset: lifeboat.Chipset(one("chipset", "q35", "i440fx")), Agent: flag("agent"),
		Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareKind(one("firmware", "bios", "uefi"))},
		CPUs:     rapid.IntRange(1, 64).Draw(t, "cpus"), CPUModel: one("model", "host-passthrough", "host-model", "Skylake-Server", "qemu64"),
		MemoryBytes: int64(rapid.IntRange(1, 1<<20).Draw(t, "memory")) << 20, ClockLocal: flag("local"),
		GuestFamily: one("family", "", "linux", "windows"), GuestSystem: one("system", "", "http://debian.org/debian/12", "windows2019srv_64Guest"),
	}
	if m.Firmware.Kind == lifeboat.FirmwareUEFI {
		m.Firmware.SecureBoot = flag("secure")
	}
	if m.GuestSystem == "http://debian.org/debian/12" {
		m.GuestFamily = "linux" // libvirt's own words for it say so
	}
	if flag("TPM") {
		m.TPM = &lifeboat.TPM{Version: "2.0", Model: one("TPM model", "tis", "crb")}
	}
	if flag("topology") {
		m.Topology = &lifeboat.Topology{Sockets: m.CPUs, Cores: 1, Threads: 1}
	}
	if flag("hyperv") {
		m.HyperV = []string{"relaxed", "spinlocks=8191", "vapic", "vendor_id=KVMKVMKVM"}
	}
	bus := lifeboat.Bus(one("bus", "virtio", "virtio-scsi", "sata", "lsi-sas", "pvscsi"))
	for i := range rapid.IntRange(0, 3).Draw(t, "disks") {
		d := lifeboat.Disk{Key: fmt.Sprintf("disk%d", i), Bus: bus, Serial: word("disk serial"), BootIndex: i + 1}
		if bus == lifeboat.BusVirtio {
			d.PCISlot = fmt.Sprintf("0000:%02x:00.0", i+1)
			if m.Chipset == lifeboat.ChipsetI440FX {
				d.PCISlot = fmt.Sprintf("0000:00:%02x.0", i+8)
			}
		} else {
			d.Place = fmt.Sprintf("0:%d", i)
			d.WWN = rapid.StringMatching(`5[0-9a-f]{15}`).Draw(t, "wwn")
		}
		if flag("sectors") && bus != lifeboat.BusSATA {
			d.LogicalSectorBytes, d.PhysicalSectorBytes = 4096, 4096
		}
		m.Disks = append(m.Disks, d)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "cards") {
		n := lifeboat.NIC{MAC: fmt.Sprintf("52:54:00:00:00:%02x", i), Model: rapid.SampledFrom(slices.Clone(cards)).Draw(t, "card")}
		m.NICs = append(m.NICs, n)
	}
	return m
}
