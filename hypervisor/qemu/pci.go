package qemu

import (
	"fmt"
	"regexp"
	"strconv"

	"lifeboat"
)

// pciSlot is where a guest sees a card: the number of the bus and the slot on it.
type pciSlot struct{ bus, slot int }

func (p pciSlot) String() string { return fmt.Sprintf("0000:%02x:%02x.0", p.bus, p.slot) }

// place writes the slot into a device's options.
func (p pciSlot) place(o options) {
	o["addr"] = fmt.Sprintf("0x%x", p.slot)
	if p.bus > 0 {
		o["bus"] = fmt.Sprintf("port%d", p.bus)
	}
}

// slots says where a guest sees the devices of a machine.
type slots struct {
	// nics are those of the network cards, in their order.
	nics []pciSlot
	// storage are those of disk controllers and of disks that are cards of their
	// own, by the id of the device. QEMU finds one for those that are missing.
	storage map[string]pciSlot
}

// planSlots gives every network card a slot, and every disk controller that had
// one: those that the guest knows, where we can give them, and free ones for the
// other network cards. No slot is given twice; a network card comes first,
// because its name hangs on it.
func planSlots(m *lifeboat.Machine) slots {
	plan, taken := slots{make([]pciSlot, len(m.NICs)), map[string]pciSlot{}}, map[pciSlot]bool{}
	for i, nic := range m.NICs {
		slot, ok := rememberedSlot(nic.PCISlot, chipset(m))
		if ok && !taken[slot] {
			plan.nics[i], taken[slot] = slot, true
		}
	}
	for _, s := range planSeats(m) {
		id := s.card()
		slot, ok := rememberedSlot(s.disk.PCISlot, chipset(m))
		// The upper slots are for network cards: each has to find one.
		ok = ok && (slot.bus > 0 || slot.slot < firstNICSlot)
		if _, known := plan.storage[id]; ok && id != "" && !known && !taken[slot] {
			plan.storage[id], taken[slot] = slot, true
		}
	}
	next := pciSlot{slot: firstNICSlot}
	for i := range plan.nics {
		if plan.nics[i] != (pciSlot{}) {
			continue
		}
		for taken[next] {
			next.slot++
		}
		plan.nics[i], taken[next] = next, true
	}
	return plan
}

var pciAddress = regexp.MustCompile(`^0000:([0-9a-f]{2}):([01][0-9a-f])\.0$`)

// rememberedSlot is the slot that the guest saw, if we can give it: one on the
// first bus that the board does not need for itself, or the only one behind a
// root port of q35, which is how libvirt builds machines.
func rememberedSlot(address string, c lifeboat.Chipset) (pciSlot, bool) {
	found := pciAddress.FindStringSubmatch(address)
	if found == nil {
		return pciSlot{}, false
	}
	bus, _ := strconv.ParseInt(found[1], 16, 0)
	slot, _ := strconv.ParseInt(found[2], 16, 0)
	p := pciSlot{int(bus), int(slot)}
	if p.bus == 0 {
		return p, p.slot >= 3 && p.slot < firstNICSlot+mostNICs
	}
	return p, c == lifeboat.ChipsetQ35 && p.bus <= mostPorts && p.slot == 0
}

// addRootPorts gives the board as many root ports as the slots' bus numbers
// need: firmware counts the buses behind them in the order of their addresses.
func addRootPorts(c *cmdline, plan slots) {
	last := 0
	for _, s := range plan.nics {
		last = max(last, s.bus)
	}
	for _, s := range plan.storage {
		last = max(last, s.bus)
	}
	for n := range last {
		c.device(options{"driver": "pcie-root-port", "id": fmt.Sprintf("port%d", n+1), "bus": "pcie.0", "chassis": n + 1,
			"addr": fmt.Sprintf("0x%x.%d", firstPortSlot+n/8, n%8), "multifunction": true})
	}
}
