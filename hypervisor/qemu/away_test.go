package qemu

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

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
			eventually(t, bootCeiling, "the machine stands", func() bool {
				power, err := found.power(t.Context())
				return err == nil && power == hypervisor.PowerPaused
			})
			drive.back.Store(true)
			must(t, h.Retry(t.Context(), "web01"))
			runs := func() bool { return strings.Contains(serialText(found), "!") }
			if bus == lifeboat.BusIDE {
				resetIfFirmwareGaveUp(t, found, runs)
			}
			eventually(t, bootCeiling, "its boot sector runs", runs)
			must(t, h.PowerOff(t.Context(), "web01", 0))
		})
	}
}

// resetIfFirmwareGaveUp resets a machine whose firmware believes that its disk
// failed. On IDE it reads without DMA, and QEMU 7.2 has the controller idle for a
// moment between a failed read and the stop of the processors: firmware that asks
// just then is told of a read that ended without data, here about one time in ten.
// Systems read with DMA, whose state says busy all the while.
func resetIfFirmwareGaveUp(t *testing.T, m *machine, runs func() bool) {
	t.Helper()
	gaveUp := func() bool { return strings.Contains(screenText(t, m), "could not read the boot disk") }
	eventually(t, bootCeiling, "its boot sector runs, or its firmware says that it cannot", func() bool { return runs() || gaveUp() })
	if runs() {
		return
	}
	t.Log("the firmware read while the controller was idle: reset")
	must(t, monitorDo(t.Context(), m, "system_reset", nil))
}

// screenText is what stands on the screen of a machine in text mode.
func screenText(t *testing.T, m *machine) string {
	t.Helper()
	var dump string
	must(t, monitorDo(t.Context(), m, "human-monitor-command", &dump, "xp /2000hx 0xb8000"))
	var text strings.Builder
	for cell := range strings.FieldsSeq(dump) {
		var value uint16
		if n, _ := fmt.Sscanf(cell, "0x%04x", &value); n == 1 {
			text.WriteByte(byte(value))
		}
	}
	return text.String()
}

// monitorDo gives a machine one command on a connection of its own.
func monitorDo(ctx context.Context, m *machine, command string, answer any, line ...string) error {
	mon, err := m.monitor(ctx, commandSocket)
	if err != nil {
		return err
	}
	defer mon.close()
	var arguments args
	if len(line) > 0 {
		arguments = args{"command-line": line[0]}
	}
	return mon.run(ctx, command, arguments, answer)
}
