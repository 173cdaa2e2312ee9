package qemu

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
)

// sectorThatSpeaks prints a sign on the serial line and stops.
var sectorThatSpeaks = []byte{
	0xba, 0xf8, 0x03, // mov dx, 3f8h
	0xb0, '!', // mov al, '!'
	0xee,       // out dx, al
	0xf4,       // hlt
	0xeb, 0xfd, // jmp back
}

// awayDrive answers a read of the boot sector with ENOSPC, which is how a disk
// server says that its drive is away, until it is back.
type awayDrive struct{ back atomic.Bool }

func (d *awayDrive) SizeBytes() int64 { return 16 << 20 }

func (d *awayDrive) ReadAt(_ context.Context, p []byte, offset int64) error {
	if !d.back.Load() {
		return fmt.Errorf("the drive is away: %w", nbd.ENOSPC)
	}
	clear(p)
	if offset == 0 && len(p) >= 512 {
		copy(p, sectorThatSpeaks)
		p[510], p[511] = 0x55, 0xaa
	}
	return nil
}

func (d *awayDrive) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return []lifeboat.Extent{within}, nil
}

// TestAMachineStandsWhileItsDriveIsAway: the firmware sees no error, and its read
// is tried again when the drive is back. Behind pvscsi and LSI SAS, QEMU 7.2 tries
// again as well, and says then that it read too little: firmware gives up, Linux
// asks once more (see TestGuestsBootOnTheHardwareThatTheyKnow).
func TestAMachineStandsWhileItsDriveIsAway(t *testing.T) {
	for _, bus := range []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusVirtioSCSI, lifeboat.BusSATA, lifeboat.BusIDE} {
		t.Run(string(bus), func(t *testing.T) {
			h := newHost(t)
			drive := &awayDrive{}
			m := sample("web01", lifeboat.Disk{Key: "root", SizeBytes: 16 << 20, Bus: bus})
			must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m, Recovery: "run-1",
				Disks: map[string]hypervisor.Backing{"root": {NBD: &hypervisor.NBDBacking{Socket: serve(t, drive), Export: "x"}}}}))
			must(t, h.PowerOn(t.Context(), "web01"))
			found, err := h.find("web01")
			must(t, err)
			eventually(t, 30*time.Second, "the machine stands", func() bool {
				power, err := found.power(t.Context())
				return err == nil && power == hypervisor.PowerPaused
			})
			drive.back.Store(true)
			must(t, h.Retry(t.Context(), "web01"))
			eventually(t, 30*time.Second, "its boot sector runs", func() bool { return strings.Contains(serialText(found), "!") })
			must(t, h.PowerOff(t.Context(), "web01", 0))
		})
	}
}
