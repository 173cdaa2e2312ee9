package libvirt

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"
	"pgregory.net/rapid"

	"lifeboat"
	"lifeboat/hypervisor"
)

// anyMachine draws a machine as hosts describe them, hostile words included.
func anyMachine(t *rapid.T) lifeboat.Machine {
	buses := []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusSATA, lifeboat.BusVirtioSCSI, lifeboat.BusPVSCSI, lifeboat.BusLSISAS}
	m := lifeboat.Machine{
		ID: newID(), Name: "m", UUID: newUUID(), CPUs: rapid.IntRange(1, 8).Draw(t, "cpus"), MemoryBytes: 64 << 20,
		Chipset:  rapid.SampledFrom([]lifeboat.Chipset{"", lifeboat.ChipsetQ35, lifeboat.ChipsetI440FX}).Draw(t, "board"),
		CPUModel: rapid.SampledFrom([]string{"", "host-model", "EPYC", "<evil/>"}).Draw(t, "cpu"),
		SMBIOS:   lifeboat.SMBIOS{Serial: rapid.String().Draw(t, "serial")},
		Firmware: lifeboat.Firmware{Kind: rapid.SampledFrom([]lifeboat.FirmwareKind{lifeboat.FirmwareBIOS, lifeboat.FirmwareUEFI}).Draw(t, "firmware")},
		HyperV:   rapid.SliceOfN(rapid.SampledFrom([]string{"relaxed", "spinlocks=8191", "vendor_id=<x>", "none"}), 0, 3).Draw(t, "hyperv"),
	}
	slot := func() string {
		return rapid.SampledFrom([]string{"", "0000:00:05.0", "0000:01:00.0", "0000:03:00.0", "0000:00:1f.2", "0000:0b:00.0", "x"}).Draw(t, "slot")
	}
	place := func() string {
		return rapid.SampledFrom([]string{"", "0:0", "0:1", "1:0", "1:3", "9:9", "0:7", "-1:0"}).Draw(t, "place")
	}
	for i := range rapid.IntRange(0, 9).Draw(t, "disks") {
		m.Disks = append(m.Disks, lifeboat.Disk{Key: fmt.Sprintf("d%d", i), SizeBytes: 1 << 20, Bus: rapid.SampledFrom(buses).Draw(t, "bus"),
			Place: place(), PCISlot: slot(), BootIndex: rapid.IntRange(0, 3).Draw(t, "boot")})
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "cards") {
		m.NICs = append(m.NICs, lifeboat.NIC{MAC: ownMAC([]byte{1, 2, byte(i)}), Model: rapid.SampledFrom(cards).Draw(t, "card"), PCISlot: slot()})
	}
	return m
}

func buildOf(m lifeboat.Machine) build {
	b := build{name: m.Name, uuid: m.UUID, disks: map[string]diskFile{}, ours: ours{ID: m.ID}}
	for _, d := range m.Disks {
		b.disks[d.Key] = diskFile{path: "/pool/" + d.Key, format: "qcow2", base: &hypervisor.NBDBacking{Socket: "/s", Export: d.Key}}
	}
	return b
}

// TestEveryMachineHasADescriptionThatKeepsIt: no address is given twice, nothing
// is lost, and what a stranger wrote stays text.
func TestEveryMachineHasADescriptionThatKeepsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMachine(t)
		text, err := domainXML(hypervisor.Definition{Machine: m}, buildOf(m))
		if err != nil {
			t.Fatal(err)
		}
		var doc libvirtxml.Domain
		if err := doc.Unmarshal(text); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "<evil") || strings.Contains(text, "<x>") {
			t.Fatalf("a stranger's words became XML: %s", text)
		}
		addresses, orders, names := map[string]bool{}, map[uint]bool{}, map[string]bool{}
		for i, disk := range doc.Devices.Disks {
			if keyOf(&disk) != m.Disks[i].Key || names[disk.Target.Dev] || orders[disk.Boot.Order] || disk.Boot.Order == 0 {
				t.Fatalf("disk %d is %s at %s, order %d", i, keyOf(&disk), disk.Target.Dev, disk.Boot.Order)
			}
			names[disk.Target.Dev], orders[disk.Boot.Order] = true, true
			at := disk.Address
			if disk.Target.Bus == "virtio" {
				if at != nil && !unique(addresses, pciSlot(at)) {
					t.Fatalf("two cards in slot %s", pciSlot(at))
				}
				continue
			}
			a := at.Drive
			if !unique(addresses, fmt.Sprint(disk.Target.Bus, *a.Controller, *a.Bus, *a.Target, *a.Unit)) {
				t.Fatalf("two disks in one place: %s", text)
			}
			model := busKinds[m.Disks[i].Bus].model
			found := slices.ContainsFunc(doc.Devices.Controllers, func(c libvirtxml.DomainController) bool {
				return c.Type == busKinds[m.Disks[i].Bus].controller && *c.Index == *a.Controller && c.Model == model
			})
			if !found {
				t.Fatalf("disk %s has no controller of its own kind: %s", m.Disks[i].Key, text)
			}
		}
		for _, c := range doc.Devices.Controllers {
			if c.Address != nil && !unique(addresses, pciSlot(c.Address)) {
				t.Fatalf("two cards in slot %s", pciSlot(c.Address))
			}
		}
		for i, n := range doc.Devices.Interfaces {
			if n.MAC.Address != m.NICs[i].MAC || n.Model.Type != m.NICs[i].Model || n.Link.State != "down" {
				t.Fatalf("card %d became %+v", i, n)
			}
			if n.Address != nil && !unique(addresses, pciSlot(n.Address)) {
				t.Fatalf("two cards in slot %s", pciSlot(n.Address))
			}
		}
	})
}

func unique(seen map[string]bool, key string) bool {
	again := seen[key]
	seen[key] = true
	return !again
}

func TestSecureBootIsNeverASurprise(t *testing.T) {
	for _, secure := range []bool{false, true} {
		m := lifeboat.Machine{UUID: newUUID(), MemoryBytes: 1 << 20, Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareUEFI, SecureBoot: secure}}
		text, err := domainXML(hypervisor.Definition{Machine: m}, buildOf(m))
		if err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{false: `<feature enabled="no" name="enrolled-keys">`, true: `<feature enabled="yes" name="enrolled-keys">`}[secure]
		if !strings.Contains(text, want) {
			t.Errorf("Secure Boot %v: %s", secure, text)
		}
	}
}

func TestADriveThatIsAwayStopsTheMachineAndDamageDoesNot(t *testing.T) {
	m := lifeboat.Machine{UUID: newUUID(), MemoryBytes: 1 << 20, Disks: []lifeboat.Disk{{Key: "root", SizeBytes: 1, Bus: lifeboat.BusVirtio}}}
	text, err := domainXML(hypervisor.Definition{Machine: m}, buildOf(m))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`name="rerror" type="string" value="enospc"`, `error_policy="enospace"`, fmt.Sprintf(`<reconnect delay="%d">`, reconnectSeconds)} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	if strings.Contains(text, "unsafe") {
		t.Error("a recovery ignores flushes")
	}
}

func TestDefinitionsThatCannotBeAreRefused(t *testing.T) {
	good := func() hypervisor.Definition {
		return hypervisor.Definition{Name: "web01", Machine: lifeboat.Machine{MemoryBytes: 1 << 20,
			Disks: []lifeboat.Disk{{Key: "root", SizeBytes: 1, Bus: lifeboat.BusVirtio}}}, Disks: map[string]hypervisor.Backing{}}
	}
	if err := checkDefinition(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*hypervisor.Definition){
		"a name with a line break": func(d *hypervisor.Definition) { d.Name = "a\nb" },
		"a name of nothing":        func(d *hypervisor.Definition) { d.Name = " " },
		"no memory":                func(d *hypervisor.Definition) { d.Machine.MemoryBytes = 0 },
		"a key with a slash":       func(d *hypervisor.Definition) { d.Machine.Disks[0].Key = "../x" },
		"one key twice":            func(d *hypervisor.Definition) { d.Machine.Disks = append(d.Machine.Disks, d.Machine.Disks[0]) },
		"a bus that is not there":  func(d *hypervisor.Definition) { d.Machine.Disks[0].Bus = lifeboat.BusNVMe },
		"no size":                  func(d *hypervisor.Definition) { d.Machine.Disks[0].SizeBytes = 0 },
		"a WWN that is none":       func(d *hypervisor.Definition) { d.Machine.Disks[0].WWN = "x" },
		"a source of no disk":      func(d *hypervisor.Definition) { d.Disks["other"] = hypervisor.Backing{} },
		"no source in a source":    func(d *hypervisor.Definition) { d.Disks["root"] = hypervisor.Backing{} },
		"a format that is not read": func(d *hypervisor.Definition) {
			d.Disks["root"] = hypervisor.Backing{File: &hypervisor.FileBacking{Path: "/x", Format: "vmdk"}}
		},
		"a card that is not there": func(d *hypervisor.Definition) { d.Machine.NICs = []lifeboat.NIC{{Model: "ne2k"}} },
		"an address that is none":  func(d *hypervisor.Definition) { d.Machine.NICs = []lifeboat.NIC{{MAC: "52:54"}} },
		"forwards without a gateway": func(d *hypervisor.Definition) {
			d.Networks = []hypervisor.Network{{Kind: hypervisor.NetworkUser, Forwards: []hypervisor.Forward{{}}}}
		},
	} {
		d := good()
		spoil(&d)
		if checkDefinition(d) == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
