package vsphere

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
)

func ptr[T any](v T) *T { return &v }

// server is a machine as a vCenter describes one: two controllers, disks on
// each, two cards, Windows with tools.
func server() *found {
	disk := func(key, controller, unit int32, gib int64, uuid string) *types.VirtualDisk {
		return &types.VirtualDisk{
			VirtualDevice: types.VirtualDevice{
				Key: key, ControllerKey: controller, UnitNumber: ptr(unit),
				Backing: &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "persistent", Uuid: uuid},
			},
			CapacityInBytes: gib << 30, CapacityInKB: gib << 20,
		}
	}
	scsi := func(key, bus, slot int32) types.VirtualSCSIController {
		return types.VirtualSCSIController{VirtualController: types.VirtualController{
			VirtualDevice: types.VirtualDevice{Key: key, SlotInfo: &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: slot}},
			BusNumber:     bus,
		}}
	}
	return &found{
		ref: types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-7"},
		vm: mo.VirtualMachine{
			ManagedEntity: mo.ManagedEntity{Name: "web%2f01"},
			Config: &types.VirtualMachineConfigInfo{
				Name: "web%2f01", Version: "vmx-19", GuestId: "windows2019srv_64Guest", Firmware: "efi",
				Uuid: "421f245c-7fa8-60fa-6af6-a46351ced0eb", InstanceUuid: "501f3b66-aaaa-bbbb-cccc-0123456789ab",
				BootOptions: &types.VirtualMachineBootOptions{EfiSecureBootEnabled: ptr(true), BootOrder: []types.BaseVirtualMachineBootOptionsBootableDevice{
					&types.VirtualMachineBootOptionsBootableDiskDevice{DeviceKey: 16000},
				}},
				Hardware: types.VirtualHardware{NumCPU: 4, NumCoresPerSocket: ptr(int32(2)), MemoryMB: 8192, Device: []types.BaseVirtualDevice{
					&types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{
						VirtualDevice: types.VirtualDevice{Key: 4001, Backing: &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
							Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: "dvportgroup-9"},
						}},
						MacAddress: "00:50:56:9F:00:02",
					}}},
					&types.VirtualE1000{VirtualEthernetCard: types.VirtualEthernetCard{
						VirtualDevice: types.VirtualDevice{Key: 4000, Backing: &types.VirtualEthernetCardNetworkBackingInfo{
							VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: "VM Network"},
						}},
						MacAddress: "00:50:56:9f:00:01",
					}},
					&types.VirtualLsiLogicSASController{VirtualSCSIController: scsi(1001, 1, 256)},
					&types.ParaVirtualSCSIController{VirtualSCSIController: scsi(1000, 0, 160)},
					&types.VirtualAHCIController{VirtualSATAController: types.VirtualSATAController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 15000}}}},
					disk(2016, 1001, 0, 2, ""),
					disk(2001, 1000, 1, 3, ""),
					disk(2000, 1000, 0, 40, "6000C29A-1111-2222-3333-444455556666"),
					disk(16000, 15000, 0, 1, ""),
					&types.VirtualTPM{},
				}},
				ExtraConfig: []types.BaseOptionValue{
					&types.OptionValue{Key: "ethernet0.pciSlotNumber", Value: "33"},
					&types.OptionValue{Key: "ethernet1.pciSlotNumber", Value: "1184"},
					&types.OptionValue{Key: "disk.EnableUUID", Value: "TRUE"},
					&types.OptionValue{Key: "vm.genid", Value: "-123"},
				},
			},
			Runtime: types.VirtualMachineRuntimeInfo{PowerState: "poweredOn", ConnectionState: "connected"},
			Guest: &types.GuestInfo{
				GuestFamily: "windowsGuest", HostName: "web01.example.com", ToolsRunningStatus: "guestToolsRunning",
				Net: []types.GuestNicInfo{
					{MacAddress: "00:50:56:9f:00:01", IpConfig: &types.NetIpConfigInfo{IpAddress: []types.NetIpConfigInfoIpAddress{
						{IpAddress: "192.0.2.17", PrefixLength: 24}, {IpAddress: "no address", PrefixLength: 24}, {IpAddress: "192.0.2.18", PrefixLength: 99},
						{IpAddress: "fe80::1%3", PrefixLength: 64},
					}}, DnsConfig: &types.NetDnsConfigInfo{IpAddress: []string{"192.0.2.2", "\x1b[2J"}}},
					{MacAddress: "00:50:56:9f:00:02", IpConfig: &types.NetIpConfigInfo{IpAddress: []types.NetIpConfigInfoIpAddress{
						{IpAddress: "198.51.100.5", PrefixLength: 28},
					}}},
				},
				IpStack: []types.GuestStackInfo{{
					DnsConfig: &types.NetDnsConfigInfo{IpAddress: []string{"192.0.2.3"}},
					IpRouteConfig: &types.NetIpRouteConfigInfo{IpRoute: []types.NetIpRouteConfigInfoIpRoute{
						{Network: "0.0.0.0", PrefixLength: 0, Gateway: types.NetIpRouteConfigInfoGateway{IpAddress: "192.0.2.1", Device: "0"}},
						{Network: "192.0.2.0", PrefixLength: 24, Gateway: types.NetIpRouteConfigInfoGateway{Device: "0"}},
					}},
				}},
			},
		},
	}
}

func TestAMachineIsDescribedAsItsGuestSeesIt(t *testing.T) {
	f := server()
	got := f.describe(map[string]string{"dvportgroup-9": "DMZ"})
	for i := range got.NICs {
		if got.NICs[i].SeenAt.IsZero() {
			t.Errorf("card %d: nobody says when its addresses were seen", i)
		}
		got.NICs[i].SeenAt = lifeboat.NIC{}.SeenAt
	}
	want := lifeboat.Machine{
		Version: lifeboat.MachineVersion, ID: f.id(), Name: "web/01",
		UUID:   "5c241f42-a87f-fa60-6af6-a46351ced0eb",
		SMBIOS: lifeboat.SMBIOS{Serial: "VMware-42 1f 24 5c 7f a8 60 fa-6a f6 a4 63 51 ce d0 eb"}, GenerationID: true,
		Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareUEFI, SecureBoot: true},
		TPM:      &lifeboat.TPM{Version: "2.0", Model: "crb"},
		CPUs:     4, Topology: &lifeboat.Topology{Sockets: 2, Cores: 2, Threads: 1}, MemoryBytes: 8 << 30,
		ClockLocal: true, GuestFamily: "windows", GuestSystem: "windows2019srv_64Guest", HostName: "web01.example.com",
		Disks: []lifeboat.Disk{
			{Key: "scsi0-0", SizeBytes: 40 << 30, Bus: lifeboat.BusPVSCSI, Place: "0:0", PCISlot: "0000:03:00.0", Serial: "6000c29a111122223333444455556666"},
			{Key: "scsi0-1", SizeBytes: 3 << 30, Bus: lifeboat.BusPVSCSI, Place: "0:1", PCISlot: "0000:03:00.0"},
			{Key: "scsi1-0", SizeBytes: 2 << 30, Bus: lifeboat.BusLSISAS, Place: "1:0", PCISlot: "0000:1b:00.0"},
			{Key: "sata0-0", SizeBytes: 1 << 30, Bus: lifeboat.BusSATA, Place: "0:0", BootIndex: 1},
		},
		NICs: []lifeboat.NIC{
			{MAC: "00:50:56:9f:00:01", Model: "e1000", Network: "VM Network", PCISlot: "0000:02:01.0",
				Addresses: []string{"192.0.2.17/24", "fe80::1/64"}, Gateway: "192.0.2.1", DNS: []string{"192.0.2.2"}},
			{MAC: "00:50:56:9f:00:02", Model: "vmxnet3", Network: "DMZ", PCISlot: "0000:04:00.0",
				Addresses: []string{"198.51.100.5/28"}, DNS: []string{"192.0.2.3"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if refused := f.exportable(nil); len(refused) != 0 {
		t.Errorf("refused: %+v", refused)
	}
}

func TestTheGuestReadsTheSameUUIDElsewhere(t *testing.T) {
	const vsphere, swapped = "421f245c-7fa8-60fa-6af6-a46351ced0eb", "5c241f42-a87f-fa60-6af6-a46351ced0eb"
	for _, c := range []struct{ version, guest, want string }{
		{"vmx-13", "debian12_64Guest", swapped},
		{"vmx-21", "debian12_64Guest", swapped},
		{"vmx-11", "debian8_64Guest", vsphere},
		{"vmx-11", "windows8Server64Guest", swapped},
		{"vmx-08", "otherGuest", vsphere},
		{"something new", "otherGuest", swapped},
	} {
		f := &types.VirtualMachineConfigInfo{Version: c.version, GuestId: c.guest}
		got := guestUUID(vsphere, swapsUUID(f))
		if got != c.want {
			t.Errorf("%s %s: %s", c.version, c.guest, got)
		}
		if back := guestUUID(got, swapsUUID(f)); back != vsphere {
			t.Errorf("%s %s: and back it is %s", c.version, c.guest, back)
		}
	}
	for _, bad := range []string{"", "x", "421f245c", strings.Repeat("4", 33)} {
		if got := guestUUID(bad, true) + serialOf(bad); got != "" {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func TestSlotNumbersBecomeAddresses(t *testing.T) {
	for number, want := range map[int32]string{
		16: "0000:00:10.0", 17: "0000:00:11.0", 32: "0000:02:00.0", 33: "0000:02:01.0", 160: "0000:03:00.0",
		192: "0000:0b:00.0", 224: "0000:13:00.0", 256: "0000:1b:00.0", 1184: "0000:04:00.0", 1216: "0000:0c:00.0",
		2208: "0000:05:00.0", -1: "", 64: "", 1024 + 32: "", 288: "", 1 << 20: "",
	} {
		if got := pciAddress(number); got != want {
			t.Errorf("slot %d is %q, not %q", number, got, want)
		}
	}
}

func TestAnIDFollowsItsMachineAndNoClone(t *testing.T) {
	f := server()
	derived := f.id()
	id := strings.Repeat("ab", 16)
	set := func(key, value string) {
		f.vm.Config.ExtraConfig = append(f.vm.Config.ExtraConfig, &types.OptionValue{Key: key, Value: value})
	}
	set(settingMachine, strings.ToUpper(id))
	if f.id() != id {
		t.Error("an id that somebody wrote into the machine does not count")
	}
	set(settingFor, strings.ToUpper(f.hostID()))
	if f.id() != id {
		t.Error("the machine's own id does not count")
	}
	f.vm.Config.InstanceUuid = "501f3b66-aaaa-bbbb-cccc-ffffffffffff"
	if got := f.id(); got == id || got == derived {
		t.Error("a clone goes on with the history of its original")
	}
	f = server()
	set(settingMachine, "../../etc")
	if f.id() != derived {
		t.Error("a word that is no id was taken for one")
	}
	f.vm.Config.InstanceUuid = ""
	if f.hostID() != f.vm.Config.Uuid {
		t.Error("an ESXi without instance UUIDs: the id is not the firmware's")
	}
}

// disk finds a disk's device by its key there.
func (f *found) diskDevice(key int32) *types.VirtualDisk {
	for _, d := range f.vm.Config.Hardware.Device {
		if disk, ok := d.(*types.VirtualDisk); ok && disk.Key == key {
			return disk
		}
	}
	return nil
}

func TestWhatCannotBeExportedSaysWhyAndWhatToDo(t *testing.T) {
	flat := func(f *found) *types.VirtualDiskFlatVer2BackingInfo {
		return f.diskDevice(2001).Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	}
	add := func(f *found, d types.BaseVirtualDevice) {
		f.vm.Config.Hardware.Device = append(f.vm.Config.Hardware.Device, d)
	}
	for _, c := range []struct {
		name   string
		change func(f *found)
		disk   string
		word   string
	}{
		{"template", func(f *found) { f.vm.Config.Template = true }, "", "template"},
		{"suspended", func(f *found) { f.vm.Runtime.PowerState = "suspended" }, "", "suspended"},
		{"fault tolerant", func(f *found) { f.vm.Runtime.FaultToleranceState = "running" }, "", "Fault Tolerance"},
		{"orphaned", func(f *found) { f.vm.Runtime.ConnectionState = "orphaned" }, "", "orphaned"},
		{"migrating", func(f *found) { f.vm.DisabledMethod = []string{"CreateSnapshot_Task"} }, "", "migration"},
		{"vSphere's own", func(f *found) { f.vm.Config.ManagedBy = &types.ManagedByInfo{ExtensionKey: "com.vmware.vim.eam"} }, "", "belongs to vSphere"},
		{"passthrough", func(f *found) { add(f, &types.VirtualPCIPassthrough{}) }, "", "PCI passthrough"},
		{"SR-IOV", func(f *found) { add(f, &types.VirtualSriovEthernetCard{}) }, "", "SR-IOV"},
		{"independent", func(f *found) { flat(f).DiskMode = "independent_persistent" }, "scsi0-1", "independent"},
		{"multi-writer", func(f *found) { flat(f).Sharing = "sharingMultiWriter" }, "scsi0-1", "shared"},
		{"shared bus", func(f *found) {
			for _, d := range f.vm.Config.Hardware.Device {
				if s, ok := d.(*types.VirtualLsiLogicSASController); ok {
					s.SharedBus = types.VirtualSCSISharingPhysicalSharing
				}
			}
		}, "scsi1-0", "shared"},
		{"encrypted", func(f *found) { flat(f).KeyId = &types.CryptoKeyId{KeyId: "k"} }, "scsi0-1", "encrypted"},
		{"RDM", func(f *found) {
			f.diskDevice(2001).Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{CompatibilityMode: "physicalMode"}
		}, "scsi0-1", "RDM"},
		{"unknown backing", func(f *found) { f.diskDevice(2001).Backing = nil }, "scsi0-1", "does not know"},
	} {
		f := server()
		c.change(f)
		list := f.exportable(nil)
		if len(list) != 1 || list[0].disk != c.disk || !strings.Contains(list[0].why, c.word) || list[0].next == "" {
			t.Errorf("%s: %+v", c.name, list)
			continue
		}
		h := &Host{o: Options{Name: "vc"}}
		if p := problem(t, h.refuse(f, list)); !strings.Contains(p.What, "web/01 cannot be exported") {
			t.Errorf("%s: %s", c.name, p.What)
		}
		if c.disk != "" && len(f.exportable(map[string]bool{c.disk: true})) != 0 {
			t.Errorf("%s: refused though it is left out", c.name)
		}
	}
	off := server()
	add(off, &types.VirtualPCIPassthrough{})
	off.vm.Runtime.PowerState = "poweredOff"
	if list := off.exportable(nil); len(list) != 0 {
		t.Errorf("a device of the host in a machine that is off: %+v", list)
	}
}

// What a server or a guest says is never more than text of a bounded length.
func FuzzDescribe(f *testing.F) {
	f.Add("web01", "421f245c-7fa8-60fa-6af6-a46351ced0eb", "00:50:56:9f:00:01", "192.0.2.1", int32(160), int32(0))
	f.Add("%%%2f", "", "", "::", int32(-1), int32(7))
	f.Fuzz(func(t *testing.T, name, uuid, mac, ip string, slot, unit int32) {
		m := server()
		m.vm.Name, m.vm.Config.Uuid, m.vm.Guest.HostName = name, uuid, name
		m.vm.Guest.Net[0].MacAddress, m.vm.Guest.Net[0].IpConfig.IpAddress[0].IpAddress = mac, ip
		m.diskDevice(2001).UnitNumber = &unit
		m.diskDevice(2001).ControllerKey = slot
		d := m.describe(map[string]string{"dvportgroup-9": name})
		keys := map[string]bool{}
		for _, disk := range d.Disks {
			if disk.Key == "" || len(disk.Key) > 32 || strings.Trim(disk.Key, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
				t.Errorf("a disk has the key %q", disk.Key)
			}
			keys[disk.Key] = true
		}
		for _, text := range []string{d.Name, d.HostName, d.NICs[1].Network} {
			if strings.ContainsAny(text, "\x1b\n\r\x00") {
				t.Errorf("%q reaches a terminal", text)
			}
		}
		for _, nic := range d.NICs {
			if slices.ContainsFunc(nic.Addresses, func(a string) bool { return len(a) > 64 }) {
				t.Errorf("addresses: %q", nic.Addresses)
			}
		}
	})
}

func TestNamesWithSlashesAreThoseOfTheOperator(t *testing.T) {
	for _, name := range []string{"web01", "web/01", `a\b`, "100%", "%2f", "50%25/x", "ünï cødé"} {
		if escaped := vsphereName(name); plainName(escaped) != name || strings.ContainsAny(escaped, `/\`) {
			t.Errorf("%q became %q and came back as %q", name, escaped, plainName(escaped))
		}
	}
}
