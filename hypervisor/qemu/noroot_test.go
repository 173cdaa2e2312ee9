package qemu

import (
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/guests"
	"lifeboat/hypervisor"
)

// TestGuestsBootOnTheHardwareThatTheyKnow: nothing but virtio, and what VMware
// has. SATA alone is below.
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

// TestAGuestOnABusItDoesNotKnowSaysSoAndTheNextFormBoots: a guest that knows
// SATA alone, described as one on virtio.
func TestAGuestOnABusItDoesNotKnowSaysSoAndTheNextFormBoots(t *testing.T) {
	image := realGuest(t, guests.LeanSATA)
	h := newHost(t)
	image.Machine.Disks[0].Bus = lifeboat.BusVirtio
	for i, form := range hypervisor.Candidates(image.Machine, h.Abilities()) {
		image.Machine = form.Machine
		m := bootReal(t, h, image, "noroot")
		if i == 1 {
			waitSerial(t, m, "READY lean-sata uptime")
			if strings.Contains(serialText(m), "Cannot find device") {
				t.Error("it does not see its network card")
			}
			return
		}
		eventually(t, bootCeiling, "it says that it does not find its root", func() bool {
			words, err := h.NoRoot(t.Context(), m.name())
			must(t, err)
			return strings.Contains(words, "LABEL=root does not exist")
		})
		must(t, h.PowerOff(t.Context(), m.name(), 0))
		must(t, h.Remove(t.Context(), m.name()))
	}
}
