package libvirt

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
)

// diskAliasPrefix begins the alias of a disk that Lifeboat defined. The key
// follows: "root" stays "root", whatever letter the disk gets here.
const diskAliasPrefix = "ua-disk-"

// diskAlias is the alias of a disk.
func diskAlias(key string) string { return diskAliasPrefix + key }

// keyOf is the key of a disk of libvirt's: the one that Lifeboat defined it with,
// or its target.
func keyOf(disk *libvirtxml.DomainDisk) string {
	if disk.Alias != nil {
		if key, ok := strings.CutPrefix(disk.Alias.Name, diskAliasPrefix); ok && diskKey.MatchString(key) {
			return key
		}
	}
	return disk.Target.Dev
}

// busKind is what a bus is in libvirt's words.
type busKind struct {
	target, prefix string
	// controller is the type of the controllers, where disks have one, model its
	// model, and units how many disks one takes (one channel, for IDE).
	controller, model string
	units             uint
}

// busKinds are the buses that this room's XML can give a machine.
var busKinds = map[lifeboat.Bus]busKind{
	lifeboat.BusVirtio:     {target: "virtio", prefix: "vd"},
	lifeboat.BusVirtioSCSI: {target: "scsi", prefix: "sd", controller: "scsi", model: "virtio-scsi", units: 64},
	lifeboat.BusSATA:       {target: "sata", prefix: "sd", controller: "sata", units: 6},
	lifeboat.BusIDE:        {target: "ide", prefix: "hd", controller: "ide", units: 2},
	lifeboat.BusLSISAS:     {target: "scsi", prefix: "sd", controller: "scsi", model: "lsisas1068", units: 8},
	lifeboat.BusPVSCSI:     {target: "scsi", prefix: "sd", controller: "scsi", model: "vmpvscsi", units: 16},
}

// diskXML are the disks, in the machine's order, and the controllers that they
// need.
func diskXML(d hypervisor.Definition, b build, pci *slots) ([]libvirtxml.DomainDisk, []libvirtxml.DomainController, error) {
	addresses, controllers, err := places(d.Machine.Disks, pci)
	if err != nil {
		return nil, nil, err
	}
	names, orders := targets(d.Machine.Disks), bootOrders(d.Machine.Disks)
	var disks []libvirtxml.DomainDisk
	for i, disk := range d.Machine.Disks {
		file, ok := b.disks[disk.Key]
		if !ok {
			return nil, nil, fmt.Errorf("disk %s has no file", disk.Key)
		}
		x := libvirtxml.DomainDisk{
			Device: "disk",
			Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: file.format, ErrorPolicy: "enospace", Discard: "unmap"},
			Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: file.path}},
			Target: &libvirtxml.DomainDiskTarget{Dev: names[i], Bus: busKinds[disk.Bus].target},
			Serial: hypervisor.Printable(disk.Serial),
			Boot:   &libvirtxml.DomainDeviceBoot{Order: orders[i]},
			Alias:  &libvirtxml.DomainAlias{Name: diskAlias(disk.Key)},
		}
		if d.Throwaway {
			x.Driver.Cache = "unsafe"
		}
		if disk.Bus == lifeboat.BusVirtio {
			x.Address = pci.take(disk.PCISlot, true)
		} else {
			x.Address = addresses[i]
		}
		if x.Target.Bus == "scsi" || x.Target.Bus == "ide" {
			x.WWN = disk.WWN // libvirt takes it for these alone
		}
		if disk.LogicalSectorBytes > 0 || disk.PhysicalSectorBytes > 0 {
			x.BlockIO = &libvirtxml.DomainDiskBlockIO{
				LogicalBlockSize: uint(disk.LogicalSectorBytes), PhysicalBlockSize: uint(disk.PhysicalSectorBytes)}
		}
		if file.base != nil {
			x.BackingStore = backingXML(*file.base)
		}
		disks = append(disks, x)
	}
	return disks, controllers, nil
}

// backingXML is the NBD server under an overlay. An empty element says that
// nothing is under that: libvirt does not go and look.
func backingXML(n hypervisor.NBDBacking) *libvirtxml.DomainDiskBackingStore {
	return &libvirtxml.DomainDiskBackingStore{
		Format: &libvirtxml.DomainDiskFormat{Type: "raw"},
		Source: &libvirtxml.DomainDiskSource{Network: &libvirtxml.DomainDiskSourceNetwork{
			Protocol: "nbd", Name: n.Export,
			Hosts:     []libvirtxml.DomainDiskSourceHost{{Transport: "unix", Socket: n.Socket}},
			Reconnect: &libvirtxml.DomainDiskSourceNetworkReconnect{Delay: strconv.Itoa(reconnectSeconds)},
		}},
		BackingStore: &libvirtxml.DomainDiskBackingStore{},
	}
}

// overrides are what QEMU can do and libvirt has no word for.
func overrides(d hypervisor.Definition, b build) *libvirtxml.DomainQEMUOverride {
	o := &libvirtxml.DomainQEMUOverride{}
	for _, disk := range d.Machine.Disks {
		properties := readErrors(b.disks[disk.Key])
		if disk.Bus == lifeboat.BusSATA && disk.WWN != "" {
			wwn, _ := strconv.ParseUint(disk.WWN, 16, 64) // its form was checked
			properties = append(properties, libvirtxml.DomainQEMUOverrideProperty{Name: "wwn", Type: "unsigned", Value: strconv.FormatUint(wwn, 10)})
		}
		if len(properties) > 0 {
			o.Devices = append(o.Devices, libvirtxml.DomainQEMUOverrideDevice{Alias: diskAlias(disk.Key),
				Frontend: libvirtxml.DomainQEMUOverrideFrontend{Properties: properties}})
		}
	}
	if len(o.Devices) == 0 {
		return nil
	}
	return o
}

// readErrors makes QEMU stop the machine on ENOSPC, which is how a disk server
// says that its drive is away, and tell the guest of any other error at once:
// waiting would not mend a damaged block. libvirt's own words know no such
// policy for reads.
func readErrors(file diskFile) []libvirtxml.DomainQEMUOverrideProperty {
	if file.base == nil {
		return nil
	}
	return []libvirtxml.DomainQEMUOverrideProperty{{Name: "rerror", Type: "string", Value: "enospc"}}
}

// targets are the device names that libvirt wants, one for each disk: the key
// where it is such a name, else the next that is free.
func targets(disks []lifeboat.Disk) []string {
	names, taken := make([]string, len(disks)), map[string]bool{}
	for i, d := range disks {
		if form := regexp.MustCompile(`^` + busKinds[d.Bus].prefix + `[a-z]{1,2}$`); form.MatchString(d.Key) && !taken[d.Key] {
			names[i], taken[d.Key] = d.Key, true
		}
	}
	for i, d := range disks {
		for n := 0; names[i] == ""; n++ {
			if name := busKinds[d.Bus].prefix + letters(n); !taken[name] {
				names[i], taken[name] = name, true
			}
		}
	}
	return names
}

// letters counts a, b, ..., z, aa, ab, ...
func letters(n int) string {
	text := ""
	for n++; n > 0; n = (n - 1) / 26 {
		text = string(rune('a'+(n-1)%26)) + text
	}
	return text
}

// bootOrders are the places of the disks in the order that firmware tries, from
// 1 on: those whose place is known first, and then the others as they come.
func bootOrders(disks []lifeboat.Disk) []uint {
	order := make([]int, len(disks))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := disks[a].BootIndex, disks[b].BootIndex
		switch {
		case (x > 0) != (y > 0):
			if x > 0 {
				return -1
			}
			return 1
		}
		return x - y
	})
	places := make([]uint, len(disks))
	for n, i := range order {
		places[i] = uint(n + 1)
	}
	return places
}
