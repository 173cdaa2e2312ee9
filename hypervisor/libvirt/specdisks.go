package libvirt

import (
	"fmt"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
)

// diskSource is where the bytes of a disk are on the host.
type diskSource struct {
	// key is the disk's at Lifeboat: that of the machine it was defined from, or
	// the target.
	key string
	// target is what libvirt knows the disk by ("vda").
	target string
	// kind is libvirt's type of the source: "file", "block", "volume", "network",
	// "nvme", "dir", "vhostuser" or "vhostvdpa".
	kind string
	// path is the file or device; empty for what has none. pool and volume name
	// it where the kind is "volume".
	path, pool, volume string
	// format is that of the image: "qcow2", "raw" or another that QEMU knows.
	format string
	// readOnly: the guest cannot write it, so it never needs change tracking.
	readOnly bool
	// refused is why no moment of the disk can be held, or empty.
	refused string
	// onlyRunning is why the disk can be read through a running QEMU alone, or
	// empty.
	onlyRunning string
}

// setDisks takes the disks, in libvirt's order. Drives for media are left out.
func (d *description) setDisks(doc *libvirtxml.Domain) error {
	keys := keysOf(doc.Devices.Disks)
	for i := range doc.Devices.Disks {
		disk := &doc.Devices.Disks[i]
		if disk.Device != "" && disk.Device != "disk" && disk.Device != "lun" {
			continue
		}
		if disk.Target == nil || !diskKey.MatchString(disk.Target.Dev) {
			return fmt.Errorf("a disk has no target name that can be a key: %q", targetName(disk))
		}
		if disk.Source == nil {
			continue // a tray without anything in it
		}
		source := sourceOf(disk)
		source.key = keys[i]
		out := lifeboat.Disk{
			Key: source.key, Serial: disk.Serial, WWN: strings.TrimPrefix(strings.ToLower(disk.WWN), "0x"),
		}
		if out.WWN == "" {
			out.WWN = overriddenWWN(disk, doc.QEMUOverride)
		}
		if disk.BlockIO != nil {
			out.LogicalSectorBytes = sector(disk.BlockIO.LogicalBlockSize)
			out.PhysicalSectorBytes = sector(disk.BlockIO.PhysicalBlockSize)
		}
		if disk.Boot != nil {
			out.BootIndex = int(disk.Boot.Order)
		}
		var note string
		out.Bus, note = bus(disk, doc.Devices.Controllers)
		if note != "" {
			d.left = append(d.left, note)
		}
		out.Place, out.PCISlot = place(disk, out.Bus, doc.Devices.Controllers)
		d.machine.Disks = append(d.machine.Disks, out)
		d.disks = append(d.disks, source)
	}
	if bootsFromDisk(doc.OS) && len(d.machine.Disks) > 0 {
		// libvirt gives "hd" to the first disk alone.
		d.machine.Disks[0].BootIndex = 1
	}
	return nil
}

// keysOf are the keys of all disks, no two alike. Those that Lifeboat gave come
// first; a disk that was added later and has such a name as its target gets a
// number behind it.
func keysOf(disks []libvirtxml.DomainDisk) []string {
	keys := make([]string, len(disks))
	taken := map[string]bool{}
	for _, given := range []bool{true, false} {
		for i := range disks {
			disk := &disks[i]
			if disk.Target == nil || given != (disk.Alias != nil && strings.HasPrefix(disk.Alias.Name, diskAliasPrefix)) {
				continue
			}
			key := keyOf(disk)
			for n := 2; taken[key]; n++ {
				key = fmt.Sprintf("%.28s-%d", keyOf(disk), n)
			}
			keys[i], taken[key] = key, true
		}
	}
	return keys
}

// overriddenWWN is the world wide name that QEMU is given past libvirt, which takes
// none for SATA.
func overriddenWWN(disk *libvirtxml.DomainDisk, o *libvirtxml.DomainQEMUOverride) string {
	if o == nil || disk.Alias == nil {
		return ""
	}
	for _, device := range o.Devices {
		for _, p := range device.Frontend.Properties {
			if wwn, err := strconv.ParseUint(p.Value, 10, 64); err == nil && p.Name == "wwn" && device.Alias == disk.Alias.Name {
				return fmt.Sprintf("%016x", wwn)
			}
		}
	}
	return ""
}

func targetName(disk *libvirtxml.DomainDisk) string {
	if disk.Target == nil {
		return ""
	}
	return disk.Target.Dev
}

// sector is the size of a sector, where it is not the usual one.
func sector(bytes uint) int {
	if bytes == 512 || bytes > 1<<20 {
		return 0
	}
	return int(bytes)
}

func bootsFromDisk(os *libvirtxml.DomainOS) bool {
	for _, b := range os.BootDevices {
		if b.Dev == "hd" {
			return true
		}
	}
	return false
}

func sourceOf(disk *libvirtxml.DomainDisk) diskSource {
	s := diskSource{key: keyOf(disk), target: disk.Target.Dev, format: "raw", readOnly: disk.ReadOnly != nil, refused: refusedDisk(disk)}
	if disk.Driver != nil && disk.Driver.Type != "" {
		s.format = disk.Driver.Type
	}
	switch src := disk.Source; {
	case src.File != nil:
		s.kind, s.path = "file", src.File.File
	case src.Block != nil:
		s.kind, s.path = "block", src.Block.Dev
	case src.Volume != nil:
		s.kind, s.pool, s.volume = "volume", src.Volume.Pool, src.Volume.Volume
	case src.Network != nil:
		s.kind = "network"
		s.onlyRunning = "it lies on network storage (" + src.Network.Protocol + ")"
	case src.NVME != nil:
		s.kind, s.onlyRunning = "nvme", "it is an NVMe drive that QEMU drives itself"
	case src.Dir != nil:
		s.kind = "dir"
	case src.VHostUser != nil:
		s.kind = "vhostuser"
	case src.VHostVDPA != nil:
		s.kind = "vhostvdpa"
	}
	if disk.Encryption != nil || disk.Source.Encryption != nil {
		s.onlyRunning = "its image is encrypted"
	}
	return s
}

// bus is what the guest sees the disk behind. One that no other host has is
// replaced, with a note.
func bus(disk *libvirtxml.DomainDisk, controllers []libvirtxml.DomainController) (bus lifeboat.Bus, note string) {
	switch disk.Target.Bus {
	case "virtio":
		return lifeboat.BusVirtio, ""
	case "scsi":
		return scsiBus(controllerOf(disk, "scsi", controllers)), ""
	case "ide":
		return lifeboat.BusIDE, ""
	case "nvme":
		return lifeboat.BusNVMe, ""
	case "sata":
		return lifeboat.BusSATA, ""
	}
	return lifeboat.BusSATA, fmt.Sprintf("disk %s is on bus %q: it comes back on SATA", disk.Target.Dev, disk.Target.Bus)
}

// scsiBus is the kind of a SCSI controller; libvirt's default on a PC is LSI's.
func scsiBus(c *libvirtxml.DomainController) lifeboat.Bus {
	if c == nil {
		return lifeboat.BusLSI
	}
	switch model := c.Model; {
	case strings.HasPrefix(model, "virtio"):
		return lifeboat.BusVirtioSCSI
	case model == "vmpvscsi":
		return lifeboat.BusPVSCSI
	case strings.HasPrefix(model, "lsisas"):
		return lifeboat.BusLSISAS
	}
	return lifeboat.BusLSI
}

// controllerOf is the controller of that type that the disk's address names.
func controllerOf(disk *libvirtxml.DomainDisk, kind string, controllers []libvirtxml.DomainController) *libvirtxml.DomainController {
	var want uint
	if disk.Address != nil && disk.Address.Drive != nil {
		want = number(disk.Address.Drive.Controller)
	}
	for i := range controllers {
		if c := &controllers[i]; c.Type == kind && number(c.Index) == want {
			return c
		}
	}
	return nil
}

// place is where the guest sees the disk on its bus, and the PCI slot of the disk
// or of its controller. The two channels of an IDE controller count as
// controllers: "1:0" is the first disk on the second. A disk behind another
// target than the first, which no other bus has a word for, has no place.
func place(disk *libvirtxml.DomainDisk, bus lifeboat.Bus, controllers []libvirtxml.DomainController) (place, slot string) {
	if disk.Address == nil {
		return "", ""
	}
	if disk.Address.PCI != nil {
		return "", pciSlot(disk.Address)
	}
	at := disk.Address.Drive
	if at == nil {
		return "", ""
	}
	if c := controllerOf(disk, disk.Target.Bus, controllers); c != nil {
		slot = pciSlot(c.Address)
	}
	switch {
	case bus == lifeboat.BusIDE:
		return fmt.Sprintf("%d:%d", number(at.Bus), number(at.Unit)), slot
	case (bus == lifeboat.BusLSISAS || bus == lifeboat.BusPVSCSI) && number(at.Unit) == 0 && number(at.Bus) == 0:
		// Their disks are targets with one unit each.
		return fmt.Sprintf("%d:%d", number(at.Controller), number(at.Target)), slot
	case number(at.Target) != 0 || number(at.Bus) != 0:
		return "", slot
	}
	return fmt.Sprintf("%d:%d", number(at.Controller), number(at.Unit)), slot
}

func number(n *uint) uint {
	if n == nil {
		return 0
	}
	return *n
}
