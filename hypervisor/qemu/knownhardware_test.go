package qemu

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/guests"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
)

// TestGuestsBootOnTheHardwareThatTheyKnow: nothing but virtio, and what VMware
// has. The one that knows SATA alone is booted in fixtures/whole, after a try on
// virtio. The drive of the second goes away while it reads.
func TestGuestsBootOnTheHardwareThatTheyKnow(t *testing.T) {
	for _, kind := range []guests.Kind{guests.LeanVirtio, guests.LeanVMware} {
		image := realGuest(t, kind)
		h := newHost(t)
		if c := hypervisor.Candidates(image.Machine, h.Abilities()); c[0].Why != hypervisor.AsKnown {
			t.Errorf("%s would get %s", kind, c[0].Why)
		}
		drive := driveOfImage(t, h, image.Disks["root"])
		must(t, h.Define(t.Context(), hypervisor.Definition{Machine: image.Machine, Recovery: "run-1",
			Disks:    map[string]hypervisor.Backing{"root": {NBD: &hypervisor.NBDBacking{Socket: serve(t, drive), Export: "x"}}},
			Networks: []hypervisor.Network{{Kind: hypervisor.NetworkSegment, Name: "hardware-" + string(kind)}}}))
		must(t, h.PowerOn(t.Context(), image.Machine.Name))
		m, err := h.find(image.Machine.Name)
		must(t, err)
		waitSerial(t, m, "READY "+string(kind)+" uptime")
		if words, err := h.NoRoot(t.Context(), m.name()); words != "" || err != nil {
			t.Errorf("it has found its root and is said to miss it: %q, %v", words, err)
		}
		if strings.Contains(serialText(m), "Cannot find device") {
			t.Errorf("%s does not see its network card", kind)
		}
		if kind == guests.LeanVMware {
			readsOverAGap(t, h, m, drive)
		}
		must(t, h.PowerOff(t.Context(), m.name(), 0))
	}
}

// aheadOfNeed marks, in what Linux prints of a failed read, one that nobody asked
// for yet. Linux does not try those again, and reads the blocks when somebody asks.
var aheadOfNeed = regexp.MustCompile(`\(READ\) flags 0x8[0-9a-f]{4} `)

// readsOverAGap lets a guest read its disk while the drive goes away and comes
// back: it gets the right bytes, and no read that somebody waits for fails.
func readsOverAGap(t *testing.T, h *Host, m *machine, drive *imageDrive) {
	t.Helper()
	const read = 40 << 20 // the boot partition, which nobody writes to
	sum := md5.New()
	_, err := io.Copy(sum, io.NewSectionReader(drive.file, 1<<20, read))
	must(t, err)
	line, err := net.Dial("unix", filepath.Join(m.sockets(), serialSocket))
	must(t, err)
	defer line.Close()
	go io.Copy(io.Discard, line)
	drive.leaveAt.Store(20 << 20)
	fmt.Fprintf(line, "\ndd if=/dev/sda bs=1M skip=1 count=%d iflag=direct | md5sum\n", read>>20)
	eventually(t, bootCeiling, "the machine stands", func() bool {
		power, err := m.power(t.Context())
		return err == nil && power == hypervisor.PowerPaused
	})
	drive.leaveAt.Store(0)
	must(t, h.Retry(t.Context(), m.name()))
	eventually(t, bootCeiling, "it has read the right bytes", func() bool {
		return strings.Contains(serialText(m), hex.EncodeToString(sum.Sum(nil)))
	})
	for line := range strings.Lines(serialText(m)) {
		if strings.Contains(line, "I/O error") && !aheadOfNeed.MatchString(line) {
			t.Errorf("the guest saw its disk fail: %s", line)
		}
	}
}

// imageDrive gives out an image, and is away from an offset on if it has one.
type imageDrive struct {
	file    *os.File
	size    int64
	leaveAt atomic.Int64
}

func driveOfImage(t *testing.T, h *Host, image string) *imageDrive {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "disk.raw")
	_, err := h.image(t.Context(), "convert", "-O", "raw", image, raw)
	must(t, err)
	file, err := os.Open(raw)
	must(t, err)
	t.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	must(t, err)
	return &imageDrive{file: file, size: info.Size()}
}

func (d *imageDrive) SizeBytes() int64 { return d.size }

func (d *imageDrive) ReadAt(_ context.Context, p []byte, offset int64) error {
	if at := d.leaveAt.Load(); at > 0 && offset >= at {
		return fmt.Errorf("the drive is away: %w", nbd.ENOSPC)
	}
	_, err := d.file.ReadAt(p, offset)
	return err
}

func (d *imageDrive) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return []lifeboat.Extent{within}, nil
}
