package qemu

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
)

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestAGatewayListensOnTheLoopbackUntilItIsClosed(t *testing.T) {
	h := newHost(t)
	port := freePort(t)
	s := hypervisor.Segment{Name: "drill 1", CIDR: "10.77.0.0/24", HostAddress: "10.77.0.1",
		Forwards: []hypervisor.SegmentForward{{HostPort: port, Address: "10.77.0.10", GuestPort: 80}}}
	g, err := h.OpenGateway(t.Context(), s)
	must(t, err)
	t.Cleanup(func() { g.Close() })
	address := fmt.Sprintf("127.0.0.1:%d", port)
	conn, err := net.Dial("tcp", address)
	must(t, err)
	conn.Close()
	must(t, g.Close())
	must(t, g.Close())
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
}

func TestAGatewaySaysThatAPortIsTaken(t *testing.T) {
	h := newHost(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, err = h.OpenGateway(t.Context(), hypervisor.Segment{Name: "drill 2", CIDR: "10.77.0.0/24", HostAddress: "10.77.0.1",
		Forwards: []hypervisor.SegmentForward{{HostPort: l.Addr().(*net.TCPAddr).Port, Address: "10.77.0.10", GuestPort: 80}}})
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.Next, "ports that are free") {
		t.Errorf("got %v", err)
	}
}

func TestAGatewayHearsOnlyWhatIsMeantForIt(t *testing.T) {
	g := &gateway{mac: userNetworkMAC("10.77.0.254")}
	frame := func(to ...byte) []byte { return append(to, make([]byte, 54)...) }
	for _, c := range []struct {
		frame []byte
		want  bool
	}{
		{frame(0xff, 0xff, 0xff, 0xff, 0xff, 0xff), true},
		{frame(0x52, 0x55, 10, 77, 0, 254), true},
		{frame(0x52, 0x54, 0, 0x77, 0, 0x10), false},
		{[]byte{0xff, 0xff}, false},
	} {
		if got := g.isFor(c.frame); got != c.want {
			t.Errorf("%x: got %v", c.frame[:2], got)
		}
	}
}

func TestAGatewayKnowsWhichGuestTookAConnection(t *testing.T) {
	s := hypervisor.Segment{Forwards: []hypervisor.SegmentForward{{HostPort: 1, Address: "10.77.0.10", GuestPort: 5432}}}
	g := &gateway{answers: guestPorts(s)}
	frame := func(flags byte) []byte {
		f := make([]byte, 14+20+20)
		f[12], f[13] = 8, 0
		ip := f[14:]
		ip[0], ip[9] = 0x45, 6
		copy(ip[12:], []byte{10, 77, 0, 10})
		ip[20], ip[21] = 5432>>8, 5432&0xff
		ip[33] = flags
		return f
	}
	db := netip.MustParseAddrPort("10.77.0.10:5432")
	for _, c := range []struct {
		flags byte
		want  bool
	}{{tcpACK, false}, {tcpSYN | tcpACK, true}, {tcpACK, true}, {tcpRST | tcpACK, false}, {tcpSYN, false}} {
		g.observe(frame(c.flags))
		if got := slices.Contains(g.Answers(), db); got != c.want {
			t.Errorf("after flags %#x: %v", c.flags, got)
		}
	}
	for n := range 1000 {
		spoofed := frame(tcpSYN | tcpACK)
		spoofed[14+12+n%4]++ // another address
		if n%5 == 4 {
			spoofed[14+20]++ // or another port
		}
		g.observe(spoofed)
	}
	if len(g.answers) != 1 || len(g.Answers()) != 0 {
		t.Errorf("frames of ports that no forward leads to are kept: %d, %v", len(g.answers), g.Answers())
	}
	for n := range frame(tcpSYN | tcpACK) {
		g.observe(frame(tcpSYN | tcpACK)[:n]) // cut short anywhere: no panic
	}
}

func TestASegmentAnswersForNoGuest(t *testing.T) {
	s := hypervisor.Segment{CIDR: "10.0.0.0/29", HostAddress: "10.0.0.1", Forwards: []hypervisor.SegmentForward{
		{HostPort: 1, Address: "10.0.0.3", GuestPort: 1}, {HostPort: 2, Address: "10.0.0.6", GuestPort: 1}}}
	word, err := segmentUser(s)
	must(t, err)
	if !strings.Contains(word, ",dns=10.0.0.5,") || !strings.Contains(word, "restrict=on") || strings.Contains(word, "hostfwd=tcp::") {
		t.Error(word)
	}
}

func TestASegmentRefusesWhatIsNotItsNetwork(t *testing.T) {
	for _, s := range []hypervisor.Segment{
		{CIDR: "nonsense", HostAddress: "10.0.0.1"},
		{CIDR: "10.0.0.0/24", HostAddress: "10.0.1.1"},
		{CIDR: "10.0.0.0/24", HostAddress: "10.0.0.1", Forwards: []hypervisor.SegmentForward{{HostPort: 1, Address: "10.0.1.2", GuestPort: 1}}},
		{CIDR: "10.0.0.0/24", HostAddress: "10.0.0.1", Forwards: []hypervisor.SegmentForward{{HostPort: 70000, Address: "10.0.0.2", GuestPort: 1}}},
	} {
		if word, err := segmentUser(s); err == nil {
			t.Errorf("%+v becomes %s", s, word)
		}
	}
}

func TestMachinesOnEveryKindOfNetworkStart(t *testing.T) {
	h := newHost(t)
	m := sample("web01")
	networks := []hypervisor.Network{
		{Kind: hypervisor.NetworkNone},
		{Kind: hypervisor.NetworkUser, Forwards: []hypervisor.Forward{{HostPort: freePort(t), GuestPort: 80}}},
		{Kind: hypervisor.NetworkSegment, Name: "drill"},
	}
	for i := range networks {
		m.NICs = append(m.NICs, nic(i))
	}
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m, Networks: networks, NewMACs: true}))
	must(t, h.PowerOn(t.Context(), "web01"))
	found, err := h.find("web01")
	must(t, err)
	for i, n := range found.def.Machine.NICs {
		if n.MAC == m.NICs[i].MAC {
			t.Errorf("card %d kept its address", i)
		}
	}
}
