package hypervisor

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"lifeboat"
)

// AsKnown is the Why of a machine that is built as its guest knows it.
const AsKnown = "as its system knows it"

// Candidate is one form in which a machine may be built on a host.
type Candidate struct {
	Machine lifeboat.Machine
	// Why says in a few words what this form is, for the log: AsKnown, or what was
	// put in the place of what.
	Why string
}

// nearestBuses are, for a bus that a host lacks, those that a guest is most
// likely to have a driver for as well, best first. Controllers of one maker or
// one purpose come first; SATA is what nearly every system starts from, IDE what
// the oldest ones do.
var nearestBuses = map[lifeboat.Bus][]lifeboat.Bus{
	lifeboat.BusVirtio:     {lifeboat.BusPVSCSI, lifeboat.BusVirtioSCSI, lifeboat.BusSATA, lifeboat.BusIDE},
	lifeboat.BusVirtioSCSI: {lifeboat.BusPVSCSI, lifeboat.BusVirtio, lifeboat.BusSATA, lifeboat.BusIDE},
	lifeboat.BusPVSCSI:     {lifeboat.BusVirtioSCSI, lifeboat.BusLSISAS, lifeboat.BusSATA, lifeboat.BusIDE},
	lifeboat.BusLSISAS:     {lifeboat.BusLSI, lifeboat.BusPVSCSI, lifeboat.BusSATA, lifeboat.BusIDE},
	lifeboat.BusLSI:        {lifeboat.BusLSISAS, lifeboat.BusPVSCSI, lifeboat.BusSATA, lifeboat.BusIDE},
	lifeboat.BusNVMe:       {lifeboat.BusSATA, lifeboat.BusVirtio, lifeboat.BusPVSCSI, lifeboat.BusIDE},
	lifeboat.BusSATA:       {lifeboat.BusIDE, lifeboat.BusLSISAS, lifeboat.BusVirtio},
	lifeboat.BusIDE:        {lifeboat.BusSATA, lifeboat.BusLSISAS, lifeboat.BusVirtio},
}

// nearestCards are the same for network cards.
var nearestCards = map[string][]string{
	"virtio":  {"vmxnet3", "e1000e", "e1000", "rtl8139"},
	"vmxnet3": {"virtio", "e1000e", "e1000", "rtl8139"},
	"e1000e":  {"e1000", "vmxnet3", "virtio", "rtl8139"},
	"e1000":   {"e1000e", "rtl8139", "vmxnet3", "virtio"},
	"rtl8139": {"e1000", "e1000e", "virtio", "vmxnet3"},
}

// plainCards are what a system has drivers for that has none for a virtual disk
// controller.
var plainCards = []string{"e1000e", "e1000", "rtl8139"}

// mostOnIDE is how many disks the older kind of board takes.
const mostOnIDE = 4

// Candidates are the forms in which a machine may be built on a host with those
// abilities, best first. The first is the machine as its guest knows it: every
// bus, card and slot that the host has is kept, any other is replaced by the
// nearest that the host has. The others are for a guest that does not find its
// root device then: all disks on virtio, then SATA, then IDE. No form is there
// twice.
//
// Keys, sizes, order, serial numbers and MACs are the same in all of them, and
// the firmware is never converted. A disk that changes its bus has no place on it
// any more; a card keeps its slot, because guests name it after that.
func Candidates(m lifeboat.Machine, a Abilities) []Candidate {
	first := keepKnown(m, a)
	list := []Candidate{first}
	for _, bus := range retryBuses(a) {
		next, ok := allOn(first.Machine, bus)
		if !ok {
			continue
		}
		if bus == lifeboat.BusSATA || bus == lifeboat.BusIDE {
			plainReplaced(&next, m, a)
		}
		known := slices.ContainsFunc(list, func(c Candidate) bool { return reflect.DeepEqual(c.Machine, next) })
		if !known {
			list = append(list, Candidate{Machine: next, Why: changes(m, next)})
		}
	}
	return list
}

// OnBus is the form in which all disks of a machine are on one bus of the host,
// whatever its guest knows, for a person who knows better. The error says in words
// why there is none.
func OnBus(m lifeboat.Machine, bus lifeboat.Bus, a Abilities) (Candidate, error) {
	if !slices.Contains(a.Buses, bus) {
		var has []string
		for _, b := range a.Buses {
			has = append(has, string(b))
		}
		return Candidate{}, fmt.Errorf("there are no disks on %q here, only on %s", bus, strings.Join(has, ", "))
	}
	form := keepKnown(m, a).Machine
	if slices.ContainsFunc(form.Disks, func(d lifeboat.Disk) bool { return d.Bus != bus }) {
		var ok bool
		if form, ok = allOn(form, bus); !ok {
			return Candidate{}, fmt.Errorf("its disks do not go on %s: IDE takes %d, and no machine with UEFI; IDE and SATA take none with sectors of 4096 bytes", bus, mostOnIDE)
		}
	}
	return Candidate{Machine: form, Why: changes(m, form)}, nil
}

// keepKnown is the machine with as little replaced as the host allows.
func keepKnown(m lifeboat.Machine, a Abilities) Candidate {
	kept := copyOf(m)
	for i := range kept.Disks {
		setBus(&kept.Disks[i], choose(kept.Disks[i].Bus, a.Buses, nearestBuses))
	}
	for i := range kept.NICs {
		kept.NICs[i].Model = choose(kept.NICs[i].Model, a.Cards, nearestCards)
	}
	return Candidate{Machine: kept, Why: changes(m, kept)}
}

// choose returns the word itself if the host has it, else the nearest it has. A
// host that names none takes any.
func choose[T comparable](word T, has []T, nearest map[T][]T) T {
	if len(has) == 0 || slices.Contains(has, word) {
		return word
	}
	for _, near := range nearest[word] {
		if slices.Contains(has, near) {
			return near
		}
	}
	return has[0]
}

// retryBuses are the buses to try when a guest did not find its root device. On
// a host without virtio its place is taken by that host's own fast controller.
func retryBuses(a Abilities) []lifeboat.Bus {
	fast := lifeboat.BusVirtio
	if !slices.Contains(a.Buses, fast) {
		fast = lifeboat.BusPVSCSI
	}
	return slices.DeleteFunc([]lifeboat.Bus{fast, lifeboat.BusSATA, lifeboat.BusIDE}, func(b lifeboat.Bus) bool {
		return !slices.Contains(a.Buses, b)
	})
}

// allOn is a machine with all of its disks on one bus, if that can be and is
// something new.
func allOn(m lifeboat.Machine, bus lifeboat.Bus) (lifeboat.Machine, bool) {
	if !slices.ContainsFunc(m.Disks, func(d lifeboat.Disk) bool { return d.Bus != bus }) {
		return m, false
	}
	m = copyOf(m)
	for i := range m.Disks {
		// ATA disks have small sectors, and a partition table is written in the
		// sectors of its disk.
		if large := m.Disks[i].LogicalSectorBytes > 512; large && (bus == lifeboat.BusSATA || bus == lifeboat.BusIDE) {
			return m, false
		}
		setBus(&m.Disks[i], bus)
	}
	if bus == lifeboat.BusIDE {
		// Only the older board has it. A system that starts from UEFI is of an age
		// that knows SATA, and firmware for that board is often not installed.
		if len(m.Disks) > mostOnIDE || m.Firmware.Kind == lifeboat.FirmwareUEFI {
			return m, false
		}
		m.Chipset = lifeboat.ChipsetI440FX
	}
	return m, true
}

// plainReplaced gives a guest without a driver for fast disks no fast card
// either, where its own had to be replaced anyway.
func plainReplaced(next *lifeboat.Machine, source lifeboat.Machine, a Abilities) {
	at := slices.IndexFunc(plainCards, func(card string) bool { return slices.Contains(a.Cards, card) })
	if at < 0 {
		return
	}
	for i := range next.NICs {
		if next.NICs[i].Model != source.NICs[i].Model {
			next.NICs[i].Model = plainCards[at]
		}
	}
}

func setBus(d *lifeboat.Disk, bus lifeboat.Bus) {
	if d.Bus != bus {
		d.Bus, d.Place, d.PCISlot = bus, "", ""
	}
}

// changes says in words how a form differs from the machine.
func changes(was, is lifeboat.Machine) string {
	var words []string
	add := func(kind, from, to string) {
		if from == "" {
			from = "an unknown one"
		}
		word := fmt.Sprintf("%s on %s instead of %s", kind, to, from)
		if kind == "network" {
			word = fmt.Sprintf("a %s network card instead of %s", to, from)
		}
		if from != to && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	for i, d := range was.Disks {
		add("disks", string(d.Bus), string(is.Disks[i].Bus))
	}
	for i, n := range was.NICs {
		add("network", n.Model, is.NICs[i].Model)
	}
	if len(words) == 0 {
		return AsKnown
	}
	return strings.Join(words, ", ")
}

// copyOf is a machine whose disks and cards can be changed alone.
func copyOf(m lifeboat.Machine) lifeboat.Machine {
	m.Disks, m.NICs = slices.Clone(m.Disks), slices.Clone(m.NICs)
	return m
}
