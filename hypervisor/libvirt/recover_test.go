//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/fixtures/guests"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
	"lifeboat/netlab"
)

// rawDisk is a guest's disk as a point gives it out.
type rawDisk struct {
	file *os.File
	size int64
}

func (d rawDisk) SizeBytes() int64 { return d.size }

func (d rawDisk) ReadAt(_ context.Context, p []byte, offset int64) error {
	_, err := d.file.ReadAt(p, offset)
	return err
}

func (d rawDisk) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return []lifeboat.Extent{within}, nil
}

// guestDisks are a guest and its disks.
func guestDisks(t *testing.T, kind guests.Kind) (lifeboat.Machine, map[string]nbd.Export) {
	t.Helper()
	images, err := guests.Build(t.Context(), "", kind)
	if err != nil {
		t.Skipf("needs what guests are built of: build/need guests: %v", err)
	}
	exports := map[string]nbd.Export{}
	for key, path := range images[kind].Disks {
		raw := filepath.Join(t.TempDir(), key+".raw")
		if out, err := exec.Command("qemu-img", "convert", "-O", "raw", path, raw).CombinedOutput(); err != nil {
			t.Fatalf("copy the guest: %v: %s", err, out)
		}
		f, err := os.Open(raw)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		info, err := f.Stat()
		must(t, err)
		exports[key] = rawDisk{f, info.Size()}
	}
	return images[kind].Machine, exports
}

// fromServer is the definition of a machine whose disks are on a server.
func fromServer(m lifeboat.Machine, socket, segment string) hypervisor.Definition {
	d := hypervisor.Definition{Machine: m, Recovery: "run-1", Disks: map[string]hypervisor.Backing{},
		Networks: []hypervisor.Network{{Kind: hypervisor.NetworkSegment, Name: segment}}}
	for _, disk := range m.Disks {
		d.Disks[disk.Key] = hypervisor.Backing{NBD: &hypervisor.NBDBacking{Socket: socket, Export: disk.Key}}
	}
	return d
}

// printed is what a machine wrote on its serial line.
func printed(t *testing.T, h *Host, name string) string {
	t.Helper()
	console, err := h.Console(t.Context(), name)
	must(t, err)
	text, _ := os.ReadFile(console.SerialLog)
	return string(text)
}

func prints(t *testing.T, h *Host, name, text string) {
	t.Helper()
	eventually(t, bootCeiling, name+" prints "+text, func() bool { return strings.Contains(printed(t, h, name), text) })
}

// records is how many records the guest says are on its disk.
func records(t *testing.T, h *Host, name string) int {
	t.Helper()
	last := 0
	for line := range strings.Lines(printed(t, h, name)) {
		var n int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "WROTE %d", &n); err == nil {
			last = n
		}
	}
	return last
}

func (h *Host) writesAgain(t *testing.T, name string) {
	t.Helper()
	was := records(t, h, name)
	eventually(t, bootCeiling, name+" writes", func() bool { return records(t, h, name) > was+2 })
}

// routes are the host's.
func routes(t *testing.T) string {
	t.Helper()
	v4, err := os.ReadFile("/proc/net/route")
	must(t, err)
	v6, err := os.ReadFile("/proc/net/ipv6_route")
	if !errors.Is(err, os.ErrNotExist) {
		must(t, err)
	}
	// The counters of IPv6 routes change by themselves.
	var lines []string
	for line := range strings.Lines(string(v6)) {
		fields := strings.Fields(line)
		if len(fields) > 9 && fields[0] != "ff000000000000000000000000000000" {
			lines = append(lines, strings.Join(slices.Delete(fields, 6, 8), " "))
		}
	}
	slices.Sort(lines)
	return string(v4) + strings.Join(lines, "\n")
}

// TestARealGuestBootsFromADriveAnswersAndSettles is one boot and what a recovery
// is: it starts from the disk server, is reached where it was in production, moves
// to local disk while it writes, and does without the server.
func TestARealGuestBootsFromADriveAnswersAndSettles(t *testing.T) {
	m, exports := guestDisks(t, guests.LeanWriter)
	d, h := recoveryHost(t)
	before := routes(t)
	socket, stop := serveDisks(t, exports)
	segment := hypervisor.Segment{Name: "drill 1", CIDR: "10.77.0.0/24", HostAddress: "10.77.0.254", Forwards: []hypervisor.SegmentForward{
		{HostPort: freePort(t), Address: "10.77.0.23", GuestPort: 80}, {HostPort: freePort(t), Address: "10.77.0.23", GuestPort: 22}}}
	g, err := h.OpenGateway(t.Context(), segment) // before any machine, as a boot does
	must(t, err)
	t.Cleanup(func() { must(t, g.Close()) })
	must(t, h.Define(t.Context(), fromServer(m, socket, segment.Name)))
	must(t, h.PowerOn(t.Context(), m.Name))
	prints(t, h, m.Name, "READY")

	t.Run("ItAnswersWhereItWasInProductionAndTheHostHasNoRoute", func(t *testing.T) {
		answers(t, g, segment)
		if now := routes(t); now != before {
			t.Errorf("the host's routes were\n%s\nand are\n%s", before, now)
		}
		must(t, netlab.Sealed(bridgeOf(segmentName(segment.Name))))
	})
	t.Run("ItMovesWhileItWrites", func(t *testing.T) {
		must(t, h.Settle(t.Context(), m.Name, nil))
		stop()
		h.writesAgain(t, m.Name)
		if text := d.Virsh(t, "dumpxml", m.Name); strings.Contains(text, "nbd") {
			t.Errorf("it still has %s", text)
		}
		if why, err := h.NoRoot(t.Context(), m.Name); err != nil || why != "" {
			t.Errorf("it is said not to find its disk: %q (%v)", why, err)
		}
	})
	t.Run("ItStartsAgainWithoutADrive", func(t *testing.T) {
		must(t, h.PowerOff(t.Context(), m.Name, 0))
		had := records(t, h, m.Name)
		must(t, h.PowerOn(t.Context(), m.Name))
		h.writesAgain(t, m.Name)
		if now := records(t, h, m.Name); now < had {
			t.Errorf("it had %d records and has %d", had, now)
		}
		must(t, h.PowerOff(t.Context(), m.Name, 0))
	})
	t.Run("ItIsRemovedWithoutATrace", func(t *testing.T) {
		must(t, g.Close())
		must(t, h.Remove(t.Context(), m.Name))
		gone(t, d)
		if _, err := netlab.Ports(bridgeOf(segmentName(segment.Name))); !errors.Is(err, netlab.ErrNoBridge) {
			t.Errorf("its bridge is still there (%v)", err)
		}
	})
}

// answers looks at a port of the guest that takes connections and at one that
// does not.
func answers(t *testing.T, g hypervisor.Gateway, s hypervisor.Segment) {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second}
	answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/health", s.Forwards[0].HostPort))
	must(t, err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("it answers %s", answer.Status)
	}
	closed, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Forwards[1].HostPort))
	must(t, err)
	defer closed.Close()
	must(t, closed.SetDeadline(time.Now().Add(30*time.Second)))
	if n, err := closed.Read(make([]byte, 1)); n > 0 || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a port that is closed gave %d bytes and %v", n, err)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("10.77.0.23:80")}
	if got := g.Answers(); !slices.Equal(got, want) {
		t.Errorf("the gateway says that %v answered, want %v", got, want)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestAUEFIGuestNeedsItsVariables: the loader of this guest stands in them alone.
func TestAUEFIGuestNeedsItsVariables(t *testing.T) {
	m, exports := guestDisks(t, guests.LeanUEFI)
	d, h := recoveryHost(t)
	socket, _ := serveDisks(t, exports)
	must(t, h.Define(t.Context(), fromServer(m, socket, "uefi")))
	must(t, h.PowerOn(t.Context(), m.Name))
	prints(t, h, m.Name, "READY")
	if line := commandLineOf(t, d, m.Name); strings.Contains(line, ".ms.fd") || strings.Contains(line, "secboot") {
		t.Errorf("it was started with Secure Boot: %s", line)
	}
	h.removed(t, d, m.Name)
	m.Firmware.NVRAM = nil
	must(t, h.Define(t.Context(), fromServer(m, socket, "uefi")))
	must(t, h.PowerOn(t.Context(), m.Name))
	prints(t, h, m.Name, "EFI Internal Shell")
	h.removed(t, d, m.Name)
	gone(t, d)
}

// TestAMoverThatDiesLeavesAWholeMachine lets a mover die at each of its steps.
// The next one tidies up.
func TestAMoverThatDiesLeavesAWholeMachine(t *testing.T) {
	d, h := recoveryHost(t)
	guest := standIn{h, openFolder(t, d.Dir)}
	steps := []struct {
		name string
		do   func(t *testing.T, m *move, s server, volume string)
	}{
		{"while it copies", func(t *testing.T, m *move, s server, volume string) {
			must(t, m.begin(t.Context(), s.disk.Target.Dev, volume))
		}},
		{"when both are alike", func(t *testing.T, m *move, s server, volume string) {
			must(t, m.begin(t.Context(), s.disk.Target.Dev, volume))
			must(t, m.untilAlike(t.Context(), s.disk.Target.Dev, 8<<20))
		}},
		{"after the change-over, before it is recorded", func(t *testing.T, m *move, s server, volume string) {
			must(t, m.copy(t.Context(), s.disk.Target.Dev, volume, 8<<20))
		}},
	}
	for i, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			name := fmt.Sprintf("web%d", i)
			socket, stop := serveDisks(t, map[string]nbd.Export{"root": disk8(0x5a)})
			machine := plain(name, lifeboat.Disk{Key: "root", SizeBytes: 8 << 20, Bus: lifeboat.BusVirtio})
			must(t, h.Define(t.Context(), fromServer(machine, socket, "moves")))
			must(t, h.PowerOn(t.Context(), name))
			must(t, guest.Write(t.Context(), name, "root", 1<<20, 64<<10, 0x66))
			die(t, h, name, step.do)

			must(t, guest.Check(t.Context(), name, "root", 0, 1<<20, 0x5a))
			must(t, guest.Write(t.Context(), name, "root", 2<<20, 64<<10, 0x77))
			must(t, h.Settle(t.Context(), name, nil))
			stop()
			must(t, guest.Check(t.Context(), name, "root", 1<<20, 64<<10, 0x66))
			must(t, guest.Check(t.Context(), name, "root", 2<<20, 64<<10, 0x77))
			must(t, guest.Check(t.Context(), name, "root", 3<<20, 5<<20, 0x5a))
			if left := poolFiles(t, d); len(left) != 2 || !strings.HasSuffix(left[0], localSuffix) {
				t.Errorf("the pool has %v", left)
			}
			h.removed(t, d, name)
			gone(t, d)
		})
	}
}

// die begins a move and stops in the middle of it.
func die(t *testing.T, h *Host, name string, do func(*testing.T, *move, server, string)) {
	t.Helper()
	found, err := h.find(t.Context(), name)
	must(t, err)
	m := &move{d: found, progress: func(int64, int64) {}}
	doc, err := m.look(t.Context())
	must(t, err)
	m.pool, err = h.pool(t.Context(), m.own.Pool)
	must(t, err)
	s := serversOf(doc)[0]
	volume := volumeName(name, found.uuid, "root"+localSuffix)
	m.own.Made = append(m.own.Made, volume)
	must(t, m.save(t.Context()))
	must(t, m.pool.make(t.Context(), volume, "qcow2", 8<<20))
	do(t, m, s, volume)
}

// TestADefineThatDiesIsKnownToRemove kills nothing: it leaves what a killed one
// would.
func TestADefineThatDiesIsKnownToRemove(t *testing.T) {
	d, h := recoveryHost(t)
	definition := hypervisor.Definition{Machine: plain("web01", lifeboat.Disk{Key: "root", SizeBytes: 8 << 20, Bus: lifeboat.BusVirtio})}
	plan, err := h.planDefinition(t.Context(), &definition)
	must(t, err)
	must(t, h.defineXML(t.Context(), definition, plan.build, true))
	must(t, plan.makeFiles(t.Context(), definition))
	var p *lifeboat.Problem
	if err := h.PowerOn(t.Context(), "web01"); !errors.As(err, &p) || !strings.Contains(p.What, "not complete") {
		t.Errorf("a machine that is half made: %v", err)
	}
	must(t, h.Remove(t.Context(), "web01"))
	gone(t, d)
}

// TestASegmentOfDeadProcessesIsSwept: a gateway may die before any machine is on
// its segment.
func TestASegmentGoesWithItsLastUser(t *testing.T) {
	d, h := recoveryHost(t)
	networks := func() string { return strings.TrimSpace(d.Virsh(t, "net-list", "--name")) }
	must(t, h.openSegment(t.Context(), segmentName("dead")))
	m := plain("a")
	m.NICs = []lifeboat.NIC{{MAC: "52:54:00:aa:bb:01", Model: "virtio"}}
	on := hypervisor.Definition{Machine: m, NewMACs: true, Networks: []hypervisor.Network{{Kind: hypervisor.NetworkSegment, Name: "x"}}}
	for _, on.Name = range []string{"a", "b"} {
		must(t, h.Define(t.Context(), on))
	}
	if got := networks(); got != segmentName("x") {
		t.Errorf("there are the networks %s: that of a dead process was not removed", got)
	}
	must(t, h.Remove(t.Context(), "a"))
	if networks() != segmentName("x") {
		t.Error("the network went before its last machine")
	}
	// As after a restart of the host.
	d.Virsh(t, "net-destroy", segmentName("x"))
	must(t, h.PowerOn(t.Context(), "b"))
	must(t, netlab.Sealed(bridgeOf(segmentName("x"))))
	h.removed(t, d, "b")
	gone(t, d)
	g, err := h.OpenGateway(t.Context(), hypervisor.Segment{Name: "y", CIDR: "10.1.0.0/24", HostAddress: "10.1.0.9"})
	must(t, err)
	d.Virsh(t, "net-destroy", segmentName("y"))
	select {
	case <-g.Ended():
	case <-time.After(bootCeiling):
		t.Error("the gateway did not notice that its segment is gone")
	}
	must(t, g.Close())
	gone(t, d)
}

func TestAHostElsewhereSaysWhatItCannotDo(t *testing.T) {
	h, err := Open(Options{Name: "far", URI: "qemu+ssh://root@192.0.2.77/system"})
	must(t, err)
	defer h.Close()
	if _, err := h.OpenGateway(t.Context(), hypervisor.Segment{Name: "x", CIDR: "10.1.0.0/24", HostAddress: "10.1.0.9"}); !errors.Is(err, hypervisor.ErrUnsupported) {
		t.Errorf("a gateway: %v", err)
	}
	for _, backing := range []hypervisor.Backing{{NBD: &hypervisor.NBDBacking{Socket: "/x", Export: "x"}}, {File: &hypervisor.FileBacking{Path: "/x", Format: "raw"}}} {
		err := h.Define(t.Context(), hypervisor.Definition{Machine: plain("web01", lifeboat.Disk{Key: "root", SizeBytes: 1, Bus: lifeboat.BusVirtio}),
			Disks: map[string]hypervisor.Backing{"root": backing}})
		if !errors.Is(err, hypervisor.ErrUnsupported) {
			t.Errorf("a disk of this computer: %v", err)
		}
	}
}
