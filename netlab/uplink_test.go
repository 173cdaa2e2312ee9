package netlab

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// outside is a server somewhere in the world: a namespace at the other end of a cable
// of this computer, which has 198.51.100.1 there.
func outside(t *testing.T) pretender {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("changing networks needs root: run the tests as root")
	}
	ns, err := newNamespace()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("lbw%d", os.Getpid())
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: insideName, PeerNamespace: netlink.NsFd(ns)}))
	link, err := netlink.LinkByName(attrs.Name)
	must(t, err)
	t.Cleanup(func() { netlink.LinkDel(link) })
	must(t, addAddress(link, prefix("198.51.100.1/24")))
	must(t, netlink.LinkSetUp(link))
	w := pretender{t, ns}
	w.do(func() error {
		link, err := netlink.LinkByName(insideName)
		if err != nil {
			return err
		}
		if err := addAddress(link, prefix("198.51.100.7/24")); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		// It would answer whoever came from a guest's own address.
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(198, 51, 100, 1)})
	})
	return w
}

// behindNAT is the firm with a way out, and one way in.
func behindNAT(t *testing.T) (c Config, port int) {
	c = firm(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	port = l.Addr().(*net.TCPAddr).Port
	must(t, l.Close())
	c.Networks[0].Uplink = true
	c.Networks[0].Forwards = []Forward{{Listen: netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", port)), To: netip.MustParseAddrPort("10.77.0.10:22")}}
	return c, port
}

func TestGuestsBehindNATReachOutByThisComputersAddress(t *testing.T) {
	world := outside(t)
	config, _ := behindNAT(t)
	l, _ := openLab(t, config)
	db := plugGuest(t, l, "servers", "52:54:00:00:00:0a", "10.77.0.10/24", "10.77.0.1")
	world.listen("198.51.100.7:80", "hello")
	c, err := db.dial("tcp", "198.51.100.7:80", 2*time.Minute)
	if line := readLine(t, c, err); !strings.HasPrefix(line, "hello to 198.51.100.1:") {
		t.Errorf("the server says %q", line)
	}
	world.echo(t, "198.51.100.7:123")
	for range 2 { // a packet, and one of a flow that is open
		if got := db.say(t, "198.51.100.7:123"); !strings.HasPrefix(got, "198.51.100.1:") {
			t.Errorf("the server saw %q", got)
		}
	}
	if c, err := db.dial("tcp", "198.51.100.7:81", 2*time.Minute); err == nil {
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("a closed port said %d bytes", n)
		}
		c.Close()
	}
}

// echo answers each packet with whom it came from.
func (g pretender) echo(t *testing.T, at string) {
	t.Helper()
	var udp net.PacketConn
	g.do(func() (err error) {
		udp, err = listenPacket(at, nil)
		return err
	})
	t.Cleanup(func() { udp.Close() })
	go func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			udp.WriteTo([]byte(from.String()), from)
		}
	}()
}

// say sends a packet until one comes back.
func (g pretender) say(t *testing.T, to string) string {
	t.Helper()
	c, err := g.dial("udp", to, time.Minute)
	must(t, err)
	defer c.Close()
	buffer := make([]byte, 100)
	for range 60 {
		c.Write([]byte("time?"))
		c.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := c.Read(buffer); err == nil {
			return string(buffer[:n])
		}
	}
	return ""
}

func TestNothingComesInBehindNATButByAForward(t *testing.T) {
	world := outside(t)
	config, port := behindNAT(t)
	l, _ := openLab(t, config)
	db := plugGuest(t, l, "servers", "52:54:00:00:00:0a", "10.77.0.10/24", "10.77.0.1")
	db.listen("10.77.0.10:22", "SSH")
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if line := readLine(t, c, err); !strings.HasPrefix(line, "SSH to 10.77.0.1:") {
		t.Errorf("through the forward: %q", line)
	}
	if c, err := world.dial("tcp", fmt.Sprintf("198.51.100.1:%d", port), time.Second); err == nil {
		c.Close()
		t.Error("the world reached the forward, which is on the loopback")
	}
	// Somebody else may have that address in this computer's world; the guest is not it.
	if c, err := net.DialTimeout("tcp4", "10.77.0.10:22", time.Second); err == nil {
		c.SetReadDeadline(time.Now().Add(time.Second))
		answer := make([]byte, 4)
		if n, _ := c.Read(answer); string(answer[:n]) == "SSH " {
			t.Error("this computer reached a guest without a forward")
		}
		c.Close()
	}
}

// TestAGuestBehindNATDoesNotReachThisComputer: it would come from within.
func TestAGuestBehindNATDoesNotReachThisComputer(t *testing.T) {
	config, _ := behindNAT(t)
	l, _ := openLab(t, config)
	db := plugGuest(t, l, "servers", "52:54:00:00:00:0a", "10.77.0.10/24", "10.77.0.1")
	secret, err := net.Listen("tcp4", "0.0.0.0:0")
	must(t, err)
	defer secret.Close()
	reached := make(chan string, 10)
	go func() {
		for {
			c, err := secret.Accept()
			if err != nil {
				return
			}
			reached <- c.LocalAddr().String()
			c.Close()
		}
	}()
	for _, a := range hostAddresses(t) {
		if c, err := db.dial("tcp", fmt.Sprintf("%s:%d", a, secret.Addr().(*net.TCPAddr).Port), time.Second); err == nil {
			c.SetReadDeadline(time.Now().Add(time.Second))
			c.Read(make([]byte, 1))
			c.Close()
		}
	}
	select {
	case a := <-reached:
		t.Errorf("a guest reached %s", a)
	default:
	}
	for text, want := range map[string]bool{
		"198.51.100.7": true, "169.254.169.254": false, "127.0.0.1": false, "10.77.0.9": false, "224.0.0.1": false, "255.255.255.255": false, "0.0.0.0": false,
	} {
		if got := config.mayReach(address(text), nil); got != want {
			t.Errorf("may reach %s: %v", text, got)
		}
	}
}

// TestStaffReachMachinesThroughTheVPN gives a staff file to a WireGuard of its own.
func TestStaffReachMachinesThroughTheVPN(t *testing.T) {
	world := outside(t)
	config, _ := behindNAT(t)
	probe, err := net.ListenPacket("udp4", "0.0.0.0:0")
	must(t, err)
	config.Networks[0].VPN = probe.LocalAddr().(*net.UDPAddr).Port
	must(t, probe.Close())
	l, c := openLab(t, config)
	st, err := c.Status(patient(t))
	must(t, err)
	if len(st.Closed) > 0 {
		t.Fatalf("closed: %v", st.Closed)
	}
	// A guest without a gateway is reached as well.
	db := plugGuest(t, l, "servers", "52:54:00:00:00:0a", "10.77.0.10/24", "")
	db.listen("10.77.0.10:22", "SSH")
	folder := filepath.Join(c.Dir, VPNFolder)
	file := filepath.Join(folder, "staff-2.conf")
	for path, mode := range map[string]os.FileMode{folder: 0o700, file: 0o600, filepath.Join(folder, "keys.json"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v (%v), not %v", path, info.Mode(), err, mode)
		}
	}
	world.staff(t, file, fmt.Sprintf("198.51.100.1:%d", config.Networks[0].VPN))
	conn, err := world.dial("tcp", "10.77.0.10:22", 2*time.Minute)
	if line := readLine(t, conn, err); !strings.HasPrefix(line, "SSH to 10.77.0.1:") {
		t.Errorf("the machine says %q", line)
	}
	got, err := world.resolver(config.vpnAddress(1).String()).LookupHost(patient(t), "db.")
	if err != nil || got[0] != "10.77.0.10" {
		t.Errorf("the name of the machine: %v (%v)", got, err)
	}
}

// staff brings up a WireGuard interface in the namespace from a staff file.
func (g pretender) staff(t *testing.T, file, endpoint string) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	said := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok {
			said[key] = value
		}
	}
	key := func(name string) string {
		raw, err := base64.StdEncoding.DecodeString(said[name])
		must(t, err)
		return hex.EncodeToString(raw)
	}
	settings := fmt.Sprintf("private_key=%s\npublic_key=%s\npreshared_key=%s\nendpoint=%s\n", key("PrivateKey"), key("PublicKey"), key("PresharedKey"), endpoint)
	networks := strings.Split(said["AllowedIPs"], ", ")
	for _, n := range networks {
		settings += "allowed_ip=" + n + "\n"
	}
	g.do(func() error {
		inside, err := tun.CreateTUN("wgt0", vpnMTU)
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName("wgt0")
		if err != nil {
			return err
		}
		must(t, addAddress(link, prefix(said["Address"])))
		must(t, netlink.LinkSetUp(link))
		for _, n := range networks {
			_, dst, _ := net.ParseCIDR(n)
			must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}))
		}
		d := device.NewDevice(inside, boundIn{conn.NewDefaultBind(), g}, device.NewLogger(device.LogLevelError, "staff: "))
		t.Cleanup(d.Close)
		must(t, d.IpcSet(settings))
		return nil
	})
	until(t, func() bool {
		_, err := g.dial("udp", "10.77.0.10:9", time.Second)
		return err == nil
	})
}

// boundIn opens the sockets of a WireGuard inside a namespace.
type boundIn struct {
	conn.Bind
	g pretender
}

func (b boundIn) Open(port uint16) (fns []conn.ReceiveFunc, actual uint16, err error) {
	b.g.do(func() error {
		fns, actual, err = b.Bind.Open(port)
		return nil
	})
	return fns, actual, err
}

func TestNamesOfTheWorldAreAnsweredBehindNATOnly(t *testing.T) {
	list := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(list, []byte("# a comment\nsearch firm.example\nnameserver 192.0.2.53\nnameserver nonsense\nnameserver 2001:db8::53\n"), 0o600))
	if got := fmt.Sprint(resolvers(list)); got != "[192.0.2.53 2001:db8::53]" {
		t.Errorf("the resolvers are %s", got)
	}
	config, _ := behindNAT(t)
	if got := fmt.Sprint(config.servers()); got != "[10.77.0.53]" {
		t.Errorf("behind NAT the lab stands for %s; a server of the world is reached", got)
	}
	if got := fmt.Sprint(firm(t).servers()); got != "[10.77.0.53 203.0.113.53]" {
		t.Errorf("in a drill the lab stands for %s", got)
	}
}
