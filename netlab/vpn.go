package netlab

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// VPNFolder is where a lab's folder has the keys of its VPN and the files for the
// staff, staff-1.conf and on, which any WireGuard program takes. They are secrets: who
// has one reaches the machines.
const VPNFolder = "vpn"

// vpnStaff is how many people get a file: each connection needs one of its own.
const vpnStaff = 5

// vpnInterface is what the VPN is called inside, and vpnMTU is what passes through
// every kind of line.
const (
	vpnInterface = "vpn0"
	vpnMTU       = 1280
)

// vpnKeys is keys.json in the VPN's folder, so that the staff's files stay right when
// the lab is served by another process.
type vpnKeys struct {
	Private []byte    `json:"private"`
	Peers   []vpnPeer `json:"peers"`
}

// vpnPeer is one of the staff, as the lab knows them.
type vpnPeer struct {
	Public []byte `json:"public"`
	Shared []byte `json:"shared"`
}

// vpnNetwork is where the staff are: a network that is none of the lab's.
func (c Config) vpnNetwork() netip.Prefix {
	for second := byte(213); second > 0; second-- {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second, 77, 0}), 24)
		free := true
		for _, n := range c.Networks {
			free = free && !(n.CIDR.IsValid() && n.CIDR.Overlaps(p))
		}
		if free {
			return p
		}
	}
	return netip.MustParsePrefix("100.127.77.0/24") // all of 10/8 is the lab's
}

// vpnAddress is an address of the VPN: 1 is the lab's own, 2 and on are the staff's.
func (c Config) vpnAddress(number int) netip.Addr {
	four := c.vpnNetwork().Addr().As4()
	four[3] = byte(number)
	return netip.AddrFrom4(four)
}

// openVPN serves the VPN at a UDP port of this computer.
func (s *server) openVPN(ctx context.Context, dir string, port int) error {
	keys, err := s.lab.vpnKeys(filepath.Join(dir, VPNFolder), port)
	if err != nil {
		return err
	}
	if err := s.lab.guardVPN(); err != nil {
		return fmt.Errorf("guard the VPN: %w", err)
	}
	var inside tun.Device
	if err := s.lab.within(func() (err error) {
		if inside, err = tun.CreateTUN(vpnInterface, vpnMTU); err != nil {
			return err
		}
		link, err := netlink.LinkByName(vpnInterface)
		if err != nil {
			return err
		}
		own := netip.PrefixFrom(s.lab.config.vpnAddress(1), s.lab.config.vpnNetwork().Bits())
		return errors.Join(addAddress(link, own), netlink.LinkSetUp(link))
	}); err != nil {
		if inside != nil {
			inside.Close()
		}
		return err
	}
	// Its sockets are this computer's: they are made outside.
	d := device.NewDevice(inside, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	s.keep(vpnDevice{d})
	if err := d.IpcSet(s.lab.config.vpnSettings(keys, port)); err != nil {
		return err
	}
	if err := d.Up(); err != nil {
		return err
	}
	return s.openDNSAt(s.lab.config.vpnAddress(1))
}

// vpnDevice closes a device as everything else is closed.
type vpnDevice struct{ *device.Device }

func (d vpnDevice) Close() error {
	d.Device.Close()
	return nil
}

// vpnSettings are in the words of WireGuard's interface for its tools.
func (c Config) vpnSettings(keys vpnKeys, port int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%s\nlisten_port=%d\nreplace_peers=true\n", hex.EncodeToString(keys.Private), port)
	for i, p := range keys.Peers {
		fmt.Fprintf(&b, "public_key=%s\npreshared_key=%s\nallowed_ip=%s/32\n",
			hex.EncodeToString(p.Public), hex.EncodeToString(p.Shared), c.vpnAddress(2+i))
	}
	return b.String()
}

// vpnKeys reads the keys, or makes them with the files for the staff.
func (l *Lab) vpnKeys(dir string, port int) (keys vpnKeys, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "keys.json"))
	if err == nil {
		return keys, json.Unmarshal(text, &keys)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return keys, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keys, err
	}
	own, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return keys, err
	}
	keys.Private = own.Bytes()
	for i := range vpnStaff {
		theirs, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return keys, err
		}
		p := vpnPeer{Public: theirs.PublicKey().Bytes(), Shared: make([]byte, 32)}
		rand.Read(p.Shared)
		keys.Peers = append(keys.Peers, p)
		file := l.config.staffFile(i, theirs.Bytes(), p, own.PublicKey().Bytes(), port)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("staff-%d.conf", i+1)), []byte(file), 0o600); err != nil {
			return keys, err
		}
	}
	if text, err = json.Marshal(keys); err != nil {
		return keys, err
	}
	// Last, and whole or not at all: without it, all of them are made anew.
	if err := os.WriteFile(filepath.Join(dir, "keys.new"), text, 0o600); err != nil {
		return keys, err
	}
	return keys, os.Rename(filepath.Join(dir, "keys.new"), filepath.Join(dir, "keys.json"))
}

// staffFile is what one of the staff gives to a WireGuard program.
func (c Config) staffFile(i int, private []byte, p vpnPeer, server []byte, port int) string {
	b64 := base64.StdEncoding.EncodeToString
	networks := []string{c.vpnNetwork().String()}
	for _, n := range c.Networks {
		if n.CIDR.IsValid() {
			networks = append(networks, n.CIDR.Masked().String())
		}
	}
	return fmt.Sprintf(`# The way to the recovered machines, for one person. Keep it as a password.
[Interface]
PrivateKey = %s
Address = %s/32
DNS = %s

[Peer]
PublicKey = %s
PresharedKey = %s
# This computer as it sees itself. If a router or a hoster gives it another address to
# the world, write that one here.
Endpoint = %s
AllowedIPs = %s
PersistentKeepalive = 25
`, b64(private), c.vpnAddress(2+i), c.vpnAddress(1), b64(server), b64(p.Shared),
		netip.AddrPortFrom(outerAddress(), uint16(port)), strings.Join(networks, ", "))
}

// outerAddress is the address that this computer speaks to the world with. Nothing is
// sent to find it.
func outerAddress() netip.Addr {
	c, err := net.Dial("udp4", "192.0.2.1:9")
	if err != nil {
		return netip.IPv4Unspecified()
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}
