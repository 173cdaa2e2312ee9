package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/imagestore"
)

func TestAMachineIsShownWithAllThatItIsBuiltFrom(t *testing.T) {
	m := lifeboat.Machine{
		Version: 1, ID: "0123456789abcdef0123456789abcdef", Name: "dc1", UUID: "564d1c2a-0b7e-4d8f-9a01-23456789abcd",
		SMBIOS:       lifeboat.SMBIOS{Manufacturer: "VMware, Inc.", Product: "VMware7,1", Serial: "VMware-56 4d"},
		GenerationID: true, Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareUEFI, SecureBoot: true, NVRAM: []byte("123")},
		TPM: &lifeboat.TPM{Version: "2.0", Model: "crb"}, Chipset: lifeboat.ChipsetQ35,
		CPUs: 4, Topology: &lifeboat.Topology{Sockets: 1, Cores: 2, Threads: 2}, CPUModel: "Skylake-Server",
		HyperV: []string{"relaxed", "vapic"}, MemoryBytes: 8 << 30, ClockLocal: true,
		GuestFamily: "windows", GuestSystem: "windows2019srv_64Guest", HostName: "DC1", Agent: true,
		Disks: []lifeboat.Disk{{Key: "root", SizeBytes: 1000, LogicalSectorBytes: 4096, PhysicalSectorBytes: 4096, Bus: lifeboat.BusPVSCSI,
			Serial: "6000c29", WWN: "5000c50015ea71aa", Place: "0:1", PCISlot: "0000:03:00.0", BootIndex: 1, Excluded: "swap"}},
		NICs: []lifeboat.NIC{{MAC: "00:50:56:00:00:01", Model: "vmxnet3", Network: "VM Network", PCISlot: "0000:0b:00.0",
			Addresses: []string{"10.0.0.5/24"}, Gateway: "10.0.0.1", DNS: []string{"10.0.0.3"}, Interface: "Ethernet0\x1b[2J",
			SeenAt: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}},
		Native: &lifeboat.NativeDescription{Format: "vmx", Text: "config", Files: map[string][]byte{"nvram": nil}},
	}
	everyFieldIsSet(t, reflect.ValueOf(m), "Machine")
	shown := describeMachine(m)
	for _, word := range []string{
		"0123456789abcdef0123456789abcdef", "windows, windows2019srv_64Guest, calls itself DC1, has a line to an agent",
		"uefi, Secure Boot, 3 bytes of variables", "2.0, crb, without what it keeps", "q35",
		"4, 1 socket of 2 cores with 2 threads, Skylake-Server", "relaxed vapic", "8.0 GiB", "local time", "564d1c2a",
		"VMware, Inc., VMware7,1, serial VMware-56 4d", "a new one at each boot",
		"root, pvscsi, 1000 bytes, at 0:1, slot 0000:03:00.0, sectors of 4096, serial 6000c29, wwn 5000c50015ea71aa, boots as 1, excluded: swap",
		"00:50:56:00:00:01, vmxnet3, slot 0000:0b:00.0, on VM Network, 10.0.0.5/24",
		"is Ethernet0[2J, gateway 10.0.0.1, name servers 10.0.0.3, seen 2026-11-21", "vmx, 6 B, word for word, with nvram",
	} {
		if !strings.Contains(shown, word) {
			t.Errorf("%q is not shown in:\n%s", word, shown)
		}
	}
	if strings.ContainsRune(shown, 0x1b) {
		t.Error("a guest can speak to the terminal")
	}
	m.TPM.State = []byte("secret of the module")
	if shown := describeMachine(m); strings.Contains(shown, "secret") || !strings.Contains(shown, "with what it keeps") {
		t.Errorf("of its TPM is shown:\n%s", shown)
	}
	printed, err := json.Marshal(withChecks([]lifeboat.RestorePoint{{Machine: m}}, imagestore.Checked{}, keeping{}))
	if err != nil || !strings.Contains(string(printed), `"tpm":{"version":"2.0","model":"crb"}`) || len(m.TPM.State) == 0 {
		t.Errorf("what a TPM keeps is printed with its point, or was lost: %s, %v", printed, err)
	}
}

// everyFieldIsSet fails for a field that the example above forgets: a new one has
// to be shown as well.
func everyFieldIsSet(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			everyFieldIsSet(t, v.Elem(), path)
			return
		}
	case reflect.Slice:
		if v.Len() > 0 && v.Index(0).Kind() == reflect.Struct {
			everyFieldIsSet(t, v.Index(0), path+"[0]")
			return
		}
	case reflect.Struct:
		if v.Type() != reflect.TypeFor[time.Time]() {
			for i := range v.NumField() {
				everyFieldIsSet(t, v.Field(i), path+"."+v.Type().Field(i).Name)
			}
			return
		}
	}
	if v.IsZero() && path != "Machine.TPM.State" {
		t.Errorf("the example does not set %s", path)
	}
}
