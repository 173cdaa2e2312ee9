package qemu

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/fixtures/guests"
	"lifeboat/hypervisor"
	"lifeboat/netlab"
)

// productionPings is how many echoes go to the machine of production meanwhile.
const productionPings = 600

// TestAGuestInALabNeverMeetsProduction: a drill's guest has the address of a machine
// that still runs on a bridge of this host, and tries what it can.
func TestAGuestInALabNeverMeetsProduction(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changing networks needs root: run the tests as root")
	}
	image := realGuest(t, guests.Lean)
	address := netip.MustParsePrefix(image.Machine.NICs[0].Addresses[0])
	p := newProduction(t, address, image.Machine.NICs[0].MAC)
	lab, serve := newLab(t, image.Machine, address)
	end := serve()
	h := newHost(t)
	m := bootOn(t, h, image, hypervisor.Network{Kind: hypervisor.NetworkLab, Name: "servers", Lab: lab.Dir})
	waitSerial(t, m, "READY")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	well(t, ctx, lab, address.Addr())
	eventually(t, bootCeiling, "the guest is given its address by DHCP", func() bool {
		s, err := lab.Status(ctx)
		return err == nil && s.Leases[strings.ToLower(image.Machine.NICs[0].MAC)] == address.Addr()
	})
	eventually(t, bootCeiling, "its agent answers", func() bool { return h.GuestPing(ctx, m.name()) == nil })
	guestSays(t, h, m, true, "ping", "-c", "1", "-W", "30", "10.77.0.1")
	guestSays(t, h, m, true, "nslookup", "db.firm.example", "10.77.0.1")
	guestSays(t, h, m, false, "nslookup", "vendor.example", "10.77.0.1")
	for _, to := range []string{p.host.String(), "192.0.2.1"} {
		guestSays(t, h, m, false, "ping", "-c", "2", "-W", "1", to)
	}

	// The lab's process is killed and another one takes over: the guest has a network.
	end()
	serve()
	well(t, ctx, lab, address.Addr())
	p.undisturbed(t)
	must(t, h.PowerOff(t.Context(), m.name(), 0))
	eventually(t, bootCeiling, "its cable is gone", func() bool { s, err := lab.Status(t.Context()); return err == nil && s.Cables == 0 })
}

// guestSays runs a program in the guest, which ends well or does not.
func guestSays(t *testing.T, h *Host, m *machine, well bool, path string, arguments ...string) {
	t.Helper()
	r, err := h.GuestRun(t.Context(), m.name(), hypervisor.GuestCommand{Path: path, Args: arguments, Limit: 2 * time.Minute})
	must(t, err)
	if (r.ExitCode == 0 && r.Signal == 0) != well {
		t.Errorf("in the guest: %s %v ended with %d", path, arguments, r.ExitCode)
	}
}

// well asks the page of the guest, from inside the lab.
func well(t *testing.T, ctx context.Context, lab netlab.Client, a netip.Addr) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: lab.Dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+a.String()+"/health", nil)
	must(t, err)
	r, err := c.Do(request)
	must(t, err)
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Errorf("the page says %s", r.Status)
	}
}

// newLab makes a lab with the numbers of the guests' network. Serve opens it and
// serves it; what it returns ends that as a kill would.
func newLab(t *testing.T, m lifeboat.Machine, address netip.Prefix) (c netlab.Client, serve func() (end func())) {
	dir := t.TempDir()
	config := netlab.Config{
		Name:     fmt.Sprintf("%s-%d", t.Name(), os.Getpid()),
		Networks: []netlab.Network{{Name: "servers", CIDR: address.Masked(), Gateway: netip.MustParseAddr("10.77.0.1")}},
		Cards:    []netlab.Card{{Machine: m.Name, MAC: m.NICs[0].MAC, Network: "servers", Addresses: []netip.Prefix{address}}},
		Names:    map[string]netip.Addr{"db.firm.example": netip.MustParseAddr("10.77.0.99")},
	}
	return netlab.Client{Dir: dir}, func() func() {
		l, err := netlab.Open(config)
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		ready, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- l.Serve(ctx, dir, func() { close(ready) }) }()
		end := sync.OnceFunc(func() {
			cancel()
			must(t, errors.Join(<-ended, l.Close()))
		})
		t.Cleanup(end)
		select {
		case <-ready:
		case err := <-ended:
			t.Fatal(err)
		}
		return end
	}
}

// bootOn starts a guest on overlays of its image, with its card on a network.
func bootOn(t *testing.T, h *Host, image guests.Image, n hypervisor.Network) *machine {
	t.Helper()
	d := hypervisor.Definition{Machine: image.Machine, Disks: map[string]hypervisor.Backing{}, Networks: []hypervisor.Network{n}}
	for key, path := range image.Disks {
		overlay := filepath.Join(t.TempDir(), key+".qcow2")
		_, err := h.image(t.Context(), "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path, overlay)
		must(t, err)
		d.Disks[key] = hypervisor.Backing{File: &hypervisor.FileBacking{Path: overlay, Format: "qcow2"}}
	}
	must(t, h.Define(t.Context(), d))
	must(t, h.PowerOn(t.Context(), image.Machine.Name))
	m, err := h.find(image.Machine.Name)
	must(t, err)
	return m
}

// production is a bridge of this host with a machine on it that has the guest's
// address. This host has an address there too.
type production struct {
	host, machine netip.Addr
	wire          int
	guest         net.HardwareAddr
	sent, lost    atomic.Int64
	frames        atomic.Int64 // of the guest
	all           atomic.Int64
	done          chan struct{}
}

func newProduction(t *testing.T, address netip.Prefix, mac string) *production {
	t.Helper()
	p := &production{host: netip.MustParseAddr("10.77.0.200"), machine: address.Addr(), done: make(chan struct{})}
	var err error
	p.guest, err = net.ParseMAC(mac)
	must(t, err)
	bridge := fmt.Sprintf("lbp%d", os.Getpid())
	ip(t, "ip", "link", "add", bridge, "type", "bridge")
	t.Cleanup(func() { ip(t, "ip", "link", "del", bridge) })
	ip(t, "ip", "addr", "add", p.host.String()+"/24", "dev", bridge)
	ip(t, "ip", "link", "set", bridge, "up")
	there, err := netlab.Join(bridge, address.Masked().String(), p.machine.String())
	must(t, err)
	t.Cleanup(func() { must(t, there.Close()) })
	p.listen(t, bridge)
	go p.ping()
	return p
}

func ip(t *testing.T, words ...string) {
	t.Helper()
	if said, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", words, err, said)
	}
}

// listen counts what is on the bridge.
func (p *production) listen(t *testing.T, bridge string) {
	link, err := net.InterfaceByName(bridge)
	must(t, err)
	everything := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	p.wire, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	must(t, unix.Bind(p.wire, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: link.Index}))
	must(t, unix.SetsockoptPacketMreq(p.wire, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(link.Index), Type: unix.PACKET_MR_PROMISC}))
	wire := os.NewFile(uintptr(p.wire), bridge)
	t.Cleanup(func() { wire.Close() })
	go func() {
		frame := make([]byte, 2048)
		for {
			n, err := wire.Read(frame)
			if err != nil {
				return
			}
			p.all.Add(1)
			if n >= 14 && bytes.Equal(frame[6:12], p.guest) {
				p.frames.Add(1)
			}
		}
	}()
}

// ping sends echoes to the machine of production, and waits for each.
func (p *production) ping() {
	defer close(p.done)
	conn, err := net.Dial("ip4:icmp", p.machine.String())
	if err != nil {
		p.lost.Store(productionPings)
		return
	}
	defer conn.Close()
	answer := make([]byte, 1500)
	for i := range uint16(productionPings) {
		echo := []byte{8, 0, 0, 0, 0x4c, 0x42, byte(i >> 8), byte(i)}
		binary.BigEndian.PutUint16(echo[2:], ^(0x0800 + 0x4c42 + i))
		conn.Write(echo)
		p.sent.Add(1)
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		for {
			n, err := conn.Read(answer)
			if err != nil {
				p.lost.Add(1)
				break
			}
			if n >= 28 && answer[20] == 0 && bytes.Equal(answer[24:28], echo[4:]) {
				break
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// undisturbed waits for the last echo, and says what was wrong.
func (p *production) undisturbed(t *testing.T) {
	t.Helper()
	<-p.done
	if p.sent.Load() != productionPings || p.lost.Load() != 0 {
		t.Errorf("%d of %d echoes to production were lost", p.lost.Load(), p.sent.Load())
	}
	if p.frames.Load() != 0 || p.all.Load() < 2*productionPings {
		t.Errorf("%d frames of the guest were on production's bridge, of %d", p.frames.Load(), p.all.Load())
	}
}
