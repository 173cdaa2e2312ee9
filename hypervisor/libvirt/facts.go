//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"

	lv "libvirt.org/go/libvirt"
)

// facts reads what definitions depend on.
func (h *Host) facts(ctx context.Context) (hostFacts, error) {
	f, err := onHost(ctx, h, "read the capabilities of "+h.o.Name, func(c *lv.Connect) (hostFacts, error) {
		text, err := c.GetCapabilities()
		if err != nil {
			return hostFacts{}, err
		}
		return factsOf(text)
	})
	if err != nil || !f.kvm || h.o.KVM == nil || !h.local() {
		return f, err
	}
	usable, why := h.o.KVM(ctx)
	if !usable {
		h.note("", "machines are defined without KVM and will be slow: "+why)
	}
	f.kvm = usable
	return f, nil
}
