package qemu

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"lifeboat"
)

// controller is a kind of disk controller.
type controller struct {
	driver string
	id     string // how the ids of its devices begin
	units  int    // how many disks one takes
}

// controllers are the kinds that are devices of their own. A SATA controller is
// on the board of q35 as well, two IDE channels on that of i440fx.
var controllers = map[lifeboat.Bus]controller{
	lifeboat.BusVirtioSCSI: {"virtio-scsi-pci", "vscsi", 64},
	lifeboat.BusPVSCSI:     {"pvscsi", "pvscsi", 64},
	lifeboat.BusLSISAS:     {"mptsas1068", "sas", 8},
	lifeboat.BusSATA:       {"ich9-ahci", "ahci", 6},
	lifeboat.BusIDE:        {"", "ide", 2},
}

// mostOnIDE is how many disks the channels of the older board take.
const mostOnIDE = 4

// highestController is the highest number of a controller that is kept from the
// source. No hypervisor gives a machine more.
const highestController = 7

// seat is where a disk is plugged in.
type seat struct {
	disk  lifeboat.Disk
	index int // in the machine's list
	// bus is the disk's own, or what stands for it on this board. Disks on
	// virtio and NVMe are cards of their own, without a controller and a unit.
	bus              lifeboat.Bus
	controller, unit int
	onBoard          bool // the controller is part of the board
}

// planSeats gives every disk its seat: the one that it had where that is free
// and exists here, and the first free one for all others.
func planSeats(m *lifeboat.Machine) []seat {
	older := chipset(m) == lifeboat.ChipsetI440FX
	seats := make([]seat, len(m.Disks))
	taken := map[lifeboat.Bus]map[[2]int]bool{}
	for i, d := range m.Disks {
		s := seat{disk: d, index: i, bus: d.Bus, controller: -1}
		if s.bus == lifeboat.BusIDE && !older {
			s.bus = lifeboat.BusSATA // that board has nothing else
		}
		kind, ok := controllers[s.bus]
		at, unit, known := parsePlace(d.Place)
		if ok && known && at <= mostControllers(s.bus) && unit < kind.units && !taken[s.bus][[2]int{at, unit}] {
			s.take(taken, at, unit)
		}
		seats[i] = s
	}
	for i := range seats {
		s := &seats[i]
		if kind, ok := controllers[s.bus]; ok {
			for n := 0; s.controller < 0; n++ {
				if place := [2]int{n / kind.units, n % kind.units}; !taken[s.bus][place] {
					s.take(taken, place[0], place[1])
				}
			}
			s.onBoard = s.bus == lifeboat.BusIDE || s.bus == lifeboat.BusSATA && !older && s.controller == 0
		}
	}
	return seats
}

func (s *seat) take(taken map[lifeboat.Bus]map[[2]int]bool, controller, unit int) {
	if taken[s.bus] == nil {
		taken[s.bus] = map[[2]int]bool{}
	}
	taken[s.bus][[2]int{controller, unit}] = true
	s.controller, s.unit = controller, unit
}

// mostControllers is the highest number of a controller of that kind.
func mostControllers(bus lifeboat.Bus) int {
	if bus == lifeboat.BusIDE {
		return mostOnIDE/controllers[bus].units - 1
	}
	return highestController
}

var placeForm = regexp.MustCompile(`^([0-9]{1,3}):([0-9]{1,3})$`)

// parsePlace reads CONTROLLER:UNIT.
func parsePlace(place string) (controller, unit int, ok bool) {
	found := placeForm.FindStringSubmatch(place)
	if found == nil {
		return 0, 0, false
	}
	controller, _ = strconv.Atoi(found[1])
	unit, _ = strconv.Atoi(found[2])
	return controller, unit, true
}

// card is the id of the device that has a PCI slot because of this disk: its
// controller, or itself; or empty, where that is part of the board.
func (s seat) card() string {
	kind, ok := controllers[s.bus]
	switch {
	case s.onBoard:
		return ""
	case ok:
		return fmt.Sprintf("%s%d", kind.id, s.controller)
	}
	return nodeName(deviceDisk, s.disk.Key)
}

// plug writes the seat into the options of the disk's device.
func (s seat) plug(o options) {
	switch s.bus {
	case lifeboat.BusVirtioSCSI, lifeboat.BusPVSCSI, lifeboat.BusLSISAS:
		o["driver"], o["bus"], o["scsi-id"] = "scsi-hd", s.card()+".0", s.unit
		if len(s.disk.Serial) > longestSCSISerial {
			o["serial"] = s.disk.Serial[:longestSCSISerial]
		}
	case lifeboat.BusIDE:
		o["driver"], o["bus"], o["unit"] = "ide-hd", fmt.Sprintf("ide.%d", s.controller), s.unit
	case lifeboat.BusSATA:
		o["driver"], o["bus"] = "ide-hd", fmt.Sprintf("%s.%d", s.card(), s.unit)
		if s.onBoard {
			o["bus"] = fmt.Sprintf("ide.%d", s.unit)
		}
	case lifeboat.BusNVMe:
		o["driver"] = "nvme"
		if s.disk.Serial == "" {
			o["serial"] = s.disk.Key // this device has to have one
		}
	default:
		o["driver"] = "virtio-blk-pci"
	}
}

// longestSCSISerial is what QEMU takes for a SCSI disk; for the others it cuts.
const longestSCSISerial = 36

// controllerDevices are the controllers that the disks need and the board lacks,
// in a fixed order.
func controllerDevices(seats []seat) []options {
	needed := map[string]string{} // drivers by id
	for _, s := range seats {
		if kind, ok := controllers[s.bus]; ok && !s.onBoard {
			needed[s.card()] = kind.driver
		}
	}
	ids := make([]string, 0, len(needed))
	for id := range needed {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	list := make([]options, 0, len(ids))
	for _, id := range ids {
		list = append(list, options{"driver": needed[id], "id": id})
	}
	return list
}
