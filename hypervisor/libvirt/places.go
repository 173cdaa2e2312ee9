package libvirt

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
)

// diskPlace is where a disk sits on its bus: a controller, and a unit of it. The
// two channels of an IDE controller count as controllers.
type diskPlace struct{ controller, unit uint }

// places are the addresses of the disks that sit behind a controller, and the
// controllers. The guest's own places are kept where this board has them; on a
// bus where one of them is unknown or impossible, all are counted anew. SCSI
// controllers of all kinds share one count, as they do on VMware.
func places(disks []lifeboat.Disk, pci *slots) ([]*libvirtxml.DomainAddress, []libvirtxml.DomainController, error) {
	addresses := make([]*libvirtxml.DomainAddress, len(disks))
	var kinds []string
	owners := map[string]map[uint]lifeboat.Bus{} // who has which index, by type of controller
	on := map[lifeboat.Bus]map[int]diskPlace{}
	for _, disk := range disks {
		kind, ok := busKinds[disk.Bus]
		if !ok {
			return nil, nil, fmt.Errorf("libvirt has no bus %q for disk %s", disk.Bus, disk.Key)
		}
		if kind.controller == "" || on[disk.Bus] != nil {
			continue
		}
		if owners[kind.controller] == nil {
			owners[kind.controller] = map[uint]lifeboat.Bus{}
			kinds = append(kinds, kind.controller)
		}
		on[disk.Bus] = placesOn(disks, disk.Bus, owners[kind.controller])
		for i, p := range on[disk.Bus] {
			addresses[i] = diskAddress(disk.Bus, p)
			owners[kind.controller][p.controller] = disk.Bus
		}
	}
	var controllers []libvirtxml.DomainController
	for _, kind := range kinds {
		controllers = append(controllers, controllersOf(kind, disks, owners[kind], on, pci)...)
	}
	return addresses, controllers, nil
}

// controllersOf are the controllers of one type, without a gap: libvirt would
// fill it with a model of its own choice.
func controllersOf(kind string, disks []lifeboat.Disk, owners map[uint]lifeboat.Bus, on map[lifeboat.Bus]map[int]diskPlace, pci *slots) []libvirtxml.DomainController {
	last := slices.Max(slices.Collect(maps.Keys(owners)))
	if kind == "ide" {
		last = 0 // its two channels are one controller
	}
	var list []libvirtxml.DomainController
	for n := range last + 1 {
		bus, owned := owners[n]
		if !owned {
			bus = owners[last]
		}
		c := libvirtxml.DomainController{Type: kind, Model: busKinds[bus].model, Index: &n}
		if kind == "scsi" {
			c.Address = pci.take(controllerSlot(disks, on[bus], n), bus == lifeboat.BusVirtioSCSI)
		}
		list = append(list, c)
	}
	return list
}

// controllerSlot is the PCI slot that the guest saw the n-th controller in.
func controllerSlot(disks []lifeboat.Disk, on map[int]diskPlace, n uint) string {
	for i, d := range disks {
		if p, ok := on[i]; ok && p.controller == n && d.PCISlot != "" {
			return d.PCISlot
		}
	}
	return ""
}

// placesOn are the places of the disks on one bus, by the disk's number, on
// controllers that no other bus has.
func placesOn(disks []lifeboat.Disk, bus lifeboat.Bus, owners map[uint]lifeboat.Bus) map[int]diskPlace {
	kept, taken := map[int]diskPlace{}, map[diskPlace]bool{}
	counted := map[int]diskPlace{}
	units := busKinds[bus].units
	first, complete, n := uint(len(owners)), true, uint(0)
	for free := range owners {
		first = max(first, free+1)
	}
	for i, d := range disks {
		if d.Bus != bus {
			continue
		}
		counted[i] = diskPlace{first + n/units, n % units}
		n++
		p, ok := parsePlace(d.Place)
		_, foreign := owners[p.controller]
		if !ok || foreign || taken[p] || !possible(bus, p) {
			complete = false
			continue
		}
		kept[i], taken[p] = p, true
	}
	if complete {
		return kept
	}
	return counted
}

// mostControllers bounds what a place may ask for.
const mostControllers = 4

func possible(bus lifeboat.Bus, p diskPlace) bool {
	if bus == lifeboat.BusIDE {
		return p.controller < 2 && p.unit < 2
	}
	return p.controller < mostControllers && p.unit < busKinds[bus].units
}

func parsePlace(text string) (diskPlace, bool) {
	controller, unit, ok := strings.Cut(text, ":")
	c, cerr := strconv.ParseUint(controller, 10, 8)
	u, uerr := strconv.ParseUint(unit, 10, 16)
	return diskPlace{uint(c), uint(u)}, ok && cerr == nil && uerr == nil
}

// diskAddress is a place in libvirt's words.
func diskAddress(bus lifeboat.Bus, p diskPlace) *libvirtxml.DomainAddress {
	var zero uint
	a := &libvirtxml.DomainAddressDrive{Controller: &p.controller, Bus: &zero, Target: &zero, Unit: &p.unit}
	switch bus {
	case lifeboat.BusIDE:
		a.Controller, a.Bus = &zero, &p.controller
	case lifeboat.BusLSISAS, lifeboat.BusPVSCSI:
		// Their disks are targets with one unit each.
		a.Target, a.Unit = &p.unit, &zero
	}
	return &libvirtxml.DomainAddress{Drive: a}
}

// slots gives out PCI addresses of a board, each once.
type slots struct {
	board lifeboat.Chipset
	taken map[[2]uint64]bool
}

func newSlots(board lifeboat.Chipset) *slots {
	return &slots{board: board, taken: map[[2]uint64]bool{}}
}

// mostPorts is how many root ports a board gets for cards that sat behind one.
const mostPorts = 16

var pciAddress = regexp.MustCompile(`^0000:([0-9a-f]{2}):([01][0-9a-f])\.0$`)

// take returns the address of a slot that the guest saw, or nil where this board
// cannot give it: then libvirt chooses. On the first bus the lowest slots and
// the last are the board's own; on q35 a card may be the only one behind a root
// port, which is how libvirt builds machines.
// So express says whether the card is one for PCI Express: libvirt puts others
// behind a bridge of its own.
func (s *slots) take(address string, express bool) *libvirtxml.DomainAddress {
	found := pciAddress.FindStringSubmatch(address)
	if found == nil {
		return nil
	}
	bus, _ := strconv.ParseUint(found[1], 16, 8)
	slot, _ := strconv.ParseUint(found[2], 16, 8)
	switch {
	case bus == 0 && slot >= 3 && slot < 0x1b:
	case bus > 0 && bus <= mostPorts && slot == 0 && express && s.board == lifeboat.ChipsetQ35:
	default:
		return nil
	}
	at := [2]uint64{bus, slot}
	if s.taken[at] {
		return nil
	}
	s.taken[at] = true
	domain, function, b, n := uint(0), uint(0), uint(bus), uint(slot)
	return &libvirtxml.DomainAddress{PCI: &libvirtxml.DomainAddressPCI{Domain: &domain, Bus: &b, Slot: &n, Function: &function}}
}
