package netlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func address(text string) netip.Addr  { return netip.MustParseAddr(text) }
func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// firm is a company with two networks and a router between them.
func firm(t *testing.T) Config {
	return Config{
		Name: fmt.Sprintf("%s-%d", t.Name(), os.Getpid()),
		Networks: []Network{
			{Name: "servers", CIDR: prefix("10.77.0.0/24"), Gateway: address("10.77.0.1"), DNS: []netip.Addr{address("10.77.0.53"), address("203.0.113.53")}},
			{Name: "dmz", CIDR: prefix("10.78.0.0/24"), Gateway: address("10.78.0.1")},
		},
		Cards: []Card{
			{Machine: "db", HostName: "db.firm.example", MAC: "52:54:00:00:00:0a", Network: "servers", Addresses: []netip.Prefix{prefix("10.77.0.10/24")}},
			{Machine: "web", HostName: "www", MAC: "52:54:00:00:00:14", Network: "dmz", Addresses: []netip.Prefix{prefix("10.78.0.20/24")}},
		},
		Names: map[string]netip.Addr{"mail.firm.example": address("10.77.0.25")},
	}
}

// openLab opens a lab that ends with the test, and serves it.
func openLab(t *testing.T, c Config) (*Lab, Client) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("changing networks needs root: run the tests as root")
	}
	l, err := Open(c)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l, serve(t, l)
}

func serve(t *testing.T, l *Lab) Client {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() { ended <- l.Serve(ctx, dir, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(2 * time.Minute):
			t.Error("the lab does not end")
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return Client{Dir: dir}
}

// pretender stands in for a guest: a namespace with a cable into a network of a lab.
type pretender struct {
	t  *testing.T
	ns netns.NsHandle
}

// plugGuest plugs a guest in. Without an address it has none yet.
func plugGuest(t *testing.T, l *Lab, network, mac, addr, gateway string) pretender {
	t.Helper()
	ns, err := newNamespace()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	bridge, err := l.config.bridge(network)
	must(t, err)
	must(t, l.within(func() error {
		into, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "g" + mac[len(mac)-2:]
		attrs.MasterIndex = into.Attrs().Index
		hardware, _ := net.ParseMAC(mac)
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: insideName, PeerNamespace: netlink.NsFd(ns), PeerHardwareAddr: hardware}); err != nil {
			return err
		}
		link, err := netlink.LinkByName(attrs.Name)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	}))
	g := pretender{t, ns}
	g.do(func() error {
		link, err := netlink.LinkByName(insideName)
		if err != nil {
			return err
		}
		if addr != "" {
			if err := addAddress(link, netip.MustParsePrefix(addr)); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(link); err != nil || gateway == "" {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway)})
	})
	return g
}

func (g pretender) do(f func() error) {
	g.t.Helper()
	must(g.t, onThread(func() error {
		if err := netns.Set(g.ns); err != nil {
			return err
		}
		return f()
	}))
}

// listen answers at a TCP port of the guest with a line.
func (g pretender) listen(at, line string) {
	g.t.Helper()
	var l net.Listener
	g.do(func() (err error) {
		l, err = net.Listen("tcp4", at)
		return err
	})
	g.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "%s to %s\n", line, conn.RemoteAddr())
			conn.Close()
		}
	}()
}

// dial connects from the guest.
func (g pretender) dial(network, to string, patience time.Duration) (conn net.Conn, err error) {
	g.t.Helper()
	g.do(func() error {
		conn, err = net.DialTimeout(network, to, patience)
		return nil
	})
	return conn, err
}

// resolver asks a DNS server from the guest.
func (g pretender) resolver(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
		return g.dial(network, server+":53", 30*time.Second)
	}}
}

func readLine(t *testing.T, conn net.Conn, err error) string {
	t.Helper()
	must(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	line, err := bufio.NewReader(conn).ReadString('\n')
	must(t, err)
	return line
}

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestGuestsAreReachedFromInsideTheLab(t *testing.T) {
	l, c := openLab(t, firm(t))
	db := plugGuest(t, l, "servers", "52:54:00:00:00:0a", "10.77.0.10/24", "10.77.0.1")
	db.listen("10.77.0.10:22", "SSH")
	conn, err := c.Dial(patient(t), "tcp", "10.77.0.10:22")
	if line := readLine(t, conn, err); line[:4] != "SSH " {
		t.Errorf("read %q", line)
	}
	if _, err := c.Dial(patient(t), "tcp", "10.77.0.10:23"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a closed port: %v", err)
	}
	took, err := c.Ping(patient(t), "10.77.0.10")
	if err != nil || took <= 0 {
		t.Errorf("ping: %v, %v", took, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if _, err := c.Ping(ctx, "10.77.0.99"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ping of nobody: %v", err)
	}
}

func TestMachinesOfSeveralNetworksMeetAtTheirGateways(t *testing.T) {
	l, _ := openLab(t, firm(t))
	db := plugGuest(t, l, "servers", "52:54:00:00:00:0a", "10.77.0.10/24", "10.77.0.1")
	web := plugGuest(t, l, "dmz", "52:54:00:00:00:14", "10.78.0.20/24", "10.78.0.1")
	db.listen("10.77.0.10:5432", "rows")
	conn, err := web.dial("tcp", "10.77.0.10:5432", 2*time.Minute)
	line := readLine(t, conn, err)
	if want := "rows to 10.78.0.20:"; len(line) < len(want) || line[:len(want)] != want {
		t.Errorf("read %q", line)
	}
}

func TestNothingLeadsOutOfALab(t *testing.T) {
	l, _ := openLab(t, firm(t))
	db := plugGuest(t, l, "servers", "52:54:00:00:00:0a", "10.77.0.10/24", "10.77.0.1")
	outside, err := net.Listen("tcp4", "0.0.0.0:0")
	must(t, err)
	defer outside.Close()
	port := outside.Addr().(*net.TCPAddr).Port
	for _, a := range append(hostAddresses(t), net.IPv4(127, 0, 0, 1), net.IPv4(203, 0, 113, 9), net.IPv4(10, 77, 0, 1)) {
		conn, err := db.dial("tcp", fmt.Sprintf("%s:%d", a, port), time.Second)
		if err == nil {
			conn.Close()
			t.Errorf("a guest reached %s", a)
		}
	}
}

func TestDHCPGivesEachCardItsAddressOfProduction(t *testing.T) {
	l, c := openLab(t, firm(t))
	db := plugGuest(t, l, "servers", "52:54:00:00:00:0a", "", "")
	offer := db.dhcp(t, "52:54:00:00:00:0a", dhcpv4.MessageTypeDiscover)
	if offer == nil || offer.YourIPAddr.String() != "10.77.0.10" || offer.Router()[0].String() != "10.77.0.1" ||
		offer.SubnetMask().String() != "ffffff00" || offer.HostName() != "db" || offer.DomainName() != "firm.example" ||
		len(offer.DNS()) != 2 || offer.DNS()[0].String() != "10.77.0.53" {
		t.Fatalf("the offer is %v", offer)
	}
	if ack := db.dhcp(t, "52:54:00:00:00:0a", dhcpv4.MessageTypeRequest); ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck {
		t.Fatalf("the answer to the request is %v", ack)
	}
	if got := db.dhcp(t, "52:54:00:00:00:0b", dhcpv4.MessageTypeDiscover); got != nil {
		t.Errorf("a stranger was answered: %v", got)
	}
	st, err := c.Status(patient(t))
	must(t, err)
	if st.Leases["52:54:00:00:00:0a"] != address("10.77.0.10") || st.Strangers == 0 {
		t.Errorf("the status is %+v", st)
	}
}

// dhcp asks from the guest and returns the answer; nil is none within a while.
func (g pretender) dhcp(t *testing.T, mac string, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	t.Helper()
	hardware, err := net.ParseMAC(mac)
	must(t, err)
	q, err := dhcpv4.NewDiscovery(hardware, dhcpv4.WithMessageType(kind))
	must(t, err)
	var conn net.PacketConn
	g.do(func() (err error) {
		conn, err = listenPacket("0.0.0.0:68", func(fd int) error {
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1), unix.BindToDevice(fd, insideName))
		})
		return err
	})
	defer conn.Close()
	buffer := make([]byte, 1500)
	for range 3 {
		_, err = conn.WriteTo(q.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 67})
		must(t, err)
		conn.SetReadDeadline(time.Now().Add(time.Second))
		if n, _, err := conn.ReadFrom(buffer); err == nil {
			reply, err := dhcpv4.FromBytes(buffer[:n])
			must(t, err)
			if reply.TransactionID == q.TransactionID {
				return reply
			}
		}
	}
	return nil
}

func TestDNSAnswersAtTheAddressesOfProductionsServers(t *testing.T) {
	l, c := openLab(t, firm(t))
	db := plugGuest(t, l, "servers", "52:54:00:00:00:0a", "10.77.0.10/24", "10.77.0.1")
	for _, server := range []string{"10.77.0.53", "203.0.113.53", "10.77.0.1"} {
		r := db.resolver(server)
		for name, want := range map[string]string{
			"web": "10.78.0.20", "WWW": "10.78.0.20", "db.firm.example": "10.77.0.10", "db": "10.77.0.10", "mail.firm.example": "10.77.0.25",
		} {
			got, err := r.LookupHost(patient(t), name+".")
			if err != nil || !slices.Equal(got, []string{want}) {
				t.Errorf("%s says of %s: %v (%v), not %s", server, name, got, err, want)
			}
		}
		_, err := r.LookupHost(patient(t), "update.vendor.example.")
		var none *net.DNSError
		if !errors.As(err, &none) || !none.IsNotFound {
			t.Errorf("%s says of a name of the world: %v", server, err)
		}
		names, err := r.LookupAddr(patient(t), "10.77.0.10")
		if err != nil || len(names) != 1 || names[0] != "db." {
			t.Errorf("%s says of 10.77.0.10: %v (%v)", server, names, err)
		}
	}
	got, err := c.Lookup(patient(t), "10.77.0.1", "web")
	if err != nil || !slices.Equal(got, []netip.Addr{address("10.78.0.20")}) {
		t.Errorf("the lab's own lookup: %v (%v)", got, err)
	}
	if _, err := c.Lookup(patient(t), "10.77.0.1", "nobody"); !errors.Is(err, ErrNoName) {
		t.Errorf("a name that is not there: %v", err)
	}
	st, err := c.Status(patient(t))
	must(t, err)
	if !slices.Contains(st.Unknown, "update.vendor.example") {
		t.Errorf("nobody is told that a guest asked for update.vendor.example: %+v", st)
	}
}

// TestALabIsFoundAgainByItsCables loses the process that made the lab.
func TestALabIsFoundAgainByItsCables(t *testing.T) {
	config := firm(t)
	first, c := openLab(t, config)
	cable, err := c.Tap(patient(t), "servers")
	must(t, err)
	defer cable.Close()
	if n, err := first.Cables(); n != 1 || err != nil {
		t.Fatalf("%d cables (%v)", n, err)
	}
	db := plugGuest(t, first, "servers", "52:54:00:00:00:0a", "10.77.0.10/24", "10.77.0.1")
	db.listen("10.77.0.10:22", "SSH")
	second, err := Open(config)
	must(t, err)
	defer second.Close()
	if !second.ns.Equal(first.ns) {
		t.Fatal("another namespace was made")
	}
	conn, err := second.Dial(patient(t), "tcp", "10.77.0.10:22")
	readLine(t, conn, err)
	other := config
	other.Name += "x"
	third, err := Open(other)
	must(t, err)
	defer third.Close()
	if third.ns.Equal(first.ns) {
		t.Error("another lab is the same namespace")
	}
	// The last holder takes the lab with it.
	must(t, cable.Close())
	until(t, func() bool { n, err := first.Cables(); return n == 0 && err == nil })
}

// until waits for what has to become true.
func until(t *testing.T, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not become true")
		}
	}
}
