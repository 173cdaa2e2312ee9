package netlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newBridge makes a bridge that ends with the test.
func newBridge(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("changing networks needs root: run the tests as root")
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("lbt%d-%d", os.Getpid(), time.Now().UnixNano()%1000)
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	must(t, netlink.LinkAdd(bridge))
	t.Cleanup(func() {
		if link, err := netlink.LinkByName(attrs.Name); err == nil {
			must(t, netlink.LinkDel(link))
		}
	})
	must(t, netlink.LinkSetUp(bridge))
	return attrs.Name
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func join(t *testing.T, bridge, addr string) *Inside {
	t.Helper()
	in, err := Join(bridge, "10.77.0.0/24", addr)
	must(t, err)
	t.Cleanup(func() { must(t, in.Close()) })
	return in
}

// within runs f on a thread that is inside.
func within(t *testing.T, in *Inside, f func() error) {
	t.Helper()
	must(t, onThread(func() error {
		if err := netns.Set(in.ns); err != nil {
			return err
		}
		return f()
	}))
}

// guest stands in for a guest: it answers at port 22.
func guest(t *testing.T, bridge, addr string) *Inside {
	t.Helper()
	in := join(t, bridge, addr)
	var l net.Listener
	within(t, in, func() (err error) {
		l, err = net.Listen("tcp4", addr+":22")
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "SSH of %s\n", addr)
			conn.Close()
		}
	}()
	return in
}

// routes are all routes of the host.
func routes(t *testing.T) string {
	t.Helper()
	list, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	must(t, err)
	return fmt.Sprint(list)
}

func TestAGuestIsReachedFromInsideAndTheHostHasNoWayThere(t *testing.T) {
	before := routes(t)
	bridge := newBridge(t)
	must(t, Seal(bridge))
	guest(t, bridge, "10.77.0.10")
	in := join(t, bridge, "10.77.0.254")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := in.Dial(ctx, "tcp", "10.77.0.10:22")
	must(t, err)
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if line != "SSH of 10.77.0.10\n" {
		t.Errorf("read %q (%v)", line, err)
	}
	if after := routes(t); after != before {
		t.Errorf("the routes of the host were %s and are %s", before, after)
	}
	must(t, Sealed(bridge))
}

// TestTheProcessStaysWhereItIs: /proc/self shows the namespaces of the main
// thread, and Go may run any goroutine on that.
func TestTheProcessStaysWhereItIs(t *testing.T) {
	bridge := newBridge(t)
	before, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	in := join(t, bridge, "10.77.0.254")
	for range 200 {
		fd, err := in.socket()
		must(t, err)
		must(t, unix.Close(fd))
		if now, err := os.Readlink("/proc/self/ns/net"); err != nil || now != before {
			t.Fatalf("the process was in %s and is in %s (%v)", before, now, err)
		}
	}
}

func TestAPortThatIsClosedIsSaidAtOnce(t *testing.T) {
	bridge := newBridge(t)
	guest(t, bridge, "10.77.0.10")
	in := join(t, bridge, "10.77.0.254")
	_, err := in.Dial(t.Context(), "tcp", "10.77.0.10:23")
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
}

func TestNobodyAtAnAddressEndsWithTheContext(t *testing.T) {
	bridge := newBridge(t)
	in := join(t, bridge, "10.77.0.254")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := in.Dial(ctx, "tcp", "10.77.0.99:22")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Minute {
		t.Errorf("got %v after %v", err, time.Since(began))
	}
}

func TestNothingLeadsFromInsideToTheOutside(t *testing.T) {
	bridge := newBridge(t)
	must(t, Seal(bridge))
	in := join(t, bridge, "10.77.0.254")
	for _, address := range hostAddresses(t) {
		_, err := in.Dial(t.Context(), "tcp", address.String()+":22")
		if !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func hostAddresses(t *testing.T) []net.IP {
	t.Helper()
	list, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	must(t, err)
	var all []net.IP
	for _, a := range list {
		if !a.IP.IsLoopback() {
			all = append(all, a.IP)
		}
	}
	if len(all) == 0 {
		t.Skip("this computer has no address beside the loopback's")
	}
	return all
}

// TestAGuestDoesNotReachTheHost lets a guest try everything: it believes that the
// host is its neighbour, and knows the Ethernet address of the bridge.
func TestAGuestDoesNotReachTheHost(t *testing.T) {
	bridge := newBridge(t)
	host := hostAddresses(t)[0]
	l, err := net.Listen("tcp4", net.JoinHostPort(host.String(), "0"))
	must(t, err)
	defer l.Close()
	in := join(t, bridge, "10.77.0.10")
	link, err := netlink.LinkByName(bridge)
	must(t, err)
	try := func(neighbour bool) error {
		within(t, in, func() error {
			eth, err := netlink.LinkByName(insideName)
			if err != nil {
				return err
			}
			to := &net.IPNet{IP: host, Mask: net.CIDRMask(32, 32)}
			if err := netlink.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: to, Scope: netlink.SCOPE_LINK}); err != nil || !neighbour {
				return err
			}
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: eth.Attrs().Index, IP: host, State: netlink.NUD_PERMANENT,
				HardwareAddr: link.Attrs().HardwareAddr})
		})
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		before := received(t, bridge)
		conn, err := in.Dial(ctx, "tcp", l.Addr().String())
		if err == nil {
			conn.Close()
		}
		if neighbour && received(t, bridge) == before {
			t.Error("nothing came to the bridge: the test proves nothing")
		}
		return err
	}
	// A datagram needs no answer, so a way in alone is seen. Without the seal
	// there is one: so the test can see it.
	try(true)
	strict, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/rp_filter")
	must(t, err)
	switch arrives := datagramArrives(t, in, host, bridge); {
	case !arrives && strings.TrimSpace(string(strict)) == "1":
		t.Log("this host drops packets by the way they came (rp_filter=1): that datagrams stay out is not the seal's doing alone")
	case !arrives:
		t.Error("no datagram comes in although the bridge is open: the test proves nothing")
	}
	must(t, Seal(bridge))
	for _, neighbour := range []bool{false, true} {
		if err := try(neighbour); err == nil {
			t.Errorf("a guest reached the host (it knew its Ethernet address: %v)", neighbour)
		}
	}
	if datagramArrives(t, in, host, bridge) {
		t.Error("a datagram of a guest came to the host")
	}
	neighbours, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
	must(t, err)
	for _, n := range neighbours {
		if n.IP.To4() != nil && !n.IP.IsMulticast() {
			t.Errorf("the host learnt of a guest: %v", n)
		}
	}
}

// datagramArrives sends datagrams from inside to an address of the host, and says
// whether a program of the host gets one.
func datagramArrives(t *testing.T, in *Inside, host net.IP, bridge string) bool {
	t.Helper()
	at, err := net.ListenUDP("udp4", &net.UDPAddr{IP: host})
	must(t, err)
	defer at.Close()
	before := received(t, bridge)
	within(t, in, func() error {
		conn, err := net.DialUDP("udp4", nil, at.LocalAddr().(*net.UDPAddr))
		if err != nil {
			return err
		}
		defer conn.Close()
		for range 3 {
			if _, err := conn.Write([]byte("knock")); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, at.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
	n, _, err := at.ReadFromUDP(make([]byte, 16))
	if received(t, bridge) == before {
		t.Error("nothing came to the bridge: the test proves nothing")
	}
	return err == nil && n > 0
}

// received counts the packets that came to the host through a bridge.
func received(t *testing.T, bridge string) uint64 {
	t.Helper()
	link, err := netlink.LinkByName(bridge)
	must(t, err)
	return link.Attrs().Statistics.RxPackets
}

func TestABridgeWithAnAddressIsNoPrivateNetwork(t *testing.T) {
	bridge := newBridge(t)
	link, err := netlink.LinkByName(bridge)
	must(t, err)
	address, err := netlink.ParseAddr("198.51.100.1/24")
	must(t, err)
	must(t, netlink.AddrAdd(link, address))
	if err := Seal(bridge); err == nil || !strings.Contains(err.Error(), "198.51.100.1") {
		t.Errorf("got %v", err)
	}
}

func TestAPortHasNoAddressOfTheHost(t *testing.T) {
	bridge := newBridge(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "p" + bridge[3:]
	master, err := netlink.LinkByName(bridge)
	must(t, err)
	attrs.MasterIndex = master.Attrs().Index
	port := &netlink.Veth{LinkAttrs: attrs, PeerName: "q" + bridge[3:]}
	must(t, netlink.LinkAdd(port))
	t.Cleanup(func() { must(t, netlink.LinkDel(port)) })
	must(t, netlink.LinkSetUp(port))
	peer, err := netlink.LinkByName(port.PeerName)
	must(t, err)
	must(t, netlink.LinkSetUp(peer))
	for range 300 {
		if err = Sealed(bridge); err != nil && strings.Contains(err.Error(), attrs.Name) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err == nil {
		t.Skip("this kernel has no IPv6")
	}
	must(t, Seal(bridge))
}

func TestWhatIsNoBridgeIsSaid(t *testing.T) {
	for _, name := range []string{"lo", "lb-none"} {
		if _, err := Join(name, "10.77.0.0/24", "10.77.0.254"); !errors.Is(err, ErrNoBridge) {
			t.Errorf("join %s: %v", name, err)
		}
		if err := Seal(name); !errors.Is(err, ErrNoBridge) {
			t.Errorf("seal %s: %v", name, err)
		}
	}
}

func TestWhatIsNoAddressOfTheNetworkIsRefused(t *testing.T) {
	for _, c := range [][2]string{{"10.77.0.0", "10.77.0.1"}, {"fd00::/64", "fd00::1"}, {"10.77.0.0/24", "10.78.0.1"}, {"", ""}} {
		if _, err := Join("lb-none", c[0], c[1]); err == nil || errors.Is(err, ErrNoBridge) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestACableThatWasPulledIsSeen(t *testing.T) {
	bridge := newBridge(t)
	in := join(t, bridge, "10.77.0.254")
	if !in.Plugged() {
		t.Fatal("it is not plugged in")
	}
	ports, err := Ports(bridge)
	must(t, err)
	if len(ports) != 1 || ports[0] != in.cable {
		t.Errorf("the bridge has the ports %v", ports)
	}
	link, err := netlink.LinkByName(bridge)
	must(t, err)
	must(t, netlink.LinkDel(link))
	if in.Plugged() {
		t.Error("it is plugged into a bridge that is gone")
	}
	must(t, in.Close())
	must(t, in.Close())
	if _, err := in.Dial(t.Context(), "tcp", "10.77.0.1:22"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after close: %v", err)
	}
}

const dyingVariable = "LIFEBOAT_TEST_DYING_BRIDGE"

// TestAProcessThatIsKilledLeavesNoCable joins in another process and kills it.
func TestAProcessThatIsKilledLeavesNoCable(t *testing.T) {
	if bridge := os.Getenv(dyingVariable); bridge != "" {
		_, err := Join(bridge, "10.77.0.0/24", "10.77.0.254")
		must(t, err)
		fmt.Println("now")
		select {}
	}
	bridge := newBridge(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestAProcessThatIsKilledLeavesNoCable$")
	cmd.Env = append(os.Environ(), dyingVariable+"="+bridge)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "now\n" {
		t.Errorf("it said %q (%v)", line, err)
	}
	ports, err := Ports(bridge)
	must(t, err)
	if len(ports) != 1 {
		t.Errorf("the bridge has the ports %v", ports)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	for range 1200 {
		if ports, err = Ports(bridge); err != nil || len(ports) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil || len(ports) > 0 {
		t.Errorf("2 minutes later the bridge has the ports %v (%v)", ports, err)
	}
}
