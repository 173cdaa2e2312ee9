package qemu

import (
	"context"
	"os/exec"
	"regexp"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// The buses and cards that QEMU has, best for an unknown guest first.
var (
	allBuses = []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusSATA, lifeboat.BusIDE, lifeboat.BusVirtioSCSI,
		lifeboat.BusNVMe, lifeboat.BusPVSCSI, lifeboat.BusLSISAS}
	allCards = []string{"virtio", "e1000e", "e1000", "rtl8139", "vmxnet3"}
)

// Abilities: everything that the contract knows, on the hardware that this QEMU
// was built with. Red Hat's lacks most of what is not virtio.
func (h *Host) Abilities() hypervisor.Abilities {
	a := hypervisor.Abilities{BootNBD: true, Segments: true, Labs: true, Settle: true, Buses: slices.Clone(allBuses), Cards: slices.Clone(allCards)}
	has := h.devices()
	if len(has) == 0 {
		return a // QEMU is missing, and whoever starts a machine says so
	}
	a.Buses = slices.DeleteFunc(a.Buses, func(b lifeboat.Bus) bool { return !has[busDevices[b]] })
	a.Cards = slices.DeleteFunc(a.Cards, func(c string) bool { return !has[nicDevices[c]] })
	return a
}

// busDevices are the devices that disks on a bus need.
var busDevices = map[lifeboat.Bus]string{
	lifeboat.BusVirtio: "virtio-blk-pci", lifeboat.BusSATA: "ich9-ahci", lifeboat.BusIDE: "ide-hd", lifeboat.BusVirtioSCSI: "virtio-scsi-pci",
	lifeboat.BusNVMe: "nvme", lifeboat.BusPVSCSI: "pvscsi", lifeboat.BusLSISAS: "mptsas1068",
}

var deviceName = regexp.MustCompile(`(?m)^name "([^"]+)"`)

// devicesOf returns the names in what QEMU prints of its devices.
func devicesOf(list []byte) map[string]bool {
	names := map[string]bool{}
	for _, found := range deviceName.FindAllSubmatch(list, -1) {
		names[string(found[1])] = true
	}
	return names
}

// deviceLimit bounds how long QEMU may take to list its devices.
const deviceLimit = 10 * time.Second

// listDevices asks QEMU for its devices; none means that it could not be asked.
func (h *Host) listDevices() map[string]bool {
	binary, err := h.program()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), deviceLimit)
	defer cancel()
	list, err := exec.CommandContext(ctx, binary, "-device", "help").Output()
	if err != nil {
		return nil
	}
	return devicesOf(list)
}

// serialTail is how much of the serial line is looked at.
const serialTail = 64 << 10

// NoRoot reads what the machine printed on its serial line.
func (h *Host) NoRoot(ctx context.Context, machine string) (string, error) {
	text, err := h.Printed(ctx, machine, serialTail)
	return hypervisor.NoRootIn(text), err
}

// Close has nothing to end: this host has no daemon.
func (h *Host) Close() error { return nil }
