//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lifeboat"
	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
)

// recoveryHost is a host with a storage pool, without KVM: what is told is then
// the same on every computer that tests run on.
func recoveryHost(t *testing.T, change ...func(*Options)) (*libvirtd.Daemon, *Host) {
	t.Helper()
	d := libvirtd.Start(t)
	must(t, os.Mkdir(d.Dir+"/pool", 0o711))
	d.Virsh(t, "pool-create-as", "default", "dir", "--target", d.Dir+"/pool")
	o := Options{Name: "kvm1", URI: d.URI, KVM: func(context.Context) (bool, string) { return false, "this is a test" }}
	for _, f := range change {
		f(&o)
	}
	h, err := Open(o)
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return d, h
}

// plain is a small machine with the given disks.
func plain(name string, disks ...lifeboat.Disk) lifeboat.Machine {
	return lifeboat.Machine{
		Version: lifeboat.MachineVersion, Name: name, ID: hypervisor.DerivedID("test", name), UUID: "aaaaaaaa-2222-4333-8444-555555555555",
		CPUs: 1, MemoryBytes: 64 << 20, Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}, Chipset: lifeboat.ChipsetQ35, Disks: disks,
	}
}

// poolFiles are what lies in the pool.
func poolFiles(t *testing.T, d *libvirtd.Daemon) []string {
	t.Helper()
	entries, err := os.ReadDir(d.Dir + "/pool")
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// gone fails unless nothing of any machine is left on the host.
func gone(t *testing.T, d *libvirtd.Daemon) {
	t.Helper()
	for _, words := range [][]string{{"list", "--all", "--name"}, {"net-list", "--all", "--name"}, {"vol-list", "default"}} {
		if left := strings.TrimSpace(d.Virsh(t, words...)); left != "" {
			t.Errorf("virsh %s: %s", words[0], left)
		}
	}
	if left := poolFiles(t, d); len(left) > 0 {
		t.Errorf("the pool has %v", left)
	}
}

func (h *Host) removed(t *testing.T, d *libvirtd.Daemon, name string) {
	t.Helper()
	if strings.TrimSpace(d.Virsh(t, "domstate", name)) != "shut off" {
		d.Virsh(t, "destroy", name)
	}
	must(t, h.Remove(t.Context(), name))
}

func TestEveryBusAndCardStartsAndComesBackAsItWas(t *testing.T) {
	d, h := recoveryHost(t)
	able := h.Abilities()
	for i, bus := range able.Buses {
		card := able.Cards[i%len(able.Cards)]
		t.Run(string(bus)+" and "+card, func(t *testing.T) {
			m := plain("m-"+string(bus),
				lifeboat.Disk{Key: "root", SizeBytes: 16 << 20, Bus: bus, Serial: "S1", Place: "0:0", BootIndex: 1},
				lifeboat.Disk{Key: "data", SizeBytes: 16 << 20, Bus: bus, Serial: "S2", Place: "0:1", BootIndex: 2})
			switch bus {
			case lifeboat.BusIDE:
				m.Chipset = lifeboat.ChipsetI440FX
			case lifeboat.BusVirtio:
				m.Disks[0].Place, m.Disks[1].Place = "", ""
				m.Disks[0].PCISlot, m.Disks[1].PCISlot = "0000:03:00.0", "0000:00:09.0"
			case lifeboat.BusSATA:
				m.Disks[0].WWN = "5000c50015ea71ab"
			case lifeboat.BusPVSCSI, lifeboat.BusLSISAS:
				m.Disks[0].PCISlot, m.Disks[1].PCISlot = "0000:00:0c.0", "0000:00:0c.0"
			case lifeboat.BusVirtioSCSI:
				m.Disks[0].WWN = "5000c50015ea71ab"
				m.Disks[0].PCISlot, m.Disks[1].PCISlot = "0000:05:00.0", "0000:05:00.0"
			}
			m.CPUModel = "qemu64"
			m.NICs = []lifeboat.NIC{{MAC: "52:54:00:aa:bb:01", Model: card, PCISlot: "0000:00:10.0"}}
			m.SMBIOS = lifeboat.SMBIOS{Manufacturer: "ACME, Inc", Product: "R 1", Serial: "N<1>"}
			m.GenerationID, m.Agent, m.ClockLocal = true, true, true
			m.CPUs, m.Topology = 2, &lifeboat.Topology{Sockets: 1, Cores: 2, Threads: 1}
			must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m}))
			must(t, h.PowerOn(t.Context(), m.Name))
			list, err := h.List(t.Context())
			must(t, err)
			got := list[0].Machine
			got.Native = nil
			if bus == lifeboat.BusSATA || bus == lifeboat.BusIDE {
				// The board's own controllers, which are where they are.
				got.Disks[0].PCISlot, got.Disks[1].PCISlot = "", ""
			}
			if bus == lifeboat.BusSATA {
				if line := commandLineOf(t, d, m.Name); !strings.Contains(line, `"wwn":5764824127192592811`) {
					t.Errorf("QEMU was started with %s", line)
				}
				got.Disks[0].WWN = m.Disks[0].WWN // QEMU was told, libvirt has no word for it
			}
			if diff := cmp.Diff(m, got); diff != "" {
				t.Errorf("it came back as another machine (-want +got):\n%s", diff)
			}
			h.removed(t, d, m.Name)
			gone(t, d)
		})
	}
	t.Run("every card at once", func(t *testing.T) {
		m := plain("cards")
		for i, card := range able.Cards {
			m.NICs = append(m.NICs, lifeboat.NIC{MAC: ownMAC([]byte{0, 0, byte(i)}), Model: card})
		}
		must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m}))
		must(t, h.PowerOn(t.Context(), m.Name))
		h.removed(t, d, m.Name)
		gone(t, d)
	})
}

func TestANameThatExistsIsRefusedAndNothingIsMade(t *testing.T) {
	d, h := recoveryHost(t)
	defineSmall(t, d, "web01", "")
	err := h.Define(t.Context(), hypervisor.Definition{Machine: plain("web01", lifeboat.Disk{Key: "root", SizeBytes: 1 << 20, Bus: lifeboat.BusVirtio})})
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if left := poolFiles(t, d); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := h.Remove(t.Context(), "web01"); !errors.As(err, &p) || !strings.Contains(p.What, "did not define") {
		t.Errorf("a machine of production was removed: %v", err)
	}
	if names := strings.TrimSpace(d.Virsh(t, "list", "--all", "--name")); names != "web01" {
		t.Errorf("there are %s", names)
	}
}

// TestAMachineBesideProductionGetsItsOwnUUID: libvirt takes a UUID once, and the
// guest's licences hang on it.
func TestAMachineBesideProductionGetsItsOwnUUID(t *testing.T) {
	d, h := recoveryHost(t)
	uuid := defineSmall(t, d, "web01", "")
	m := plain("web01")
	m.UUID = strings.ToUpper(uuid)
	m.NICs = []lifeboat.NIC{{MAC: "52:54:00:aa:bb:01", Model: "virtio"}}
	onBridge := hypervisor.Definition{Machine: m, Name: "copy", Networks: []hypervisor.Network{{Kind: hypervisor.NetworkBridge, Name: "br0"}}}
	var p *lifeboat.Problem
	if err := h.Define(t.Context(), onBridge); !errors.As(err, &p) || !strings.Contains(p.What, `as "web01"`) {
		t.Errorf("a second one on production's network: %v", err)
	}
	for name, d := range map[string]hypervisor.Definition{
		"unplugged": {Machine: m},
		"a drill":   {Machine: m, Throwaway: true, Networks: onBridge.Networks},
		"new MACs":  {Machine: m, NewMACs: true, Networks: onBridge.Networks},
	} {
		d.Name = name
		must(t, h.Define(t.Context(), d))
		found, err := h.find(t.Context(), name)
		must(t, err)
		seen, err := found.look(t.Context())
		must(t, err)
		if found.uuid == uuid || seen.machine.UUID != uuid {
			t.Errorf("%s: the domain has %s, its guest sees %s", name, found.uuid, seen.machine.UUID)
		}
		if fresh := seen.machine.NICs[0].MAC != m.NICs[0].MAC; fresh != d.NewMACs {
			t.Errorf("%s: its card has %s", name, seen.machine.NICs[0].MAC)
		}
	}
	must(t, h.PowerOn(t.Context(), "unplugged"))
	if line := commandLineOf(t, d, "unplugged"); !strings.Contains(line, "-smbios\ntype=1,uuid="+uuid) {
		t.Errorf("QEMU was started with %s", line)
	}
}

// commandLineOf is QEMU's, a word in each line.
func commandLineOf(t *testing.T, d *libvirtd.Daemon, name string) string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, path := range all {
		text, _ := os.ReadFile(path)
		words := strings.ReplaceAll(string(text), "\x00", "\n")
		if strings.Contains(words, "guest="+name+",") && strings.Contains(words, "-uuid\n"+strings.TrimSpace(d.Virsh(t, "domuuid", name))) {
			return words
		}
	}
	t.Fatalf("%s does not run", name)
	return ""
}

// disk8 is a disk of 8 MiB of one byte.
type disk8 byte

func (d disk8) SizeBytes() int64 { return 8 << 20 }

func (d disk8) ReadAt(_ context.Context, p []byte, _ int64) error {
	for i := range p {
		p[i] = byte(d)
	}
	return nil
}

func (d disk8) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return []lifeboat.Extent{within}, nil
}

// serveDisks gives out disks on a socket as a boot does: in a folder of root's
// alone.
func serveDisks(t *testing.T, exports map[string]nbd.Export) (socket string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lb-nbd-")
	must(t, err)
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	must(t, err)
	must(t, os.Chmod(socket, 0o666))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = nbd.NewServer(exports, nbd.ServerOptions{}).Serve(ctx, l)
	}()
	stop = func() { cancel(); <-ended }
	t.Cleanup(func() { stop(); os.RemoveAll(dir) })
	return socket, stop
}

func TestACopiedDiskIsOnTheHostBeforeTheMachineStarts(t *testing.T) {
	d, h := recoveryHost(t)
	m := plain("web01", lifeboat.Disk{Key: "root", SizeBytes: 8 << 20, Bus: lifeboat.BusVirtio})
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m, Disks: map[string]hypervisor.Backing{"root": {Copy: disk8(0x5a)}}}))
	path := d.Dir + "/pool/" + volumeName("web01", m.UUID, "root.raw")
	got, err := os.ReadFile(path)
	must(t, err)
	if len(got) != 8<<20 || strings.Trim(string(got), "\x5a") != "" {
		t.Errorf("the copy has %d bytes, or others", len(got))
	}
	must(t, h.Remove(t.Context(), "web01"))
	gone(t, d)
}

// brokenDisk cannot be read.
type brokenDisk struct{ disk8 }

func (brokenDisk) ReadAt(context.Context, []byte, int64) error {
	return errors.New("damaged on purpose")
}

func TestADefineThatFailsLeavesNothing(t *testing.T) {
	d, h := recoveryHost(t)
	m := plain("web01", lifeboat.Disk{Key: "root", SizeBytes: 8 << 20, Bus: lifeboat.BusVirtio})
	m.NICs = []lifeboat.NIC{{MAC: "52:54:00:aa:bb:01", Model: "virtio"}}
	err := h.Define(t.Context(), hypervisor.Definition{Machine: m, Networks: []hypervisor.Network{{Kind: hypervisor.NetworkSegment, Name: "x"}},
		Disks: map[string]hypervisor.Backing{"root": {Copy: brokenDisk{}}}})
	if err == nil || !strings.Contains(err.Error(), "damaged on purpose") {
		t.Errorf("got %v", err)
	}
	gone(t, d)
}

func TestAnImageThatIsAdoptedStays(t *testing.T) {
	d, h := recoveryHost(t)
	path := d.Dir + "/mine.raw"
	must(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
	m := plain("web01", lifeboat.Disk{Key: "root", SizeBytes: 1 << 20, Bus: lifeboat.BusSATA})
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m, Disks: map[string]hypervisor.Backing{"root": {File: &hypervisor.FileBacking{Path: path, Format: "raw"}}}}))
	must(t, h.PowerOn(t.Context(), "web01"))
	if err := h.Remove(t.Context(), "web01"); !errors.Is(err, hypervisor.ErrMachineRunning) {
		t.Errorf("a machine that runs was removed: %v", err)
	}
	h.removed(t, d, "web01")
	gone(t, d)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("Remove took an image that Lifeboat did not make: %v", err)
	}
}

func TestADiskServerThatIsNotThereIsToldInWords(t *testing.T) {
	_, h := recoveryHost(t)
	dir := t.TempDir()
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: plain("web01", lifeboat.Disk{Key: "root", SizeBytes: 8 << 20, Bus: lifeboat.BusVirtio}),
		Recovery: "run", Disks: map[string]hypervisor.Backing{"root": {NBD: &hypervisor.NBDBacking{Socket: dir + "/none", Export: "x"}}}}))
	err := h.PowerOn(t.Context(), "web01")
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.What, "disk server") || p.Safe == "" || p.Next == "" {
		t.Errorf("the operator reads %v", err)
	}
}

func TestAPoolThatIsNotThereIsToldInWords(t *testing.T) {
	_, h := recoveryHost(t, func(o *Options) { o.Pool = "nowhere" })
	err := h.Define(t.Context(), hypervisor.Definition{Machine: plain("web01")})
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.What, `"nowhere"`) || p.Next == "" {
		t.Errorf("the operator reads %v", err)
	}
}
