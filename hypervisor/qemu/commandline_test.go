package qemu

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lifeboat"
	"lifeboat/hypervisor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestTheCommandLineOfAProductionServerAndOfARecovery(t *testing.T) {
	production := lifeboat.Machine{
		Version: 1, ID: strings.Repeat("0123", 8), Name: "Büro, Süd", CPUs: 2, MemoryBytes: 2 << 30, ClockLocal: true, Agent: true,
		Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareUEFI},
		Disks: []lifeboat.Disk{
			{Key: "root", SizeBytes: 1 << 30, Bus: lifeboat.BusVirtioSCSI, Serial: "S1", BootIndex: 2},
			{Key: "data", SizeBytes: 1 << 30, Bus: lifeboat.BusVirtio, LogicalSectorBytes: 4096, PhysicalSectorBytes: 4096},
			{Key: "old", SizeBytes: 1 << 30, Bus: lifeboat.BusSATA},
			{Key: "fast", SizeBytes: 1 << 30, Bus: lifeboat.BusNVMe},
		},
		NICs: []lifeboat.NIC{
			{MAC: "52:54:00:00:00:01", Model: "virtio", PCISlot: "0000:00:05.0"},
			{MAC: "52:54:00:00:00:02", Model: "e1000e"}, {MAC: "52:54:00:00:00:03", Model: "vmxnet3"},
		},
	}
	recovered := production
	recovered.Chipset, recovered.Firmware = lifeboat.ChipsetI440FX, lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}
	recovered.Disks = []lifeboat.Disk{{Key: "c", SizeBytes: 1 << 30, Bus: lifeboat.BusIDE}, {Key: "d", SizeBytes: 1 << 30, Bus: lifeboat.BusIDE}}

	s := start{accelerator: AcceleratorKVM, sockets: "/run/lifeboat/0011", direct: func(string) bool { return true }}
	uefi := s
	uefi.firmware = &firmwareFile{Code: "/fw/code.fd", CodeFormat: "raw"}
	slow := s
	slow.accelerator = AcceleratorTCG

	golden(t, "production.txt", definition{
		Machine: production,
		Disks: map[string]diskFile{"root": {File: "root.qcow2", Format: "qcow2"}, "data": {File: "/data/d.raw", Format: "raw"},
			"old": {File: "old.qcow2", Format: "qcow2"}, "fast": {File: "fast.qcow2", Format: "qcow2"}},
		Networks: []hypervisor.Network{{Kind: hypervisor.NetworkBridge, Name: "br0"},
			{Kind: hypervisor.NetworkUser, Forwards: []hypervisor.Forward{{HostPort: 8080, GuestPort: 80}}}},
	}, uefi)
	golden(t, "recovery.txt", definition{
		Machine: recovered, Recovery: "run-1",
		Disks: map[string]diskFile{
			"c": {File: "c.qcow2", Format: "qcow2", Made: true, Base: &hypervisor.NBDBacking{Socket: "/run/s", Export: "p/c"}},
			"d": {File: "d.qcow2", Format: "qcow2", Made: true},
		},
		Networks: []hypervisor.Network{{Kind: hypervisor.NetworkSegment, Name: "drill"}},
	}, slow)
	golden(t, "throwaway.txt", definition{
		Machine: recovered, Recovery: "run-1", Throwaway: true,
		Disks: map[string]diskFile{
			"c": {File: "c.qcow2", Format: "qcow2", Made: true, Base: &hypervisor.NBDBacking{Socket: "/run/s", Export: "p/c"}},
			"d": {File: "d.qcow2", Format: "qcow2", Made: true},
		},
	}, slow)
}

// golden compares a command line, an option on each line.
func golden(t *testing.T, file string, def definition, s start) {
	t.Helper()
	m := &machine{host: &Host{}, folder: "m", dir: "/machines/m", def: def}
	got := strings.ReplaceAll(strings.Join(m.commandLine(s), " "), " -", "\n-") + "\n"
	path := filepath.Join("testdata", file)
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestFirmwareWithKeysIsOnlyForMachinesThatHadThem(t *testing.T) {
	list := installedFirmware(firmwareDirs)
	if len(list) == 0 {
		t.Skip("UEFI firmware is missing: apt-get install ovmf")
	}
	for _, secure := range []bool{false, true} {
		m := sample("web01")
		m.Firmware = lifeboat.Firmware{Kind: lifeboat.FirmwareUEFI, SecureBoot: secure}
		f, err := chooseFirmware(list, &m, 0)
		if err != nil {
			continue // not installed, and said so
		}
		if f.EnrolledKeys != secure {
			t.Errorf("with Secure Boot %v the firmware is %s", secure, f.Code)
		}
	}
	m := sample("web01")
	m.Firmware.Kind = lifeboat.FirmwareUEFI
	if _, err := chooseFirmware(list, &m, 12345); err == nil {
		t.Error("variables of another size fit")
	}
}

func TestNetworkCardsKeepTheirSlotsAndNeverShareOne(t *testing.T) {
	var m lifeboat.Machine
	for _, address := range []string{"", "0000:00:10.0", "0000:00:10.0", "0000:01:00.0", "0000:00:03.0", "0000:00:1f.0", "0000:20:00.0", "x"} {
		m.NICs = append(m.NICs, lifeboat.NIC{PCISlot: address})
	}
	want := "[0000:00:11.0 0000:00:10.0 0000:00:12.0 0000:01:00.0 0000:00:03.0 0000:00:13.0 0000:00:14.0 0000:00:15.0]"
	if got := fmt.Sprint(planSlots(&m).nics); got != want {
		t.Errorf("%s, not %s", got, want)
	}
	m.Chipset = lifeboat.ChipsetI440FX
	if got := planSlots(&m).nics[3].String(); got != "0000:00:13.0" {
		t.Errorf("behind a port that this board does not have: %s", got)
	}
}

// TestAGuestSeesItsNetworkCardsWhereTheyWere asks QEMU after firmware has
// numbered the buses.
func TestAGuestSeesItsNetworkCardsWhereTheyWere(t *testing.T) {
	h := newHost(t)
	m := sample("web01")
	want := map[string]bool{"0000:01:00.0": true, "0000:03:00.0": true, "0000:00:05.0": true}
	for address := range want {
		card := nic(0)
		card.MAC = card.MAC[:15] + address[6:7] + address[9:10]
		card.PCISlot = address
		m.NICs = append(m.NICs, card)
	}
	defineAndStart(t, h, m)
	found, err := h.find("web01")
	must(t, err)
	eventually(t, bootCeiling, "firmware reads the disk", func() bool { return found.hasRead(t.Context()) })
	mon, err := found.monitor(t.Context(), commandSocket)
	must(t, err)
	defer mon.close()
	var buses []pciBus
	must(t, mon.run(t.Context(), "query-pci", nil, &buses))
	seen := map[string]bool{}
	for _, b := range buses {
		b.cards(seen)
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

// pciBus is what QEMU tells of a bus and what sits behind it.
type pciBus struct {
	Devices []struct {
		ID     string  `json:"qdev_id"`
		Bus    int     `json:"bus"`
		Slot   int     `json:"slot"`
		Bridge *pciBus `json:"pci_bridge"`
	} `json:"devices"`
}

func (b pciBus) cards(seen map[string]bool) {
	for _, d := range b.Devices {
		if strings.HasPrefix(d.ID, "nic") {
			seen[pciSlot{d.Bus, d.Slot}.String()] = true
		}
		if d.Bridge != nil {
			d.Bridge.cards(seen)
		}
	}
}
