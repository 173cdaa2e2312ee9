package vsphere

import (
	"context"
	"fmt"

	"lifeboat"
	"lifeboat/hypervisor"
)

// GuestPing says whether VMware Tools answer in a guest.
func (h *Host) GuestPing(ctx context.Context, machine string) error {
	f, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	if runs, why := f.toolsRun(); !runs || f.power() != hypervisor.PowerOn {
		return fmt.Errorf("%w: %s", hypervisor.ErrNoAgent, why)
	}
	return nil
}

// GuestRun answers that it cannot: VMware Tools start programs only for somebody
// who signs in to the guest, and Lifeboat keeps no passwords of guests.
func (h *Host) GuestRun(ctx context.Context, machine string, _ hypervisor.GuestCommand) (hypervisor.GuestResult, error) {
	f, err := h.find(ctx, machine)
	if err != nil {
		return hypervisor.GuestResult{}, err
	}
	return hypervisor.GuestResult{}, &lifeboat.Problem{
		What: fmt.Sprintf("host %s: no program can be started in %s: VMware Tools ask for a user and a password of the guest, and Lifeboat keeps none", h.o.Name, words(f.name())),
		Safe: "nothing was done",
		Next: "ask the service from outside (tcp, http, dns), or run the machine on a qemu or libvirt host, where the guest agent starts programs",
		Err:  hypervisor.ErrUnsupported,
	}
}
