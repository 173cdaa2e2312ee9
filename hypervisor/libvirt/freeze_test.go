//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	lv "libvirt.org/go/libvirt"

	"lifeboat"
	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

// production is a machine that Lifeboat did not define: a qcow2 disk vda, a raw
// disk vdb, and an empty drive for media.
type production struct {
	t      *testing.T
	daemon *libvirtd.Daemon
	h      *Host
	d      *domain
	guest  standIn
}

const diskBytes = 16 << 20

// startProduction starts it. More goes into the qcow2 disk's driver element.
func startProduction(t *testing.T, daemon *libvirtd.Daemon, h *Host, name, more string) *production {
	t.Helper()
	dir, err := os.MkdirTemp(daemon.Dir, "prod-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	for file, format := range map[string]string{"root.qcow2": "qcow2", "data.img": "raw"} {
		_, err := runImage(t.Context(), "create", "-q", "-f", format, dir+"/"+file, fmt.Sprint(diskBytes))
		must(t, err)
	}
	define(t, daemon, `<domain type='qemu'><name>`+name+`</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
		<disk type='file' device='disk'><driver name='qemu' type='qcow2' `+more+`/><source file='`+dir+`/root.qcow2'/><target dev='vda' bus='virtio'/></disk>
		<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='`+dir+`/data.img'/><target dev='vdb' bus='virtio'/></disk>
		<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
		</devices></domain>`)
	must(t, h.PowerOn(t.Context(), name))
	d, err := h.find(t.Context(), name)
	must(t, err)
	forgetAtEnd(t, d)
	return &production{t, daemon, h, d, standIn{h, openFolder(t, daemon.Dir)}}
}

// forgetAtEnd removes a machine that Lifeboat did not define when the test ends.
func forgetAtEnd(t testing.TB, d *domain) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := d.h.PowerOff(ctx, d.uuid, 0)
		err = errors.Join(err, d.do(ctx, "forget it", func(dom *lv.Domain) error {
			return dom.UndefineFlags(lv.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | lv.DOMAIN_UNDEFINE_NVRAM)
		}))
		if err != nil {
			t.Errorf("remove %s: %v", d.name, err)
		}
	})
}

// freeze holds the machine still until the test ends.
func (p *production) freeze(t *testing.T, drive, since string) *still {
	t.Helper()
	o := hypervisor.FreezeOptions{DriveID: drive}
	if since != "" {
		o.Since = map[string]string{"vda": since}
	}
	s, err := p.h.Freeze(t.Context(), p.d.uuid, o)
	must(t, err)
	t.Cleanup(func() { s.Release(context.Background()) })
	return s.(*still)
}

// commit makes an export that ends well.
func (p *production) commit(t *testing.T, drive, since string) (token string) {
	t.Helper()
	s := p.freeze(t, drive, since)
	token = s.disks["vda"].Token()
	must(t, s.Committed(t.Context()))
	must(t, s.Release(t.Context()))
	return token
}

func (p *production) write(t *testing.T, offset, length int64) {
	t.Helper()
	must(t, p.guest.Write(t.Context(), p.d.uuid, "vda", offset, length, 0x77))
}

// knows fails unless the changes since a token are known and hold an offset.
func (p *production) knows(t *testing.T, drive, since string, offset int64) {
	t.Helper()
	s := p.freeze(t, drive, since)
	changed, ok, why := s.disks["vda"].Changed(t.Context())
	if !ok {
		t.Errorf("everything would be read: %s", why)
	}
	if !slices.ContainsFunc(changed, func(e lifeboat.Extent) bool { return e.Offset <= offset && offset < e.End() }) {
		t.Errorf("byte %d was written and is not in %v", offset, changed)
	}
	must(t, s.Release(t.Context()))
}

// readsAll fails unless everything is read, for the given reason.
func (p *production) readsAll(t *testing.T, drive, since, want string) {
	t.Helper()
	s := p.freeze(t, drive, since)
	if changed, ok, why := s.disks["vda"].Changed(t.Context()); ok || why != want {
		t.Errorf("changes %v, why %q, want %q", changed, why, want)
	}
	must(t, s.Release(t.Context()))
}

func (p *production) checkpoints(t *testing.T) []string {
	t.Helper()
	var names []string
	for name := range strings.FieldsSeq(p.daemon.Virsh(t, "checkpoint-list", p.d.uuid, "--name")) {
		names = append(names, name)
	}
	return names
}

// TestExportsOfProduction are the ways in which others and accidents come between
// an export and its machine, on one daemon.
func TestExportsOfProduction(t *testing.T) {
	daemon := libvirtd.Start(t)
	h := openHost(t, daemon)
	p := startProduction(t, daemon, h, "web01", "")
	for _, test := range []struct {
		name string
		run  func(*testing.T, *production)
	}{
		{"ARawDiskIsReadWholeBesideOneThatTracks", testRaw},
		{"AnotherProgramsBackupIsLeftAlone", testForeignJob},
		{"AnotherComputersExportIsLeftAlone", testOtherComputer},
		{"AJobThatIsAbortedFromOutsideBreaksTheStill", testAborted},
		{"WhatLibvirtLostIsToldAgain", testLost},
		{"CheckpointsThatNobodyNeedsAreFoundInTheNotesAndGo", testOrphans},
		{"ACheckpointWithoutOneOfItsBitmapsGoesWhole", testTornCheckpoint},
		{"NineDrivesLeaveEightCheckpoints", testNineDrives},
		{"WhatADeadExporterAndItsDeadGuardLeftGoesWithTheNext", testDeadGuard},
		{"AnExporterThatDiedAfterItsPointNeedsNoFullRead", testDiedCommitted},
		{"AJobThatBeginsAfterItsExporterGaveUpIsEnded", testLateJob},
		{"APausedMachineStaysPaused", testPaused},
		{"AnotherWayOfReadingIsRefused", testMethod},
		{"NotesThatCannotBeKeptCostNoExport", testNoNotes},
		{"ABlockDeviceIsReadWhole", testBlockDevice},
		{"AMachineWithInternalSnapshotsIsNotTrackedAndGoesBackToThem", testSnapshots},
		{"AHostThatIsNotToBeTrackedLosesItsCheckpoints", testNoTracking},
		{"TheJobOutlivesARestartOfLibvirtd", testRestart},
		{"AResizedDiskIsReadWhole", testResized},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, p)
			if left := leftovers(t, p.h, p.d.uuid); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func testRaw(t *testing.T, p *production) {
	must(t, p.guest.Write(t.Context(), p.d.uuid, "vdb", 0, 4096, 0x12))
	s := p.freeze(t, "drive-a", "")
	if len(s.Machine().Disks) != 2 {
		t.Errorf("it has the disks %+v", s.Machine().Disks)
	}
	raw, err := s.Disk("vdb")
	must(t, err)
	if _, ok, why := raw.Changed(t.Context()); ok || why != whyRaw || raw.Token() != "" {
		t.Errorf("the raw disk tracks: %v, %q, %q", ok, why, raw.Token())
	}
	got := make([]byte, 4096)
	must(t, raw.ReadAt(t.Context(), got, 0))
	if got[0] != 0x12 || got[4095] != 0x12 {
		t.Errorf("it reads 0x%02x", got[0])
	}
	if s.disks["vda"].Token() == "" {
		t.Error("the other disk does not track")
	}
	must(t, s.Release(t.Context()))
}

// wantBusy fails unless a machine cannot be held, with the words.
func wantBusy(t *testing.T, p *production, words string) {
	t.Helper()
	_, err := p.h.Freeze(t.Context(), p.d.uuid, hypervisor.FreezeOptions{DriveID: "drive-a"})
	if !errors.Is(err, hypervisor.ErrMachineBusy) || !strings.Contains(err.Error(), words) {
		t.Errorf("holding it gives %v, not %q", err, words)
	}
}

// foreign begins a backup job behind our back, with its socket at the path.
func foreign(t *testing.T, p *production, socket string) {
	t.Helper()
	text := `<domainbackup mode='pull'><server transport='unix' socket='` + socket + `'/><disks>
		<disk name='vda' backup='yes' type='file'><driver type='qcow2'/><scratch file='` + p.guest.dir + `/other.scratch'/></disk>
		<disk name='vdb' backup='no'/><disk name='sda' backup='no'/></disks></domainbackup>`
	must(t, p.d.do(t.Context(), "begin a job", func(dom *lv.Domain) error { return dom.BackupBegin(text, "", 0) }))
}

func testForeignJob(t *testing.T, p *production) {
	foreign(t, p, p.guest.dir+"/other.sock")
	wantBusy(t, p, "another program")
	if _, there, err := p.d.backupSocket(t.Context()); err != nil || !there {
		t.Errorf("the other job is gone (%v)", err)
	}
	must(t, p.d.abortJob(t.Context()))
	eventually(t, jobPatience, "it ended", func() bool { _, there, _ := p.d.backupSocket(t.Context()); return !there })
}

func testOtherComputer(t *testing.T, p *production) {
	dir := p.guest.dir + "/" + folderName(p.d.uuid, "0badcafe")
	must(t, os.Mkdir(dir, 0o777))
	must(t, os.Chmod(dir, 0o777))
	foreign(t, p, dir+"/"+socketName)
	wantBusy(t, p, "another computer (mark 0badcafe)")
	must(t, p.d.abortJob(t.Context()))
	eventually(t, jobPatience, "it ended", func() bool { _, there, _ := p.d.backupSocket(t.Context()); return !there })
}

func testAborted(t *testing.T, p *production) {
	s := p.freeze(t, "drive-a", "")
	p.daemon.Virsh(t, "domjobabort", p.d.uuid)
	var err error
	eventually(t, jobPatience, "reading fails", func() bool {
		err = s.disks["vda"].ReadAt(t.Context(), make([]byte, 512), 0)
		return err != nil
	})
	if !errors.Is(err, hypervisor.ErrStillBroken) {
		t.Errorf("reading it gives %v", err)
	}
	must(t, s.Release(t.Context()))
}

func testLost(t *testing.T, p *production) {
	token := p.commit(t, "drive-a", "")
	other := p.commit(t, "drive-b", "")
	p.write(t, 1<<20, 4096)
	for _, name := range p.checkpoints(t) {
		p.daemon.Virsh(t, "checkpoint-delete", "--metadata", p.d.uuid, name)
	}
	p.knows(t, "drive-a", token, 1<<20)
	// Without notes the point's own token says what there was.
	for _, name := range p.checkpoints(t) {
		p.daemon.Virsh(t, "checkpoint-delete", "--metadata", p.d.uuid, name)
	}
	p.h.o.Notes.(*memoryNotes).kept = nil
	p.knows(t, "drive-b", other, 1<<20)
	p.knows(t, "drive-a", token, 1<<20)
	p.readsAll(t, "drive-b", "libvirt1:"+p.d.uuid+":lifeboat-driveb-0000000000-00000000:16777216", whyUnknown)
}

func testOrphans(t *testing.T, p *production) {
	p.commit(t, "drive-a", "")
	for _, name := range p.checkpoints(t) {
		p.daemon.Virsh(t, "checkpoint-delete", "--metadata", p.d.uuid, name)
	}
	// leftovers looks into QEMU for bitmaps of nobody.
	p.commit(t, "drive-a", "")
}

func testTornCheckpoint(t *testing.T, p *production) {
	token := p.commit(t, "drive-a", "")
	name, _, _ := parseToken(token, p.d.uuid)
	must(t, p.d.do(t.Context(), "take a bitmap away", func(dom *lv.Domain) error {
		node, err := nodeOf(dom, "/machine/peripheral/virtio-disk0/virtio-backend")
		if err != nil {
			return err
		}
		return qmp(dom, "block-dirty-bitmap-remove", map[string]any{"node": node, "name": name}, nil)
	}))
	p.readsAll(t, "drive-a", token, whyBroken)
	if slices.Contains(p.checkpoints(t), name) {
		t.Error("the torn checkpoint is still there")
	}
}

func testNineDrives(t *testing.T, p *production) {
	if os.Getenv("LIFEBOAT_SOAK") == "" {
		t.Skip("ten exports: set LIFEBOAT_SOAK=1; the rule itself is TestNeverMoreCheckpointsThanDrives")
	}
	first := p.commit(t, "drive-0", "")
	time.Sleep(time.Second) // names are as old as their second
	for i := 1; i <= mostDrives; i++ {
		p.commit(t, fmt.Sprintf("drive-%d", i), "")
	}
	if have := p.checkpoints(t); len(have) != mostDrives {
		t.Errorf("there are %v", have)
	}
	p.readsAll(t, "drive-0", first, whyUnknown)
}

func testDeadGuard(t *testing.T, p *production) {
	s := p.freeze(t, "drive-a", "")
	must(t, s.guard.cmd.Process.Kill())
	s.guard.cmd.Wait()
	s.stopWatch()
	s.released = true // as if we had died
	s.lock.Close()
	if len(leftovers(t, p.h, p.d.uuid)) == 0 {
		t.Fatal("nothing was left, so nothing is shown")
	}
	must(t, p.freeze(t, "drive-a", "").Release(t.Context()))
}

func testDiedCommitted(t *testing.T, p *production) {
	token := p.commit(t, "drive-a", "")
	s := p.freeze(t, "drive-a", token)
	fresh := s.disks["vda"].Token()
	must(t, s.Committed(t.Context()))
	s.stopWatch()
	s.released = true
	s.lock.Close()
	s.guard.abandon()
	if left := leftovers(t, p.h, p.d.uuid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	p.write(t, 3<<20, 4096)
	p.knows(t, "drive-a", fresh, 3<<20)
}

func testPaused(t *testing.T, p *production) {
	p.daemon.Virsh(t, "suspend", p.d.uuid)
	s := p.freeze(t, "drive-a", "")
	if c, note := s.Consistency(); c != lifeboat.ConsistentCrash || !strings.Contains(note, "paused") {
		t.Errorf("it is %s (%s)", c, note)
	}
	must(t, s.disks["vda"].ReadAt(t.Context(), make([]byte, 4096), 0))
	must(t, s.Release(t.Context()))
	if power, err := p.d.power(t.Context()); err != nil || power != hypervisor.PowerPaused {
		t.Errorf("it is %s (%v)", power, err)
	}
	p.daemon.Virsh(t, "resume", p.d.uuid)
}

// fullNotes keep nothing.
type fullNotes struct{}

func (fullNotes) Note(context.Context, string, string) ([]byte, error) { return nil, nil }
func (fullNotes) SetNote(context.Context, string, string, []byte) error {
	return errors.New("no space left")
}

func testNoNotes(t *testing.T, p *production) {
	kept := p.h.o.Notes
	defer func() { p.h.o.Notes = kept }()
	p.h.o.Notes = fullNotes{}
	token := p.commit(t, "drive-a", "")
	p.write(t, 4<<20, 4096)
	p.knows(t, "drive-a", token, 4<<20)
}

func testMethod(t *testing.T, p *production) {
	if _, err := p.h.Freeze(t.Context(), p.d.uuid, hypervisor.FreezeOptions{Method: "nfc"}); !errors.Is(err, hypervisor.ErrUnsupported) {
		t.Errorf("an unknown method gives %v", err)
	}
}

func testRestart(t *testing.T, p *production) {
	p.write(t, 0, 1<<20)
	token := p.commit(t, "drive-a", "")
	p.write(t, 2<<20, 4096)
	s := p.freeze(t, "drive-a", token)
	p.daemon.Kill(t)
	p.daemon.Again(t)
	p.write(t, 0, 1<<20) // the same bytes: what is read may not tell the two apart
	must(t, p.guest.Write(t.Context(), p.d.uuid, "vda", 0, 1<<20, 0x99))
	got := make([]byte, 1<<20)
	if err := s.disks["vda"].ReadAt(t.Context(), got, 0); err != nil {
		if !errors.Is(err, hypervisor.ErrStillBroken) {
			t.Errorf("reading it gives %v", err)
		}
	} else if i := slices.IndexFunc(got, func(b byte) bool { return b != 0x77 }); i >= 0 {
		t.Errorf("byte %d is 0x%02x", i, got[i])
	}
	must(t, s.Release(t.Context()))
	p.knows(t, "drive-a", token, 2<<20)
}

func testResized(t *testing.T, p *production) {
	token := p.commit(t, "drive-a", "")
	p.daemon.Virsh(t, "blockresize", p.d.uuid, "vda", "24M")
	p.readsAll(t, "drive-a", token, whyResized)
	s := p.freeze(t, "drive-a", "")
	if size := s.disks["vda"].SizeBytes(); size != 24<<20 {
		t.Errorf("it has %d bytes", size)
	}
	must(t, s.Release(t.Context()))
}

// Somebody who renames two images exchanges the disks: what is counted for one
// says nothing of the other.
func TestTwoDisksThatWereExchangedAreReadWhole(t *testing.T) {
	daemon := libvirtd.Start(t)
	h := openHost(t, daemon)
	dir := openFolder(t, daemon.Dir)
	xml := `<domain type='qemu'><name>twins</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>`
	for _, target := range []string{"vda", "vdb"} {
		_, err := runImage(t.Context(), "create", "-q", "-f", "qcow2", dir+"/"+target, fmt.Sprint(diskBytes))
		must(t, err)
		xml += `<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='` + dir + "/" + target + `'/><target dev='` + target + `' bus='virtio'/></disk>`
	}
	define(t, daemon, xml+`</devices></domain>`)
	d, err := h.find(t.Context(), "twins")
	must(t, err)
	forgetAtEnd(t, d)
	guest := standIn{h, dir}
	must(t, h.PowerOn(t.Context(), "twins"))
	for i, target := range []string{"vda", "vdb"} {
		must(t, guest.Write(t.Context(), "twins", target, 0, 64<<10, byte(0x41+i)))
	}
	tokens := map[string]string{}
	s, err := h.Freeze(t.Context(), "twins", hypervisor.FreezeOptions{DriveID: "drive-a"})
	must(t, err)
	for _, target := range []string{"vda", "vdb"} {
		disk, err := s.Disk(target)
		must(t, err)
		tokens[target] = disk.Token()
	}
	must(t, s.Committed(t.Context()))
	must(t, s.Release(t.Context()))
	must(t, h.PowerOff(t.Context(), "twins", 0))
	must(t, os.Rename(dir+"/vda", dir+"/x"))
	must(t, os.Rename(dir+"/vdb", dir+"/vda"))
	must(t, os.Rename(dir+"/x", dir+"/vdb"))
	must(t, h.PowerOn(t.Context(), "twins"))
	for _, on := range []bool{true, false} {
		if !on {
			must(t, h.PowerOff(t.Context(), "twins", 0))
		}
		s, err := h.Freeze(t.Context(), "twins", hypervisor.FreezeOptions{DriveID: "drive-a", Since: tokens})
		must(t, err)
		for i, target := range []string{"vda", "vdb"} {
			disk, err := s.Disk(target)
			must(t, err)
			if changed, ok, _ := disk.Changed(t.Context()); ok {
				t.Errorf("running %v: it claims to know the changes of %s: %v", on, target, changed)
			}
			got := make([]byte, 512)
			if must(t, disk.ReadAt(t.Context(), got, 0)); got[0] != byte(0x42-i) {
				t.Errorf("%s begins with 0x%02x", target, got[0])
			}
		}
		must(t, s.Release(t.Context()))
		if left := leftovers(t, h, "twins"); len(left) > 0 {
			t.Errorf("running %v: left behind: %v", on, left)
		}
	}
}

// Many machines have a channel for an agent, and no agent in the guest.
func TestAMachineWhoseAgentIsNotThereIsExportedAsIfItsPowerHadBeenCut(t *testing.T) {
	daemon := libvirtd.Start(t)
	makePool(t, daemon)
	h, err := Open(Options{Name: "lab", URI: daemon.URI})
	must(t, err)
	t.Cleanup(func() { h.Close() })
	image := daemon.Dir + "/silent.qcow2"
	_, err = runImage(t.Context(), "create", "-q", "-f", "qcow2", image, fmt.Sprint(diskBytes))
	must(t, err)
	define(t, daemon, `<domain type='qemu'><name>silent</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
		<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='`+image+`'/><target dev='vda' bus='virtio'/></disk>
		<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>`)
	must(t, h.PowerOn(t.Context(), "silent"))
	d, err := h.find(t.Context(), "silent")
	must(t, err)
	forgetAtEnd(t, d)
	for range 2 {
		began := time.Now()
		s, err := h.Freeze(t.Context(), "silent", hypervisor.FreezeOptions{DriveID: "drive-a"})
		must(t, err)
		if c, note := s.Consistency(); c != lifeboat.ConsistentCrash || !strings.Contains(note, "agent") {
			t.Errorf("it is %s: %s", c, note)
		}
		if s.FrozenFor() != 0 {
			t.Errorf("a guest that was never asked was frozen for %v", s.FrozenFor())
		}
		must(t, s.Release(t.Context()))
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %v", took)
		}
	}
}
