package qemu

import (
	"bytes"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
)

func TestAMachineOnAnyBusIsHeldStillWhileItsGuestWrites(t *testing.T) {
	for _, bus := range []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusVirtioSCSI, lifeboat.BusSATA, lifeboat.BusIDE, lifeboat.BusNVMe} {
		t.Run(string(bus), func(t *testing.T) {
			h := newHost(t)
			defineAndStart(t, h, sample("web 01 ä", lifeboat.Disk{Key: "root", SizeBytes: 16 << 20, Bus: bus}))
			guestWrite(t, h, "web 01 ä", "root", 1<<20, 128<<10, 0xaa)
			s, err := h.Freeze(t.Context(), "web 01 ä", hypervisor.FreezeOptions{DriveID: "d1"})
			must(t, err)
			guestWrite(t, h, "web 01 ä", "root", 1<<20, 64<<10, 0xbb)
			d, err := s.Disk("root")
			must(t, err)
			got := make([]byte, 128<<10)
			must(t, d.ReadAt(t.Context(), got, 1<<20))
			if !bytes.Equal(got, bytes.Repeat([]byte{0xaa}, len(got))) {
				t.Error("the still shows what was written after it")
			}
			t.Logf("paused for %v", s.PausedFor())
			must(t, s.Release(t.Context()))
			must(t, s.Release(t.Context()))
			must(t, guestCheck(t.Context(), h, "web 01 ä", "root", 1<<20, 64<<10, 0xbb))
		})
	}
}
