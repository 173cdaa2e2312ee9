package vsphere

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// controller is a disk controller of a machine.
type controller struct {
	bus lifeboat.Bus
	// word is what vSphere's own settings call the kind: "scsi", "sata".
	word   string
	number int32
	slot   string
	// shared: another machine may sit on the same controller.
	shared bool
}

// controllers finds the controllers among the devices, by their keys.
func (f *found) controllers() map[int32]controller {
	all := map[int32]controller{}
	for _, d := range f.vm.Config.Hardware.Device {
		var c controller
		switch d.(type) {
		case *types.ParaVirtualSCSIController:
			c.bus, c.word = lifeboat.BusPVSCSI, "scsi"
		case *types.VirtualLsiLogicSASController:
			c.bus, c.word = lifeboat.BusLSISAS, "scsi"
		case types.BaseVirtualSCSIController:
			// The parallel LSI Logic; BusLogic is the same to a guest that has
			// neither's driver.
			c.bus, c.word = lifeboat.BusLSI, "scsi"
		case types.BaseVirtualSATAController:
			c.bus, c.word = lifeboat.BusSATA, "sata"
		case *types.VirtualNVMEController:
			c.bus, c.word = lifeboat.BusNVMe, "nvme"
		case *types.VirtualIDEController:
			c.bus, c.word = lifeboat.BusIDE, "ide"
		default:
			continue
		}
		if scsi, ok := d.(types.BaseVirtualSCSIController); ok {
			sharing := scsi.GetVirtualSCSIController().SharedBus
			c.shared = sharing != "" && sharing != types.VirtualSCSISharingNoSharing
		}
		if nvme, ok := d.(*types.VirtualNVMEController); ok {
			c.shared = nvme.SharedBus != "" && nvme.SharedBus != string(types.VirtualNVMEControllerSharingNoSharing)
		}
		if base, ok := d.(types.BaseVirtualController); ok {
			c.number = base.GetVirtualController().BusNumber
		}
		if c.word != "ide" {
			c.slot = f.pciSlot(d.GetVirtualDevice(), fmt.Sprintf("%s%d", c.word, c.number))
		}
		all[d.GetVirtualDevice().Key] = c
	}
	return all
}

// vdisk is a disk with what reading it needs beside its description.
type vdisk struct {
	lifeboat.Disk
	device     *types.VirtualDisk
	controller controller
	// seat is vSphere's own word for its place ("scsi0-1").
	seat string
}

// vdisks are the disks of the machine in the order of their places. The key of a
// disk is its seat, which stays as long as nobody moves the disk to another one;
// or, in a machine that Lifeboat built, the key that the disk had before.
func (f *found) vdisks() []vdisk {
	controllers := f.controllers()
	uuids := strings.EqualFold(f.setting("disk.EnableUUID"), "true")
	var list []vdisk
	for _, device := range f.vm.Config.Hardware.Device {
		d, ok := device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		c, known := controllers[d.ControllerKey]
		if !known {
			c = controller{bus: lifeboat.BusLSI, word: "disk", number: d.ControllerKey}
		}
		unit := int32(0)
		if d.UnitNumber != nil {
			unit = *d.UnitNumber
		}
		seat := seatName(c.word, c.number, unit)
		one := vdisk{device: d, controller: c, seat: seat, Disk: lifeboat.Disk{
			Key: seat, SizeBytes: capacity(d), Bus: c.bus,
			Place: fmt.Sprintf("%d:%d", c.number, unit), PCISlot: c.slot,
		}}
		if uuids {
			// Otherwise the guest sees no serial number at all.
			one.Serial = diskUUID(d)
		}
		if d.VirtualDiskFormat == "native_4k" {
			one.LogicalSectorBytes, one.PhysicalSectorBytes = 4096, 4096
		}
		list = append(list, one)
	}
	slices.SortStableFunc(list, func(a, b vdisk) int {
		return placeOrder(a) - placeOrder(b)
	})
	f.keepKeys(list)
	known := map[string]bool{}
	for i := range list {
		if known[list[i].Key] {
			// Two disks in one place are a server's fault, and still two disks.
			list[i].Key = fmt.Sprintf("device-%d", list[i].device.Key)
		}
		known[list[i].Key] = true
	}
	f.bootOrder(list)
	return list
}

func seatName(word string, number, unit int32) string {
	return fmt.Sprintf("%s%d-%d", word, number, unit)
}

var diskKey = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)

// keepKeys gives the disks of a machine that Lifeboat built the keys that Define
// wrote down for them, by the ids in the disks' own files: those go where a disk
// goes.
func (f *found) keepKeys(list []vdisk) {
	if !f.ours() {
		return
	}
	for _, pair := range strings.Split(f.setting(settingDisks), ",") {
		id, key, ok := strings.Cut(pair, "=")
		if !ok || id == "" || !diskKey.MatchString(key) {
			continue
		}
		for i := range list {
			if diskUUID(list[i].device) == id {
				list[i].Key = key
			}
		}
	}
}

// placeOrder sorts disks as VMware's firmware tries them.
func placeOrder(d vdisk) int {
	word := slices.Index([]string{"ide", "scsi", "sata", "nvme", "disk"}, d.controller.word)
	unit := 0
	if d.device.UnitNumber != nil {
		unit = int(*d.device.UnitNumber)
	}
	return word<<20 + int(d.controller.number)<<8 + unit
}

// bootOrder takes over which disks the firmware tries first; the first disk where
// the machine does not say.
func (f *found) bootOrder(list []vdisk) {
	next := 1
	if o := f.vm.Config.BootOptions; o != nil {
		for _, entry := range o.BootOrder {
			boot, ok := entry.(*types.VirtualMachineBootOptionsBootableDiskDevice)
			if !ok {
				continue
			}
			for i := range list {
				if list[i].device.Key == boot.DeviceKey && list[i].BootIndex == 0 {
					list[i].BootIndex = next
					next++
				}
			}
		}
	}
	if next == 1 && len(list) > 0 {
		list[0].BootIndex = 1
	}
}

func (f *found) disks() []lifeboat.Disk {
	var list []lifeboat.Disk
	for _, d := range f.vdisks() {
		list = append(list, d.Disk)
	}
	return list
}

// capacity is a disk's size in bytes. Servers before 5.5 say it in KiB only.
func capacity(d *types.VirtualDisk) int64 {
	if d.CapacityInBytes > 0 {
		return d.CapacityInBytes
	}
	return d.CapacityInKB << 10
}

// diskUUID is the id in a disk's own file, as its guest reads it: 32 hex digits.
func diskUUID(d *types.VirtualDisk) string {
	uuid := ""
	switch b := d.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		uuid = b.Uuid
	case *types.VirtualDiskSeSparseBackingInfo:
		uuid = b.Uuid
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		uuid = b.Uuid
	case *types.VirtualDiskSparseVer2BackingInfo:
		uuid = b.Uuid
	}
	return strings.Trim(strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(hypervisor.GuestWords(uuid))), "{}")
}

// cards are the network cards in the order of their keys.
func (f *found) cards(portgroups map[string]string) []lifeboat.NIC {
	var list []lifeboat.NIC
	for i, card := range f.ethernets() {
		e := card.GetVirtualEthernetCard()
		nic := lifeboat.NIC{Model: modelOf(card), Network: networkOf(e, portgroups)}
		if mac, err := net.ParseMAC(e.MacAddress); err == nil {
			nic.MAC = mac.String()
		}
		// In a machine's settings the cards are numbered by their keys, which
		// begin at 4000.
		number := int(e.Key) - 4000
		if number < 0 || number > 9 {
			number = i
		}
		nic.PCISlot = f.pciSlot(e.GetVirtualDevice(), fmt.Sprintf("ethernet%d", number))
		list = append(list, nic)
	}
	return list
}

// ethernets are the devices of the network cards, in the order of their keys.
func (f *found) ethernets() []types.BaseVirtualEthernetCard {
	var list []types.BaseVirtualEthernetCard
	for _, d := range f.vm.Config.Hardware.Device {
		if card, ok := d.(types.BaseVirtualEthernetCard); ok {
			list = append(list, card)
		}
	}
	slices.SortStableFunc(list, func(a, b types.BaseVirtualEthernetCard) int {
		return int(a.GetVirtualEthernetCard().Key) - int(b.GetVirtualEthernetCard().Key)
	})
	return list
}

// modelOf is the card that the guest has a driver for.
func modelOf(card types.BaseVirtualEthernetCard) string {
	switch card.(type) {
	case *types.VirtualE1000:
		return "e1000"
	case *types.VirtualE1000e:
		return "e1000e"
	case *types.VirtualPCNet32:
		// No other hypervisor that we build on has it; guests that are old
		// enough for it know this one.
		return "e1000"
	}
	return "vmxnet3"
}

// networkOf is the name of the network that a card is plugged into.
func networkOf(e *types.VirtualEthernetCard, portgroups map[string]string) string {
	name := ""
	switch b := e.Backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		name = plainName(b.DeviceName)
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		name = plainName(portgroups[b.Port.PortgroupKey])
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		if e.DeviceInfo != nil {
			name = strings.TrimPrefix(e.DeviceInfo.GetDescription().Summary, "nsx.LogicalSwitch: ")
		}
	}
	return hypervisor.GuestWords(name)
}

// pciSlot is the address at which the guest sees a device, or "". The number is
// the device's own, or in the machine's settings under its name there
// ("ethernet0.pciSlotNumber").
func (f *found) pciSlot(d *types.VirtualDevice, name string) string {
	number := int32(-1)
	if slot, ok := d.SlotInfo.(*types.VirtualDevicePciBusSlotInfo); ok {
		number = slot.PciSlotNumber
	} else if text := f.setting(name + ".pciSlotNumber"); text != "" {
		if _, err := fmt.Sscanf(text, "%d", &number); err != nil {
			return ""
		}
	}
	return pciAddress(number)
}

// pciAddress turns VMware's slot number into the address on the board that every
// machine of hardware version 7 and later has: five bits of device, five of
// bridge, the rest function of the bridge. Bridge 0 is the board itself; bridge
// 1 leads to bus 2; bridges 5 to 8 have eight functions each, which lead to the
// buses from 3 on. Slot 192 is 0000:0b:00.0, whose card Linux calls ens192.
// Other numbers mean other boards: "".
//
// Read off addresses and names that people have published; unproven on a board
// whose bridges somebody has moved.
func pciAddress(number int32) string {
	if number < 0 || number >= 1<<13 {
		return ""
	}
	device, bridge, function := number&31, number>>5&31, number>>10
	bus := int32(0)
	switch {
	case bridge == 0:
		return fmt.Sprintf("0000:00:%02x.%d", device, function)
	case function > 0 && bridge < 5, bridge > 8:
		return ""
	case bridge == 1:
		bus = 2
	case bridge >= 5:
		bus = 3 + (bridge-5)*8 + function
	default:
		return ""
	}
	return fmt.Sprintf("0000:%02x:%02x.0", bus, device)
}
