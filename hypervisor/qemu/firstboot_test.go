package qemu

import (
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
)

func TestAFirstBootIsStartedAgainOnAFreshOverlayOnly(t *testing.T) {
	h := newHost(t)
	m := bootFromServer(t, h)
	if !m.hasFreshOverlay() {
		t.Error("an overlay that nobody wrote is not taken for fresh")
	}
	guestWrite(t, h, "web01", "root", 0, 2<<20, 0x66)
	if m.hasFreshOverlay() {
		t.Error("an overlay with data would be thrown away")
	}
	must(t, m.restartWithTCG(t.Context(), "for the test"))
	must(t, guestCheck(t.Context(), h, "web01", "root", 0, 2<<20, 0x5a))
	r, err := m.loadRunning()
	must(t, err)
	if r.Accelerator != AcceleratorTCG || r.Note == "" {
		t.Errorf("it is recorded as %+v", r)
	}
}

func TestAMachineOfProductionIsNeverStartedOnAFreshDisk(t *testing.T) {
	h := newHost(t)
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: sample("web01",
		lifeboat.Disk{Key: "root", SizeBytes: 1 << 20, Bus: lifeboat.BusVirtio})}))
	m, err := h.find("web01")
	must(t, err)
	if m.hasFreshOverlay() {
		t.Error("its disk would be made again")
	}
}
