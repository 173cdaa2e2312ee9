package qemu

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"

	"lifeboat/hypervisor"
)

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

// segmentUser is the gateway's own stack: it forwards connections to guests and
// lets none of theirs out.
func segmentUser(s hypervisor.Segment) (string, error) {
	prefix, err := netip.ParsePrefix(s.CIDR)
	if err != nil || !prefix.Addr().Is4() {
		return "", fmt.Errorf("%q is not a network such as 10.0.7.0/24", s.CIDR)
	}
	host, err := netip.ParseAddr(s.HostAddress)
	if err != nil || !prefix.Contains(host) {
		return "", fmt.Errorf("%q is not an address in %s", s.HostAddress, s.CIDR)
	}
	word := fmt.Sprintf("user,id=user,restrict=on,net=%s,host=%s", prefix.Masked(), host)
	if dns, ok := spareAddress(s, prefix, host); ok {
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
func guestPorts(s hypervisor.Segment) map[netip.AddrPort]bool {
	ports := map[netip.AddrPort]bool{}
	for _, f := range s.Forwards {
		if a, err := netip.ParseAddr(f.Address); err == nil {
			ports[netip.AddrPortFrom(a, uint16(f.GuestPort))] = false
		}
	}
	return ports
}

// spareAddress is an address for the name server that the stack insists on: the highest
// one that is nobody's we know, so that it answers for no guest.
func spareAddress(s hypervisor.Segment, prefix netip.Prefix, host netip.Addr) (netip.Addr, bool) {
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
