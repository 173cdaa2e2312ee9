package qemu

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
)

// Segment is a private network that only the machines on it see. Nothing is
// routed out of it; what leads in are the forwards of its [Gateway].
type Segment struct {
	// Name is what the machines' hypervisor.Network says.
	Name string
	// CIDR is the network that the guests believe to be on, and HostAddress the
	// address in it that the gateway answers at.
	CIDR        string
	HostAddress string
	// Forwards lead from this host's loopback to guests, which keep the
	// addresses they have in production.
	Forwards []SegmentForward
}

// SegmentForward leads from a TCP port of this host's loopback to a port of a
// guest on the segment.
type SegmentForward struct {
	HostPort  int
	Address   string
	GuestPort int
}

// segmentGroup is the multicast group that a segment's Ethernet frames travel
// in, on the loopback only. It follows from the name, so that machines find each
// other without anybody in between.
func segmentGroup(segment string) *net.UDPAddr {
	sum := sha256.Sum256([]byte("segment\x00" + segment))
	// 239/8 is for private use; ports above 20000 and below the usual ephemeral ones.
	port := 20000 + (int(sum[3])<<8|int(sum[4]))%12000
	return &net.UDPAddr{IP: net.IPv4(239, sum[0], sum[1], sum[2]), Port: port}
}

// SegmentNetdev is a machine's end of a segment, as QEMU's -netdev takes it.
func SegmentNetdev(segment, id string) string {
	return fmt.Sprintf("socket,id=%s,mcast=%s,localaddr=127.0.0.1", id, segmentGroup(segment))
}

// netdev is the gateway's own stack: it forwards connections to guests and
// lets none of theirs out.
func (s *Segment) netdev() (string, error) {
	prefix, err := netip.ParsePrefix(s.CIDR)
	if err != nil || !prefix.Addr().Is4() {
		return "", fmt.Errorf("%q is not a network such as 10.0.7.0/24", s.CIDR)
	}
	host, err := netip.ParseAddr(s.HostAddress)
	if err != nil || !prefix.Contains(host) {
		return "", fmt.Errorf("%q is not an address in %s", s.HostAddress, s.CIDR)
	}
	word := fmt.Sprintf("user,id=user,restrict=on,net=%s,host=%s", prefix.Masked(), host)
	if dns, ok := s.spare(prefix, host); ok {
		word += ",dns=" + dns.String()
	}
	for _, f := range s.Forwards {
		guest, err := netip.ParseAddr(f.Address)
		if err != nil || !prefix.Contains(guest) {
			return "", fmt.Errorf("%q is not an address in %s", f.Address, s.CIDR)
		}
		if f.HostPort < 1 || f.HostPort > 65535 || f.GuestPort < 1 || f.GuestPort > 65535 {
			return "", fmt.Errorf("forward %d to %s:%d is not possible", f.HostPort, f.Address, f.GuestPort)
		}
		word += fmt.Sprintf(",hostfwd=tcp:%s-%s", net.JoinHostPort("127.0.0.1", fmt.Sprint(f.HostPort)),
			net.JoinHostPort(guest.String(), fmt.Sprint(f.GuestPort)))
	}
	return word, nil
}

// guestPorts are the ports of guests that forwards lead to. None has answered.
func (s *Segment) guestPorts() map[netip.AddrPort]bool {
	ports := map[netip.AddrPort]bool{}
	for _, f := range s.Forwards {
		if a, err := netip.ParseAddr(f.Address); err == nil {
			ports[netip.AddrPortFrom(a, uint16(f.GuestPort))] = false
		}
	}
	return ports
}

// spare is an address for the name server that the stack insists on: the highest
// one that is nobody's we know, so that it answers for no guest.
func (s *Segment) spare(prefix netip.Prefix, host netip.Addr) (netip.Addr, bool) {
	taken := map[netip.Addr]bool{host: true}
	for _, f := range s.Forwards {
		if a, err := netip.ParseAddr(f.Address); err == nil {
			taken[a] = true
		}
	}
	broadcast := prefix.Masked().Addr()
	bytes := broadcast.As4()
	for bit := prefix.Bits(); bit < 32; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	broadcast = netip.AddrFrom4(bytes)
	for a := broadcast.Prev(); prefix.Contains(a) && a != prefix.Masked().Addr(); a = a.Prev() {
		if !taken[a] {
			return a, true
		}
	}
	return netip.Addr{}, false
}
