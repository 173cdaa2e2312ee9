//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"

	lv "libvirt.org/go/libvirt"
)

// facts reads what definitions depend on.
func (h *Host) facts(ctx context.Context) (hostFacts, error) {
	return onHost(ctx, h, "read the capabilities of "+h.o.Name, func(c *lv.Connect) (hostFacts, error) {
		text, err := c.GetCapabilities()
		if err != nil {
			return hostFacts{}, err
		}
		return factsOf(text)
	})
}

// kvm says whether a machine is to run under KVM. libvirt only looks whether the
// device is there.
func (h *Host) kvm(ctx context.Context, f hostFacts, machine string) bool {
	if !f.kvm || h.o.KVM == nil || !h.local() {
		return f.kvm
	}
	usable, why := h.o.KVM(ctx)
	if !usable {
		h.note(machine, "it is defined without KVM and will be slow: "+why)
	}
	return usable
}
