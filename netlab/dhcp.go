package netlab

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// leaseTime is long: the lab may be served by another process after a while, and an
// address is never given to anybody else.
const leaseTime = 12 * time.Hour

// longestDHCP is what fits into an Ethernet frame.
const longestDHCP = 1500

// answerDHCP answers a guest on a network: each known MAC gets the address that it
// had in production. Anybody else, and anything that is no question, gets nil.
func answerDHCP(c Config, n Network, packet []byte) (reply *dhcpv4.DHCPv4, stranger bool) {
	q, err := dhcpv4.FromBytes(packet)
	if err != nil || q.OpCode != dhcpv4.OpcodeBootRequest {
		return nil, false
	}
	own, ok := c.own(n)
	if !ok {
		return nil, false
	}
	card, ok := c.card(n, q.ClientHWAddr)
	if !ok {
		return nil, true
	}
	address, ok := c.addressOf(card)
	if !ok {
		return nil, true
	}
	kind := dhcpv4.MessageTypeNone
	switch q.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeInform:
		kind = dhcpv4.MessageTypeAck
	case dhcpv4.MessageTypeRequest:
		kind = dhcpv4.MessageTypeAck
		if other := q.ServerIdentifier(); other != nil && !other.Equal(own.Addr().AsSlice()) {
			return nil, false // it took the offer of a guest that serves DHCP
		}
		wanted := q.RequestedIPAddress()
		if wanted == nil {
			wanted = q.ClientIPAddr
		}
		if !wanted.IsUnspecified() && !wanted.Equal(address.Addr().AsSlice()) {
			kind = dhcpv4.MessageTypeNak
		}
	default:
		return nil, false
	}
	reply, err = dhcpv4.NewReplyFromRequest(q, c.lease(n, card, own, address, kind)...)
	if err != nil {
		return nil, false
	}
	if q.MessageType() == dhcpv4.MessageTypeInform {
		reply.YourIPAddr = net.IPv4zero
		reply.Options.Del(dhcpv4.OptionIPAddressLeaseTime)
	}
	return reply, false
}

// lease is what a guest is told.
func (c Config) lease(n Network, card Card, own, address netip.Prefix, kind dhcpv4.MessageType) []dhcpv4.Modifier {
	ip := func(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }
	told := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithServerIP(ip(own.Addr())),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ip(own.Addr()))),
	}
	if kind == dhcpv4.MessageTypeNak {
		return told
	}
	servers := n.DNS
	if len(servers) == 0 {
		servers = []netip.Addr{own.Addr()}
	}
	var dns []net.IP
	for _, d := range servers {
		dns = append(dns, ip(d))
	}
	told = append(told,
		dhcpv4.WithYourIP(ip(address.Addr())),
		dhcpv4.WithNetmask(net.CIDRMask(n.CIDR.Bits(), 32)),
		dhcpv4.WithDNS(dns...),
		dhcpv4.WithLeaseTime(uint32(leaseTime/time.Second)),
	)
	if n.Gateway.IsValid() {
		told = append(told, dhcpv4.WithRouter(ip(n.Gateway)))
	}
	if host, domain, _ := strings.Cut(card.HostName, "."); host != "" {
		told = append(told, dhcpv4.WithOption(dhcpv4.OptHostName(host)))
		if domain != "" {
			told = append(told, dhcpv4.WithOption(dhcpv4.OptDomainName(domain)))
		}
	}
	return told
}

// card finds the card with a MAC on a network.
func (c Config) card(n Network, mac net.HardwareAddr) (Card, bool) {
	i := slices.IndexFunc(c.Cards, func(card Card) bool {
		known, err := net.ParseMAC(card.MAC)
		return err == nil && card.Network == n.Name && known.String() == mac.String()
	})
	if i < 0 {
		return Card{}, false
	}
	return c.Cards[i], true
}

// serveDHCP answers on one network.
func (s *server) serveDHCP(n Network, conn net.PacketConn) {
	buffer := make([]byte, longestDHCP)
	for {
		count, from, err := conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		reply, stranger := answerDHCP(s.lab.config, n, buffer[:count])
		if stranger {
			s.noteStranger()
		}
		if reply == nil {
			continue
		}
		if reply.MessageType() == dhcpv4.MessageTypeAck {
			if a, ok := netip.AddrFromSlice(reply.YourIPAddr.To4()); ok && !a.IsUnspecified() {
				s.noteLease(reply.ClientHWAddr.String(), a)
			}
		}
		// One that has its address already renews it from there; everybody else
		// hears a broadcast, whatever it asked for.
		to := &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
		if u, ok := from.(*net.UDPAddr); ok && !u.IP.IsUnspecified() && reply.MessageType() != dhcpv4.MessageTypeNak {
			to = u
		}
		conn.WriteTo(reply.ToBytes(), to)
	}
}

// listenDHCP opens port 67 on one bridge, from a thread that is inside.
func listenDHCP(bridge string) (net.PacketConn, error) {
	return listenPacket("0.0.0.0:67", func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		return unix.BindToDevice(fd, bridge)
	})
}
