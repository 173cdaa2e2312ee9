package qemu

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

func nic(i int) lifeboat.NIC {
	models := []string{"virtio", "e1000", "e1000e", "rtl8139", "vmxnet3"}
	return lifeboat.NIC{MAC: "52:54:00:aa:bb:0" + string(rune('0'+i)), Model: models[i%len(models)]}
}

func TestAUEFIMachineKeepsItsVariables(t *testing.T) {
	if len(installedFirmware(firmwareDirs)) == 0 {
		t.Skip("UEFI firmware is missing: apt-get install ovmf")
	}
	h := newHost(t)
	m := sample("efi")
	m.Firmware.Kind = lifeboat.FirmwareUEFI
	defineAndStart(t, h, m)
	s, err := h.Freeze(t.Context(), "efi", hypervisor.FreezeOptions{})
	must(t, err)
	exported := s.Machine()
	must(t, s.Release(t.Context()))
	if len(exported.Firmware.NVRAM) < 64<<10 {
		t.Fatalf("%d bytes of variables were exported", len(exported.Firmware.NVRAM))
	}
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: exported, Name: "efi again"}))
	again, err := h.find("efi again")
	must(t, err)
	got, err := again.readNVRAM()
	must(t, err)
	if !bytes.Equal(got, exported.Firmware.NVRAM) {
		t.Error("the variables are others")
	}
	must(t, h.PowerOn(t.Context(), "efi again"))
}

func TestAScreenshotIsAPicture(t *testing.T) {
	h := newHost(t)
	defineAndStart(t, h, sample("web01"))
	data, err := h.Screenshot(t.Context(), "web01")
	must(t, err)
	picture, err := png.Decode(bytes.NewReader(data))
	must(t, err)
	if picture.Bounds().Empty() {
		t.Error("it is empty")
	}
	console, err := h.Console(t.Context(), "web01")
	must(t, err)
	for _, path := range []string{console.VNCSocket, console.SerialSocket, console.SerialLog} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestARawDiskIsReadWholeAndOfItsExactSize(t *testing.T) {
	h := newHost(t)
	path := filepath.Join(t.TempDir(), "disk.raw")
	must(t, os.WriteFile(path, bytes.Repeat([]byte{0x77}, 1<<20+512), 0o600))
	m := sample("raw", lifeboat.Disk{Key: "root", SizeBytes: 1<<20 + 512, Bus: lifeboat.BusVirtio})
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m,
		Disks: map[string]hypervisor.Backing{"root": {File: &hypervisor.FileBacking{Path: path, Format: "raw"}}}}))
	look := func() {
		t.Helper()
		s, err := h.Freeze(t.Context(), "raw", hypervisor.FreezeOptions{DriveID: "d", Since: map[string]string{"root": "qemu1:x:1"}})
		must(t, err)
		defer s.Release(t.Context())
		d, err := s.Disk("root")
		must(t, err)
		if _, ok, why := d.Changed(t.Context()); ok || why != whyRaw || d.Token() != "" {
			t.Errorf("changes %v (%q), token %q", ok, why, d.Token())
		}
		got := make([]byte, 1<<20+512)
		must(t, d.ReadAt(t.Context(), got, 0))
		if d.SizeBytes() != 1<<20+512 || !bytes.Equal(got, bytes.Repeat([]byte{0x77}, len(got))) {
			t.Error("it is not the disk")
		}
	}
	look()
	must(t, h.PowerOn(t.Context(), "raw"))
	look()
	must(t, h.PowerOff(t.Context(), "raw", 0))
	must(t, h.Remove(t.Context(), "raw"))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("Remove took a disk that Lifeboat did not make: %v", err)
	}
}

func TestAStillBreaksBeforeScratchFillsTheFileSystem(t *testing.T) {
	h := newHost(t, func(o *Options) { o.ScratchReserveBytes = 1 << 60 })
	defineAndStart(t, h, sample("web01"))
	s, err := h.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "d"})
	must(t, err)
	d, err := s.Disk("root")
	must(t, err)
	eventually(t, bootCeiling, "the still breaks", func() bool {
		err = d.ReadAt(t.Context(), make([]byte, 512), 0)
		return err != nil
	})
	if !errors.Is(err, hypervisor.ErrStillBroken) || !strings.Contains(err.Error(), "scratch space") {
		t.Errorf("reading gives %v", err)
	}
	must(t, s.Release(t.Context()))
	guestWrite(t, h, "web01", "root", 0, 4096, 1)
}

func TestAScratchFolderOfSomebodyElseIsNotUsed(t *testing.T) {
	scratch := t.TempDir()
	h := newHost(t, func(o *Options) { o.ScratchDir = scratch })
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: sample("web01")}))
	m, err := h.find("web01")
	must(t, err)
	elsewhere := t.TempDir()
	for what, make := range map[string]func() error{
		"a folder where others can write": func() error {
			return errors.Join(os.Mkdir(m.scratchDir(), 0o700), os.Chmod(m.scratchDir(), 0o777))
		},
		"a link": func() error { return os.Symlink(elsewhere, m.scratchDir()) },
		"a folder of another user": func() error {
			if os.Geteuid() != 0 {
				t.Log("a folder of another user needs root: run the tests as root")
				return errors.Join(os.Mkdir(m.scratchDir(), 0o700), os.Chmod(m.scratchDir(), 0o777))
			}
			return errors.Join(os.Mkdir(m.scratchDir(), 0o700), os.Chown(m.scratchDir(), 12345, -1))
		},
	} {
		must(t, make())
		if err := m.makeScratch(); err == nil {
			t.Errorf("%s is used", what)
		}
		must(t, m.removeScratch())
	}
	must(t, m.makeScratch())
	must(t, m.removeScratch())
}

func TestAGuestThatDoesNothingIsSeen(t *testing.T) {
	h := newHost(t)
	busy, idle := sample("busy"), sample("idle")
	idle.Disks = nil // firmware has nothing to read, and prints nothing
	for _, m := range []lifeboat.Machine{busy, idle} {
		defineAndStart(t, h, m)
	}
	m, err := h.find("busy")
	must(t, err)
	eventually(t, bootCeiling, "firmware reads the disk", func() bool { return m.hasRead(t.Context()) })
	if m.stuck(t.Context(), time.Second) {
		t.Error("a guest that read its disk counts as stuck")
	}
	m, err = h.find("idle")
	must(t, err)
	if !m.stuck(t.Context(), time.Second) {
		t.Error("a guest that does nothing counts as alive")
	}
}

func TestADiskServerThatIsNotThereIsToldInWords(t *testing.T) {
	h := newHost(t)
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: sample("web01"), Recovery: "run",
		Disks: map[string]hypervisor.Backing{"root": {NBD: &hypervisor.NBDBacking{Socket: filepath.Join(t.TempDir(), "none"), Export: "x"}}}}))
	err := h.PowerOn(t.Context(), "web01")
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.What, "disk server") || p.Safe == "" || p.Next == "" {
		t.Errorf("the operator reads %v", err)
	}
}

func TestNoSpaceForTheOverlayIsToldInWords(t *testing.T) {
	dir := smallFileSystem(t, 1<<20)
	h := newHost(t, func(o *Options) { o.Dir = dir })
	err := h.Define(t.Context(), hypervisor.Definition{Machine: sample("web01")})
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.What, "no space") || p.Safe == "" || p.Next == "" {
		t.Errorf("the operator reads %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCheckSaysWhatWorksWithoutChangingAnything(t *testing.T) {
	h := newHost(t)
	found := map[string]bool{}
	for _, f := range h.Check(t.Context()) {
		t.Logf("%-22s %-5v %s", f.What, f.OK, f.Detail)
		found[f.What] = true
		if f.Detail == "" {
			t.Errorf("%s says nothing", f.What)
		}
	}
	for _, what := range []string{"qemu-system-x86_64", "KVM", "UEFI firmware", "free memory", "space for machines", "machines"} {
		if !found[what] {
			t.Errorf("nothing is said of %s", what)
		}
	}
}

func TestAnAnswerToSomebodyElseIsNotTaken(t *testing.T) {
	h := newHost(t)
	defineAndStart(t, h, sample("web01"))
	for range 30 {
		// Hang up with a command under way, and ask at once.
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_ = guestDo(ctx, h, "web01", "root", "write -P 1 0 1M")
		list, err := h.List(t.Context())
		must(t, err)
		if list[0].Power != hypervisor.PowerOn {
			t.Fatalf("it is %s", list[0].Power)
		}
	}
}
