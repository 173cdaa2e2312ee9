package vsphere

import (
	"context"

	"lifeboat"
	"lifeboat/hypervisor"
)

var _ hypervisor.Addresser = (*Host)(nil)

// Addresses returns the cards of a machine with what VMware Tools tell of them
// now. Without Tools it tells no address.
func (h *Host) Addresses(ctx context.Context, machine string) ([]lifeboat.NIC, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	f, err := h.find(ctx, machine)
	if err != nil {
		return nil, err
	}
	m, err := h.machine(ctx, c, f)
	if err != nil {
		return nil, err
	}
	if tools, _ := f.toolsRun(); !tools {
		// What the server remembers is of an earlier run.
		for i := range m.NICs {
			m.NICs[i].Addresses = nil
		}
	}
	return m.NICs, nil
}
