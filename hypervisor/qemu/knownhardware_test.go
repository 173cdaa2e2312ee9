package qemu

import (
	"strings"
	"testing"

	"lifeboat/fixtures/guests"
	"lifeboat/hypervisor"
)

// TestGuestsBootOnTheHardwareThatTheyKnow: nothing but virtio, and what VMware
// has. The one that knows SATA alone is booted in fixtures/whole, after a try on
// virtio.
func TestGuestsBootOnTheHardwareThatTheyKnow(t *testing.T) {
	for _, kind := range []guests.Kind{guests.LeanVirtio, guests.LeanVMware} {
		image := realGuest(t, kind)
		h := newHost(t)
		if c := hypervisor.Candidates(image.Machine, h.Abilities()); c[0].Why != "as its system knows it" {
			t.Errorf("%s would get %s", kind, c[0].Why)
		}
		m := bootReal(t, h, image, "hardware-"+string(kind))
		waitSerial(t, m, "READY "+string(kind)+" uptime")
		if words, err := h.NoRoot(t.Context(), m.name()); words != "" || err != nil {
			t.Errorf("it has found its root and is said to miss it: %q, %v", words, err)
		}
		if bad := strings.Contains(serialText(m), "Cannot find device"); bad {
			t.Errorf("%s does not see its network card", kind)
		}
		must(t, h.PowerOff(t.Context(), m.name(), 0))
	}
}
