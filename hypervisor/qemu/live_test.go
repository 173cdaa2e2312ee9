package qemu

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/fixtures/guests"
	"lifeboat/hypervisor"
)

// bootCeiling is for a machine that is busy with other tests: alone a guest is
// ready in ten seconds.
const bootCeiling = 120 * time.Second

// realGuest returns a built guest, or skips where none can be built.
func realGuest(t *testing.T, kind guests.Kind) guests.Image {
	t.Helper()
	needQEMU(t)
	if testing.Short() {
		t.Skip("boots a real guest; run without -short")
	}
	for _, program := range []string{"syslinux", "mformat", "apt-get", "e2fsck", "debugfs"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing; run: build/need guests qemu", program)
		}
	}
	images, err := guests.Build(t.Context(), os.Getenv("LIFEBOAT_GUESTS"), kind)
	must(t, err)
	return images[kind]
}

// bootReal starts a guest on overlays of its image.
func bootReal(t *testing.T, h *Host, image guests.Image, segment string) *machine {
	t.Helper()
	return bootOn(t, h, image, hypervisor.Network{Kind: hypervisor.NetworkSegment, Name: segment})
}

func serialText(m *machine) string {
	text, _ := os.ReadFile(m.path(serialLogFile))
	return string(text)
}

// waitSerial waits until the guest has printed something.
func waitSerial(t *testing.T, m *machine, text string) {
	t.Helper()
	eventually(t, bootCeiling, "the guest prints "+text, func() bool { return strings.Contains(serialText(m), text) })
}

func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// written is the number of the last record that the guest says is on its disk.
func written(m *machine) int {
	last := 0
	for line := range strings.Lines(serialText(m)) {
		var n int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "WROTE %d", &n); err == nil {
			last = n
		}
	}
	return last
}

// TestARealGuestIsExportedWhileItWrites is one boot and everything that needs a
// guest: its file systems frozen for a moment, the exporter killed while they
// are, its records, and its end.
func TestARealGuestIsExportedWhileItWrites(t *testing.T) {
	image := realGuest(t, guests.LeanWriter)
	h := newHost(t)
	segment := "live " + newID()
	m := bootReal(t, h, image, segment)
	waitSerial(t, m, "READY")
	eventually(t, bootCeiling, "the guest writes", func() bool { return written(m) > 5 })

	t.Run("ItAnswersThroughItsSegment", func(t *testing.T) { reachReal(t, h, image, segment) })
	t.Run("ItsFileSystemsAreOfOneMoment", func(t *testing.T) { exportReal(t, h, m) })
	t.Run("ItWritesAgainAfterItsExporterWasKilledWhileItWasFrozen", func(t *testing.T) {
		dieAt(t, h, m.name(), "frozen", hypervisor.FreezeOptions{DriveID: "drive-a"})
		was := written(m)
		eventually(t, bootCeiling, "the guest writes again", func() bool { return written(m) > was+1 })
	})
	t.Run("ItWritesAgainAfterItsExporterHung", func(t *testing.T) {
		lock, err := m.lock(t.Context())
		must(t, err)
		defer lock.Close()
		g, err := m.startGuard(lock, nil, "")
		must(t, err)
		defer g.dismiss()
		must(t, g.tell("freeze"))
		was := written(m)
		eventually(t, bootCeiling, "the guest writes again", func() bool { return written(m) > was+1 })
	})
	t.Run("ItWritesAgainAfterItsGuardWasKilledWhileItWasFrozen", func(t *testing.T) {
		s := halfway(t, h, m.name())
		_, err := s.freezeGuest()
		must(t, err)
		if s.consistency != lifeboat.ConsistentFilesystems {
			t.Fatalf("it was not frozen: %s", s.note)
		}
		must(t, s.guard.cmd.Process.Kill())
		s.guard.cmd.Wait()
		if err := s.holdInstant(t.Context()); err == nil {
			t.Error("without its guard it is held")
		}
		was := written(m)
		must(t, s.Release(t.Context()))
		eventually(t, bootCeiling, "the guest writes again", func() bool { return written(m) > was+1 })
	})
	t.Run("ItShutsDownWhenAsked", func(t *testing.T) {
		must(t, h.PowerOff(t.Context(), m.name(), bootCeiling))
		if text := serialText(m); !strings.Contains(text, "STOPPED") {
			t.Errorf("it did not stop cleanly: %s", text)
		}
	})
}

// reachReal asks the guest for its health at its own address, from the loopback.
func reachReal(t *testing.T, h *Host, image guests.Image, segment string) {
	prefix, err := netip.ParsePrefix(image.Machine.NICs[0].Addresses[0])
	must(t, err)
	port := freePort(t)
	gateway, err := h.OpenGateway(t.Context(), hypervisor.Segment{
		Name: segment, CIDR: prefix.Masked().String(), HostAddress: image.Machine.NICs[0].Gateway,
		Forwards: []hypervisor.SegmentForward{{HostPort: port, Address: prefix.Addr().String(), GuestPort: 80}},
	})
	must(t, err)
	defer gateway.Close()
	eventually(t, bootCeiling, "the guest answers", func() bool {
		client := http.Client{Timeout: 5 * time.Second}
		answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/health", port))
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// exportReal exports the guest and looks into its file system.
func exportReal(t *testing.T, h *Host, m *machine) {
	promised := written(m)
	s, err := h.Freeze(t.Context(), m.name(), hypervisor.FreezeOptions{DriveID: "drive-a"})
	must(t, err)
	defer s.Release(context.WithoutCancel(t.Context()))
	if c, note := s.Consistency(); c != lifeboat.ConsistentFilesystems {
		t.Errorf("it is %s: %s", c, note)
	}
	t.Logf("frozen for %v, paused for %v", s.FrozenFor(), s.PausedFor())
	if s.FrozenFor() > frozenLimit {
		t.Errorf("the guest was frozen for %v", s.FrozenFor())
	}
	if nic := s.Machine().NICs[0]; len(nic.Addresses) == 0 || nic.SeenAt.IsZero() {
		t.Errorf("its addresses were not seen: %+v", nic)
	} else if nic.Gateway != "10.77.0.1" || nic.Interface != "eth0" || s.Machine().HostName != m.name() {
		t.Errorf("its names and its gateway were not seen: %+v, host name %q", nic, s.Machine().HostName)
	}
	path := writeStill(t, s, "root")
	must(t, s.Release(t.Context()))
	fs := fmt.Sprintf("%s?offset=%d", path, linuxPartition(t, path))
	if out, err := exec.Command("e2fsck", "-fn", fs).CombinedOutput(); err != nil {
		t.Errorf("the file system is not whole: %v: %s", err, out)
	}
	out, err := exec.Command("debugfs", "-R", "cat /var/lib/records", fs).Output()
	must(t, err)
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	for i, line := range lines {
		if want := fmt.Sprintf("record %024d", i+1); line != want {
			t.Fatalf("record %d reads %q", i+1, line)
		}
	}
	if len(lines) < promised {
		t.Errorf("%d records are there, and %d were promised before", len(lines), promised)
	}
}

// writeStill stores a disk of a still as a raw image with holes.
func writeStill(t *testing.T, s hypervisor.Still, key string) string {
	t.Helper()
	d, err := s.Disk(key)
	must(t, err)
	path := filepath.Join(t.TempDir(), key+".raw")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(d.SizeBytes()))
	extents, err := d.Extents(t.Context(), lifeboat.Extent{Length: d.SizeBytes()})
	must(t, err)
	buffer := make([]byte, 1<<20)
	for _, e := range extents {
		for at := e.Offset; at < e.End(); at += int64(len(buffer)) {
			part := buffer[:min(int64(len(buffer)), e.End()-at)]
			must(t, d.ReadAt(t.Context(), part, at))
			_, err := f.WriteAt(part, at)
			must(t, err)
		}
	}
	return path
}

// linuxPartition is the offset of the partition with Linux on a disk with an MBR.
func linuxPartition(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	sector := make([]byte, 512)
	_, err = f.ReadAt(sector, 0)
	must(t, err)
	for at := 446; at < 510; at += 16 {
		if sector[at+4] == 0x83 {
			return int64(binary.LittleEndian.Uint32(sector[at+8:])) * 512
		}
	}
	t.Fatal("the disk has no partition with Linux")
	return 0
}
