package vsphere

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// blueprint is a machine as it is to be built, before the server knows it.
type blueprint struct {
	spec types.VirtualMachineConfigSpec
	// instance is the id that the machine will have on the server.
	instance string
	// slots say where each disk goes, by its key.
	slots map[string]slot
	// words are what the server calls those places in a transfer
	// ("ParaVirtualSCSIController0:1"), by the disks' keys.
	words map[string]string
	// loaded are the disks that are uploaded, in the order in which they stand in
	// spec; empty those that are added afterwards.
	loaded, empty []lifeboat.Disk
}

// slot is a place for a disk.
type slot struct {
	word         string // "scsi", "sata", "nvme", "ide"
	number, unit int32
	controller   int32 // the key of its controller's device
}

// rooms are how many controllers of a kind a machine may have, and how many disks
// there are on one.
var rooms = map[string]struct{ controllers, units int32 }{
	"scsi": {4, 16}, "sata": {4, 30}, "nvme": {4, 15}, "ide": {2, 2},
}

// scsiSelf is the unit of the SCSI controller itself.
const scsiSelf = 7

// wordOf is what vSphere calls the kind of controller.
func wordOf(bus lifeboat.Bus) string {
	switch bus {
	case lifeboat.BusSATA:
		return "sata"
	case lifeboat.BusNVMe:
		return "nvme"
	case lifeboat.BusIDE:
		return "ide"
	}
	return "scsi"
}

// buildSpec is the definition in vSphere's words, without its disks' contents.
func buildSpec(d *hypervisor.Definition, cables []types.BaseVirtualDeviceBackingInfo, folder string) (*blueprint, error) {
	m := &d.Machine
	b := &blueprint{instance: randomUUID()}
	native := fromVSphere(m)
	memory := (m.MemoryBytes + 4<<20 - 1) >> 22 << 2 // whole steps of 4 MiB
	b.spec = types.VirtualMachineConfigSpec{
		Name: vsphereName(d.Name), GuestId: guestIDFor(m), InstanceUuid: b.instance,
		Files:   &types.VirtualMachineFileInfo{VmPathName: folder},
		NumCPUs: int32(m.CPUs), MemoryMB: memory,
		Firmware: string(types.GuestOsDescriptorFirmwareTypeBios),
	}
	if m.UUID != "" {
		// The machine is of a hardware version of today.
		b.spec.Uuid = guestUUID(m.UUID, true)
	}
	if t := m.Topology; t != nil && t.Cores*t.Threads > 1 && m.CPUs%(t.Cores*t.Threads) == 0 {
		// vSphere shows no threads: they become cores.
		cores := int32(t.Cores * t.Threads)
		b.spec.NumCoresPerSocket = &cores
	}
	if m.Firmware.Kind == lifeboat.FirmwareUEFI {
		b.spec.Firmware = string(types.GuestOsDescriptorFirmwareTypeEfi)
		b.spec.BootOptions = &types.VirtualMachineBootOptions{EfiSecureBootEnabled: &m.Firmware.SecureBoot}
	}
	b.set(settingMachine, m.ID)
	b.set(settingFor, b.instance)
	if d.Recovery != "" {
		b.set(settingRecovery, d.Recovery)
	}
	// The server would ask whether the machine was moved or copied, and a
	// recovery waits for no answer: its UUID is kept.
	b.set("uuid.action", "keep")
	if slices.ContainsFunc(m.Disks, func(disk lifeboat.Disk) bool { return disk.Serial != "" }) {
		b.set("disk.EnableUUID", "TRUE")
	}
	if err := b.addDisks(d, native); err != nil {
		return nil, err
	}
	return b, b.addCards(d, cables, native)
}

func (b *blueprint) set(key, value string) {
	b.spec.ExtraConfig = append(b.spec.ExtraConfig, &types.OptionValue{Key: key, Value: value})
}

// fromVSphere says whether the machine was described by a vSphere: then its slots
// are those of this very board.
func fromVSphere(m *lifeboat.Machine) bool {
	return m.Native != nil && (m.Native.Format == "vmx" || m.Native.Format == "vsphere-json")
}

var guestID = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}Guest$`)

// guestIDFor is the guest's system in vSphere's words: what a vSphere called it
// before, or the plainest of its family.
func guestIDFor(m *lifeboat.Machine) string {
	if fromVSphere(m) && guestID.MatchString(m.GuestSystem) {
		return m.GuestSystem
	}
	switch m.GuestFamily {
	case "windows":
		return string(types.VirtualMachineGuestOsIdentifierWindows9Server64Guest)
	case "linux":
		return string(types.VirtualMachineGuestOsIdentifierOther3xLinux64Guest)
	case "bsd":
		return string(types.VirtualMachineGuestOsIdentifierFreebsd64Guest)
	}
	return string(types.VirtualMachineGuestOsIdentifierOtherGuest64)
}

// addDisks gives every disk its place and makes the controllers. Disks that have
// bytes go into the specification; the others are listed as empty.
func (b *blueprint) addDisks(d *hypervisor.Definition, native bool) error {
	slots, controllers, err := arrange(d.Machine.Disks)
	if err != nil {
		return err
	}
	b.slots, b.words = slots, map[string]string{}
	for _, disk := range d.Machine.Disks {
		at := slots[disk.Key]
		i := slices.IndexFunc(controllers, func(c newController) bool { return c.key == at.controller })
		b.words[disk.Key] = fmt.Sprintf("%s%d:%d", controllers[i].class(), at.number, at.unit)
	}
	for _, c := range controllers {
		if c.word == "ide" {
			continue // every machine has these
		}
		device := c.device()
		if number := slotNumber(c.pci); native && number >= 0 {
			device.GetVirtualDevice().SlotInfo = &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: number}
		}
		b.add(device, "")
	}
	for i, disk := range d.Machine.Disks {
		if _, has := d.Disks[disk.Key]; !has {
			b.empty = append(b.empty, disk)
			continue
		}
		b.loaded = append(b.loaded, disk)
		b.add(newDisk(disk, slots[disk.Key], -2000-int32(i)), types.VirtualDeviceConfigSpecFileOperationCreate)
	}
	return nil
}

func (b *blueprint) add(d types.BaseVirtualDevice, file types.VirtualDeviceConfigSpecFileOperation) {
	b.spec.DeviceChange = append(b.spec.DeviceChange, &types.VirtualDeviceConfigSpec{
		Operation: types.VirtualDeviceConfigSpecOperationAdd, FileOperation: file, Device: d,
	})
}

// newDisk is a thin disk that the server makes.
func newDisk(disk lifeboat.Disk, at slot, key int32) *types.VirtualDisk {
	thin := true
	size := vsphereSize(disk)
	return &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{
			Key: key, ControllerKey: at.controller, UnitNumber: &at.unit,
			Backing: &types.VirtualDiskFlatVer2BackingInfo{
				DiskMode: string(types.VirtualDiskModePersistent), ThinProvisioned: &thin,
			},
		},
		CapacityInKB: size >> 10, CapacityInBytes: size,
	}
}

// newController is a controller to be made.
type newController struct {
	bus    lifeboat.Bus
	word   string
	number int32
	key    int32
	pci    string
}

// ideKeys are the devices that every machine has from the beginning.
var ideKeys = []int32{200, 201}

// arrange gives each disk its place: the one it had where that is free and on a
// controller of its kind, else the next. The order of the disks is kept.
func arrange(disks []lifeboat.Disk) (map[string]slot, []newController, error) {
	slots := map[string]slot{}
	taken := map[string]bool{}
	buses := map[string]lifeboat.Bus{} // of each controller
	var controllers []newController
	put := func(disk lifeboat.Disk, number, unit int32) bool {
		word := wordOf(disk.Bus)
		room := rooms[word]
		controller, at := fmt.Sprintf("%s%d", word, number), fmt.Sprintf("%s%d:%d", word, number, unit)
		if number < 0 || number >= room.controllers || unit < 0 || unit >= room.units || taken[at] || word == "scsi" && unit == scsiSelf {
			return false
		}
		if bus, made := buses[controller]; made && bus != disk.Bus {
			return false
		}
		i := slices.IndexFunc(controllers, func(c newController) bool { return c.word == word && c.number == number })
		if i < 0 {
			c := newController{bus: disk.Bus, word: word, number: number, key: -100 - int32(len(controllers)), pci: disk.PCISlot}
			if word == "ide" {
				c.key = ideKeys[number]
			}
			controllers, i = append(controllers, c), len(controllers)
			buses[controller] = disk.Bus
		}
		taken[at] = true
		slots[disk.Key] = slot{word: word, number: number, unit: unit, controller: controllers[i].key}
		return true
	}
	for _, disk := range disks {
		if number, unit, ok := placeOf(disk); ok {
			put(disk, number, unit)
		}
	}
	for _, disk := range disks {
		if _, placed := slots[disk.Key]; placed {
			continue
		}
		if !putNext(disk, put) {
			return nil, nil, &lifeboat.Problem{
				What: fmt.Sprintf("the machine has more disks on %s than vSphere takes", disk.Bus),
				Safe: "nothing was done",
				Next: "recover it on another host (boot --host)",
				Err:  hypervisor.ErrUnsupported,
			}
		}
	}
	return slots, controllers, nil
}

// putNext tries the places of a disk's kind in their order.
func putNext(disk lifeboat.Disk, put func(lifeboat.Disk, int32, int32) bool) bool {
	room := rooms[wordOf(disk.Bus)]
	for number := range room.controllers {
		for unit := range room.units {
			if put(disk, number, unit) {
				return true
			}
		}
	}
	return false
}

// placeOf reads "0:1".
func placeOf(disk lifeboat.Disk) (number, unit int32, ok bool) {
	a, b, found := strings.Cut(disk.Place, ":")
	n, err1 := strconv.ParseInt(a, 10, 16)
	u, err2 := strconv.ParseInt(b, 10, 16)
	return int32(n), int32(u), found && err1 == nil && err2 == nil
}

// device is the controller in vSphere's words.
func (c newController) device() types.BaseVirtualDevice {
	base := types.VirtualController{BusNumber: c.number, VirtualDevice: types.VirtualDevice{Key: c.key}}
	scsi := types.VirtualSCSIController{VirtualController: base, SharedBus: types.VirtualSCSISharingNoSharing}
	switch c.bus {
	case lifeboat.BusSATA:
		return &types.VirtualAHCIController{VirtualSATAController: types.VirtualSATAController{VirtualController: base}}
	case lifeboat.BusNVMe:
		return &types.VirtualNVMEController{VirtualController: base}
	case lifeboat.BusLSI:
		return &types.VirtualLsiLogicController{VirtualSCSIController: scsi}
	case lifeboat.BusLSISAS:
		return &types.VirtualLsiLogicSASController{VirtualSCSIController: scsi}
	}
	return &types.ParaVirtualSCSIController{VirtualSCSIController: scsi}
}

// class is what the server calls the kind of controller.
func (c newController) class() string {
	if c.word == "ide" {
		return "VirtualIDEController"
	}
	return reflect.TypeOf(c.device()).Elem().Name()
}

// addCards makes the network cards with their addresses.
func (b *blueprint) addCards(d *hypervisor.Definition, cables []types.BaseVirtualDeviceBackingInfo, native bool) error {
	var uncabled []string
	for i, nic := range d.Machine.NICs {
		// A card that nobody asked to plug in has a network all the same, because
		// it must have one. The guest may not connect it.
		up := plugged(d, i) && !d.Networks[i].Unplugged
		if !plugged(d, i) {
			uncabled = append(uncabled, strconv.Itoa(i))
		}
		e := types.VirtualEthernetCard{
			VirtualDevice: types.VirtualDevice{
				Key: -4000 - int32(i), Backing: cables[i],
				Connectable: &types.VirtualDeviceConnectInfo{StartConnected: up, Connected: up, AllowGuestControl: up},
			},
			AddressType: string(types.VirtualEthernetCardMacTypeGenerated),
		}
		if nic.MAC != "" && !d.NewMACs {
			e.AddressType, e.MacAddress = string(types.VirtualEthernetCardMacTypeManual), nic.MAC
			// Without this the server takes, under VMware's own prefix, only
			// addresses that it did not give out itself; those are the ones that
			// a machine brings along.
			b.set(fmt.Sprintf("ethernet%d.checkMACAddress", i), "FALSE")
		}
		if number := slotNumber(nic.PCISlot); native && number >= 0 {
			e.SlotInfo = &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: number}
		}
		b.add(cardOf(nic.Model, e), "")
	}
	if len(uncabled) > 0 {
		b.set(settingUncabled, strings.Join(uncabled, ","))
	}
	return nil
}

func cardOf(model string, e types.VirtualEthernetCard) types.BaseVirtualDevice {
	switch model {
	case "vmxnet3":
		return &types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: e}}
	case "e1000":
		return &types.VirtualE1000{VirtualEthernetCard: e}
	}
	return &types.VirtualE1000e{VirtualEthernetCard: e}
}

// slotNumber is VMware's number for an address of its board, or -1: the reverse
// of pciAddress.
func slotNumber(address string) int32 {
	if address == "" {
		return -1
	}
	for number := range int32(1 << 13) {
		if pciAddress(number) == address {
			return number
		}
	}
	return -1
}

// randomUUID is a version 4 UUID.
func randomUUID() string {
	var b [16]byte
	// It never fails: crypto/rand ends the program first.
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return guestUUID(hex.EncodeToString(b[:]), false)
}
