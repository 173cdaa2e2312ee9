package qemu

import (
	"fmt"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lifeboat"
)

// seatsOf says for each disk, given as BUS or BUS@PLACE, where it is plugged in.
func seatsOf(board lifeboat.Chipset, disks ...string) string {
	m := lifeboat.Machine{Chipset: board}
	for i, word := range disks {
		bus, place, _ := strings.Cut(word, "@")
		m.Disks = append(m.Disks, lifeboat.Disk{Key: fmt.Sprint("d", i), Bus: lifeboat.Bus(bus), Place: place})
	}
	var words []string
	for _, s := range planSeats(&m) {
		o := options{}
		s.plug(o)
		line := fmt.Sprintln(o["driver"], o["bus"], o["scsi-id"], o["unit"])
		words = append(words, strings.Join(strings.Fields(strings.ReplaceAll(line, "<nil>", "")), " "))
	}
	return strings.Join(words, ", ")
}

func TestDisksSitWhereTheySat(t *testing.T) {
	q35, pc := lifeboat.ChipsetQ35, lifeboat.ChipsetI440FX
	for _, c := range []struct {
		board lifeboat.Chipset
		disks []string
		want  string
	}{
		{q35, []string{"pvscsi@0:0", "pvscsi@1:3", "pvscsi"}, "scsi-hd pvscsi0.0 0, scsi-hd pvscsi1.0 3, scsi-hd pvscsi0.0 1"},
		{q35, []string{"virtio-scsi", "virtio-scsi"}, "scsi-hd vscsi0.0 0, scsi-hd vscsi0.0 1"},
		{q35, []string{"lsi-sas@0:9", "lsi-sas@0:2", "lsi-sas@0:2"}, "scsi-hd sas0.0 0, scsi-hd sas0.0 2, scsi-hd sas0.0 1"},
		{q35, []string{"sata@0:1", "sata@1:0", "sata"}, "ide-hd ide.1, ide-hd ahci1.0, ide-hd ide.0"},
		{pc, []string{"sata", "ide", "ide@1:0", "ide@9:0"}, "ide-hd ahci0.0, ide-hd ide.0 0, ide-hd ide.1 0, ide-hd ide.0 1"},
		{q35, []string{"ide@1:1", "sata@1:1"}, "ide-hd ahci1.1, ide-hd ide.0"},
		{q35, []string{"virtio@0:1", "nvme"}, "virtio-blk-pci, nvme"},
	} {
		if got := seatsOf(c.board, c.disks...); got != c.want {
			t.Errorf("%s %v:\n got  %s\n want %s", c.board, c.disks, got, c.want)
		}
	}
}

func TestNoTwoDisksShareASeatAndNoTwoCardsASlot(t *testing.T) {
	buses := []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusVirtioSCSI, lifeboat.BusSATA, lifeboat.BusIDE, lifeboat.BusNVMe, lifeboat.BusPVSCSI, lifeboat.BusLSISAS}
	address := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("0000:%02x:%02x.0", rapid.IntRange(0, 18).Draw(t, "bus"), rapid.IntRange(0, 31).Draw(t, "slot"))
	})
	rapid.Check(t, func(t *rapid.T) {
		m := lifeboat.Machine{Chipset: rapid.SampledFrom([]lifeboat.Chipset{lifeboat.ChipsetQ35, lifeboat.ChipsetI440FX}).Draw(t, "board")}
		for i := range rapid.IntRange(0, 20).Draw(t, "disks") {
			m.Disks = append(m.Disks, lifeboat.Disk{Key: fmt.Sprint("d", i), Bus: rapid.SampledFrom(buses).Draw(t, "bus"),
				Place: fmt.Sprintf("%d:%d", rapid.IntRange(0, 9).Draw(t, "controller"), rapid.IntRange(0, 70).Draw(t, "unit")), PCISlot: address.Draw(t, "slot")})
		}
		for range rapid.IntRange(0, mostNICs).Draw(t, "cards") {
			m.NICs = append(m.NICs, lifeboat.NIC{PCISlot: address.Draw(t, "slot")})
		}
		seen := map[string]bool{}
		for _, s := range planSeats(&m) {
			kind, ok := controllers[s.bus]
			if !ok {
				continue
			}
			where := fmt.Sprint(s.bus, s.controller, s.unit)
			if seen[where] || s.controller < 0 || s.unit < 0 || s.unit >= kind.units {
				t.Fatalf("seat %+v", s)
			}
			seen[where] = true
		}
		plan := planSlots(&m)
		taken := map[pciSlot]bool{}
		for _, s := range append(slices.Clone(plan.nics), valuesOf(plan.storage)...) {
			if taken[s] || s == (pciSlot{}) || s.bus == 0 && s.slot >= firstPortSlot {
				t.Fatalf("slot %s twice in %+v", s, plan)
			}
			taken[s] = true
		}
	})
}

func valuesOf(m map[string]pciSlot) (list []pciSlot) {
	for _, s := range m {
		list = append(list, s)
	}
	return list
}

func TestHyperVFlagsThatWouldKeepAGuestFromStartingAreCompletedOrLeftOut(t *testing.T) {
	for _, c := range []struct {
		words       []string
		flags, left string
	}{
		{nil, "", ""},
		{[]string{"relaxed", "vapic", "spinlocks=8191"}, "hv-relaxed hv-spinlocks=8191 hv-vapic", ""},
		{[]string{"stimer"}, "hv-stimer hv-synic hv-time hv-vpindex", ""},
		{[]string{"spinlocks=1", "hypervclock"}, "hv-spinlocks=8191 hv-time", ""},
		{[]string{"evmcs", "avic", "vendor_id=KVM Hv", "vendor_id=", "made,up"}, "hv-vendor-id=KVM Hv", "evmcs avic vendor_id= made,up"},
	} {
		flags, left := hyperV(c.words)
		if strings.Join(flags, " ") != c.flags || strings.Join(left, " ") != c.left {
			t.Errorf("%v: %q and %q are left out", c.words, flags, left)
		}
	}
}

func TestAHostOffersTheHardwareThatItsQEMUHas(t *testing.T) {
	h := newHost(t)
	if a := h.Abilities(); !slices.Equal(a.Buses, allBuses) || !slices.Equal(a.Cards, allCards) {
		t.Errorf("this QEMU lacks something: %v, %v", a.Buses, a.Cards)
	}
	// What Red Hat's has.
	h.devices = func() map[string]bool {
		return devicesOf([]byte("Storage devices:\nname \"virtio-blk-pci\", bus PCI\nname \"ich9-ahci\", bus PCI\nname \"ide-hd\", bus IDE\n" +
			"\nNetwork devices:\nname \"e1000e\", bus PCI\nname \"virtio-net-pci\", bus PCI\n"))
	}
	if a := h.Abilities(); fmt.Sprint(a.Buses, a.Cards) != "[virtio sata ide] [virtio e1000e]" {
		t.Errorf("it offers %v, %v", a.Buses, a.Cards)
	}
	h.o.Binary = "/nonexistent/qemu"
	h.devices = h.listDevices
	if a := h.Abilities(); !slices.Equal(a.Buses, allBuses) {
		t.Errorf("without QEMU it offers %v", a.Buses)
	}
}

func TestQEMUKnowsTheHyperVFlagsByTheseNames(t *testing.T) {
	needQEMU(t)
	list, err := exec.Command(plainProgram, "-device", "max-x86_64-cpu,help").Output()
	must(t, err)
	for name := range enlightenments {
		if flag := "hv-" + strings.ReplaceAll(name, "_", "-") + "="; !strings.Contains(string(list), flag) {
			t.Errorf("it does not know %s", flag)
		}
	}
}

func TestWhatAnotherHostToldNeverKeepsAMachineFromBeingBuilt(t *testing.T) {
	h := newHost(t)
	m := sample("odd", lifeboat.Disk{Key: "root", SizeBytes: 1 << 20, Bus: lifeboat.BusPVSCSI, Place: "scsi0:0", WWN: "naa.5000", PCISlot: "?"})
	m.MemoryBytes, m.CPUModel, m.HyperV = 1000001<<10, "Intel(R) Xeon(R)", []string{"relaxed", "a b;c"}
	m.SMBIOS.Serial, m.Topology = "x\x1b[2J", &lifeboat.Topology{Sockets: 3, Cores: 1 << 62, Threads: 4}
	m.Firmware.NVRAM = []byte("MRVN and what VMware keeps")
	must(t, h.Define(t.Context(), definitionFor(m)))
	found, err := h.find("odd")
	must(t, err)
	d := found.def.Machine
	if d.MemoryBytes != 977<<20 || d.SMBIOS.Serial != "" || d.Topology != nil || !reflect.DeepEqual(d.HyperV, []string{"relaxed"}) {
		t.Errorf("it became %+v", d)
	}
	for name, change := range map[string]func(*lifeboat.Machine){
		"topology": func(m *lifeboat.Machine) { m.Topology = &lifeboat.Topology{Sockets: 2, Cores: 2, Threads: 1} },
		"serial":   func(m *lifeboat.Machine) { m.SMBIOS.Serial = "a\nb" },
		"tpm":      func(m *lifeboat.Machine) { m.TPM = &lifeboat.TPM{Version: "3"} },
		"crb":      func(m *lifeboat.Machine) { m.TPM = &lifeboat.TPM{Version: "1.2", Model: "crb"} },
		"hyperv":   func(m *lifeboat.Machine) { m.HyperV = []string{"x,y"} },
		"bus":      func(m *lifeboat.Machine) { m.Disks[0].Bus = lifeboat.BusLSI },
		"place":    func(m *lifeboat.Machine) { m.Disks[0].Place = "first" },
		"wwn":      func(m *lifeboat.Machine) { m.Disks[0].WWN = "0x5000" },
	} {
		def := definition{Version: 1, Machine: sample("by hand"), Disks: map[string]diskFile{"root": {File: "r", Format: "raw"}}}
		must(t, def.check())
		change(&def.Machine)
		if def.check() == nil {
			t.Errorf("%s: a word that is none is taken", name)
		}
	}
}
