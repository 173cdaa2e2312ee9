//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/fixtures/guests"
	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

// bootCeiling is for a machine that is busy with other tests: alone a guest is
// ready in ten seconds.
const bootCeiling = 120 * time.Second

// liveGuest is a guest of production: a domain that Lifeboat did not define.
type liveGuest struct {
	t      *testing.T
	h      *Host
	d      *domain
	serial string
}

// bootLive defines and starts a writing guest by libvirt's own means. It has a raw
// disk in the given file too.
func bootLive(t *testing.T, daemon *libvirtd.Daemon, h *Host, raw string) *liveGuest {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a real guest; run without -short")
	}
	for _, program := range []string{"syslinux", "mformat", "apt-get", "e2fsck", "debugfs"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing; run: build/need guests libvirt", program)
		}
	}
	images, err := guests.Build(t.Context(), os.Getenv("LIFEBOAT_GUESTS"), guests.LeanWriter)
	must(t, err)
	disk, serial := daemon.Dir+"/live.qcow2", daemon.Dir+"/live.log"
	_, err = runImage(t.Context(), "convert", "-O", "qcow2", images[guests.LeanWriter].Disks["root"], disk)
	must(t, err)
	define(t, daemon, `<domain type='qemu'><name>live</name><memory unit='MiB'>192</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type></os>
		<features><acpi/><tcg><tb-cache unit='MiB'>128</tb-cache></tcg></features><on_reboot>destroy</on_reboot>
		<devices>
			<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file='`+disk+`'/><target dev='vda' bus='virtio'/></disk>
			<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='`+raw+`'/><target dev='vdb' bus='virtio'/></disk>
			<interface type='user'><mac address='52:54:00:77:00:17'/><model type='virtio'/></interface>
			<serial type='pty'><log file='`+serial+`' append='off'/></serial>
			<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
			<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
			<memballoon model='none'/>
		</devices></domain>`)
	must(t, h.PowerOn(t.Context(), "live"))
	d, err := h.find(t.Context(), "live")
	must(t, err)
	forgetAtEnd(t, d)
	g := &liveGuest{t, h, d, serial}
	eventually(t, bootCeiling, "the guest is ready", func() bool { return strings.Contains(g.text(), "READY") })
	eventually(t, bootCeiling, "the guest writes", func() bool { return g.written() > 5 })
	return g
}

func (g *liveGuest) text() string {
	text, _ := os.ReadFile(g.serial)
	return string(text)
}

// written is the number of the last record that the guest says is on its disk.
func (g *liveGuest) written() int {
	last := 0
	for line := range strings.Lines(g.text()) {
		var n int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "WROTE %d", &n); err == nil {
			last = n
		}
	}
	return last
}

// writesOn fails if the guest does not write within the ten seconds of the
// promise.
func (g *liveGuest) writesOn() {
	g.t.Helper()
	was := g.written()
	eventually(g.t, bootCeiling, "the guest writes again", func() bool { return g.written() > was+1 })
}

// run carries out a command in the guest and fails if it does.
func (g *liveGuest) run(command string) {
	g.t.Helper()
	answer, err := g.d.askAgent(g.t.Context(), agentPatience, "guest-exec",
		map[string]any{"path": "/bin/sh", "arg": []string{"-c", command}, "capture-output": true})
	must(g.t, err)
	var started struct{ Pid int }
	must(g.t, json.Unmarshal(answer, &started))
	var status struct {
		Exited   bool
		Exitcode int
		Err      []byte `json:"err-data"`
	}
	eventually(g.t, bootCeiling, command, func() bool {
		answer, err := g.d.askAgent(g.t.Context(), agentPatience, "guest-exec-status", map[string]any{"pid": started.Pid})
		return err == nil && json.Unmarshal(answer, &status) == nil && status.Exited
	})
	if status.Exitcode != 0 {
		g.t.Fatalf("%s in the guest: %d %s", command, status.Exitcode, status.Err)
	}
}

// TestARealGuestIsExportedWhileItWrites is one boot and everything that needs a
// guest: its file systems frozen for a moment, what it changed, its exporter
// killed at several moments, and its scratch space full.
func TestARealGuestIsExportedWhileItWrites(t *testing.T) {
	const smallBytes = 4 << 20
	small, full := smallFileSystem(t, smallBytes), smallFileSystem(t, smallBytes)
	must(t, os.WriteFile(full+"/data.img", nil, 0o600))
	must(t, os.Truncate(full+"/data.img", diskBytes))
	daemon := libvirtd.Start(t)
	h := openHost(t, daemon)
	g := bootLive(t, daemon, h, full+"/data.img")
	var token string
	t.Run("ItsFileSystemsAreOfOneMoment", func(t *testing.T) { token = g.export(t) })
	t.Run("WhatItTrimmedIsAHoleAndNotRead", func(t *testing.T) { g.trimmed(t, token) })
	for _, at := range []string{"frozen", "held"} {
		t.Run("ItWritesOnAfterItsExporterWasKilledWhenItWas"+at, func(t *testing.T) {
			dieAt(t, h, "live", at, hypervisor.FreezeOptions{DriveID: "drive-a", Since: map[string]string{"vda": token}})
			g.writesOn()
			eventually(t, bootCeiling, "nothing is left", func() bool { return len(leftovers(t, h, "live")) == 0 })
		})
	}
	t.Run("WhatSomebodyElseFrozeStaysFrozen", func(t *testing.T) { g.frozenByOthers(t, daemon) })
	t.Run("ItWritesOnAfterItsExporterHung", func(t *testing.T) {
		lock, err := lockMachine(t.Context(), g.d.name, g.d.uuid)
		must(t, err)
		defer lock.Close()
		guard, err := g.d.startGuard(lock, guardOrder{})
		must(t, err)
		defer guard.dismiss()
		must(t, guard.tell("freeze"))
		g.writesOn()
	})
	t.Run("ItWritesOnAfterItsGuardWasKilledWhileItWasFrozen", func(t *testing.T) { g.guardKilled(t) })
	t.Run("ItGoesOnWhenItFillsTheScratchSpaceAtOnce", func(t *testing.T) { g.fillScratch(t, daemon, small) })
	t.Run("ItStaysStoppedWhereItsOwnStorageStoppedIt", func(t *testing.T) { g.fullStorage(t, daemon, full) })
	if text := g.text(); strings.Contains(text, "I/O error") || strings.Contains(text, "EXT4-fs error") {
		t.Errorf("the guest saw an error: %s", text)
	}
	if left := leftovers(t, h, "live"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// frozenByOthers exports a guest that somebody else holds frozen, and looks whether
// it still is.
func (g *liveGuest) frozenByOthers(t *testing.T, daemon *libvirtd.Daemon) {
	daemon.Virsh(t, "domfsfreeze", g.d.uuid)
	s, err := g.h.Freeze(t.Context(), "live", hypervisor.FreezeOptions{DriveID: "drive-a"})
	if err == nil {
		if c, note := s.Consistency(); c != lifeboat.ConsistentCrash || !strings.Contains(note, "somebody else") {
			t.Errorf("it is %s: %s", c, note)
		}
		err = s.Release(t.Context())
	}
	if frozen, statusErr := g.d.frozenByOthers(t.Context()); statusErr != nil || !frozen {
		t.Errorf("it is frozen: %v (%v)", frozen, statusErr)
	}
	daemon.Virsh(t, "domfsthaw", g.d.uuid)
	must(t, err)
	g.writesOn()
}

// fullStorage exports a guest that QEMU stopped because its own disk is full. To let
// it go on is for whoever makes space there.
func (g *liveGuest) fullStorage(t *testing.T, daemon *libvirtd.Daemon, full string) {
	// Its answer may come after the stop, so it is not waited for.
	_, _ = g.d.askAgent(t.Context(), agentPatience, "guest-exec", map[string]any{"path": "/bin/sh",
		"arg": []string{"-c", "dd if=/dev/urandom of=/dev/vdb bs=65536 count=128 conv=fsync"}})
	eventually(t, time.Minute, "its storage stops it", func() bool { return g.d.stoppedByDisk(t.Context()) })
	// From here on it would run if somebody let it.
	must(t, unix.Mount("lifeboat-test", full, "tmpfs", unix.MS_REMOUNT, "size=32m,mode=755"))
	s, err := g.h.Freeze(t.Context(), "live", hypervisor.FreezeOptions{DriveID: "drive-a"})
	must(t, err)
	must(t, s.Release(t.Context()))
	if !g.d.stoppedByDisk(t.Context()) {
		t.Error("the export let it go on")
	}
	daemon.Virsh(t, "resume", g.d.uuid)
	g.writesOn()
}

// export exports the guest and looks into its file system.
func (g *liveGuest) export(t *testing.T) (token string) {
	promised := g.written()
	s, err := g.h.Freeze(t.Context(), "live", hypervisor.FreezeOptions{DriveID: "drive-a"})
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
	}
	d, err := s.Disk("vda")
	must(t, err)
	token = d.Token()
	path := writeStill(t, s, "vda")
	must(t, s.Committed(t.Context()))
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
	return token
}

// trimmed fails if an export after a trim reads what the guest gave back.
func (g *liveGuest) trimmed(t *testing.T, token string) {
	g.run("fstrim / || true")
	s, err := g.h.Freeze(t.Context(), "live", hypervisor.FreezeOptions{DriveID: "drive-a", Since: map[string]string{"vda": token}})
	must(t, err)
	defer s.Release(context.WithoutCancel(t.Context()))
	d, err := s.Disk("vda")
	must(t, err)
	changed, ok, why := d.Changed(t.Context())
	if !ok {
		t.Fatalf("everything would be read: %s", why)
	}
	var said, read int64
	for _, e := range changed {
		said += e.Length
		data, err := d.Extents(t.Context(), e)
		must(t, err)
		for _, e := range data {
			read += e.Length
		}
	}
	t.Logf("of %d MiB, %d MiB are in the change list, and %d MiB of them hold data", d.SizeBytes()>>20, said>>20, read>>20)
	if read > 24<<20 {
		t.Errorf("%d MiB would be read, and the guest wrote a few", read>>20)
	}
}

// guardKilled kills the guard while the guest is frozen.
func (g *liveGuest) guardKilled(t *testing.T) {
	lock, err := lockMachine(t.Context(), g.d.name, g.d.uuid)
	must(t, err)
	s := &still{domain: g.d, lock: lock, disks: map[string]*stillDisk{}}
	s.guard, err = g.d.startGuard(lock, guardOrder{})
	must(t, err)
	s.description.Agent = true
	must(t, s.freezeGuest(hypervisor.PowerOn))
	if s.consistency != lifeboat.ConsistentFilesystems {
		t.Fatalf("it was not frozen: %s", s.note)
	}
	must(t, s.guard.cmd.Process.Kill())
	s.guard.cmd.Wait()
	if err := s.guard.tell("thaw"); err == nil {
		t.Error("a dead guard answers")
	}
	must(t, s.Release(t.Context()))
	g.writesOn()
}

// fillScratch lets the guest overwrite more at once than there is space for: with
// a reserve of nothing QEMU stops it, and it has to go on without an error.
func (g *liveGuest) fillScratch(t *testing.T, daemon *libvirtd.Daemon, small string) {
	g.run("dd if=/dev/urandom of=/root/filler bs=1M count=24 && sync")
	h := openHost(t, daemon, func(o *Options) { o.ScratchDir, o.ScratchReserveBytes = small, 1 })
	s, err := h.Freeze(t.Context(), "live", hypervisor.FreezeOptions{DriveID: "drive-b"})
	must(t, err)
	defer s.Release(context.WithoutCancel(t.Context()))
	g.run("dd if=/dev/urandom of=/root/filler bs=1M count=24 conv=notrunc && sync")
	g.writesOn()
	d, err := s.Disk("vda")
	must(t, err)
	eventually(t, bootCeiling, "the still is broken", func() bool {
		return d.ReadAt(t.Context(), make([]byte, 4096), 0) != nil
	})
	must(t, s.Release(t.Context()))
	if left := leftovers(t, h, "live"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
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
