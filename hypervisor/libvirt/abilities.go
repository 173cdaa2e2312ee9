//go:build libvirt_dlopen && cgo

package libvirt

import (
	"lifeboat"
	"lifeboat/hypervisor"
)

// Abilities: what the contract knows, on this computer. Another computer's QEMU
// does not reach the disk servers and the segments of this one.
func (h *Host) Abilities() hypervisor.Abilities {
	return hypervisor.Abilities{
		BootNBD: h.local(), Segments: h.local(), Settle: h.local(),
		Buses: []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusSATA, lifeboat.BusIDE, lifeboat.BusVirtioSCSI,
			lifeboat.BusPVSCSI, lifeboat.BusLSISAS},
		Cards: cards,
	}
}
