package qemu

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"lifeboat"
)

// Segment is a private network that only the machines on it see. Nothing is
// routed out of it; what leads in are its forwards.
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

// segmentNetdev is one end of a segment: Ethernet frames in multicast datagrams
// that never leave the loopback. Group and port follow from the name, so that
// machines find each other without anybody in between.
func segmentNetdev(segment, id string) string {
	sum := sha256.Sum256([]byte("segment\x00" + segment))
	// 239/8 is for private use; ports above 20000 and below the usual ephemeral ones.
	port := 20000 + (int(sum[3])<<8|int(sum[4]))%12000
	return fmt.Sprintf("socket,id=%s,mcast=239.%d.%d.%d:%d,localaddr=127.0.0.1", id, sum[0], sum[1], sum[2], port)
}

// OpenSegment starts the gateway of a segment. It runs on its own, like the
// machines, until CloseSegment. Machines on the segment see each other without
// it; it is needed for forwards alone. A gateway that runs already is replaced.
func (h *Host) OpenSegment(ctx context.Context, s Segment) error {
	user, err := s.netdev()
	if err != nil {
		return fmt.Errorf("open segment %q: %w", s.Name, err)
	}
	if err := h.CloseSegment(ctx, s.Name); err != nil {
		return err
	}
	binary, err := h.tool(h.o.Binary)
	if err != nil {
		return err
	}
	dir := h.socketDir("segment", s.Name)
	if err := h.makeSocketDir(dir); err != nil {
		return err
	}
	words := []string{
		"-machine", "none", "-accel", "tcg,tb-size=16", "-display", "none", "-nodefaults", "-no-user-config",
		"-daemonize", "-name", "guest=" + comma("segment "+s.Name), "-D", qemuLogFile,
		"-chardev", "socket,id=command,path=" + comma(filepath.Join(dir, commandSocket)) + ",server=on,wait=off",
		"-mon", "mode=control,chardev=command",
		"-netdev", user, "-netdev", "hubport,id=inside,hubid=1,netdev=user",
		"-netdev", segmentNetdev(s.Name, "wire"), "-netdev", "hubport,id=outside,hubid=1,netdev=wire",
	}
	if err := runDetached(ctx, binary, dir, words); err != nil {
		return &lifeboat.Problem{
			What: fmt.Sprintf("segment %q: its gateway does not start", s.Name),
			Safe: "no machine was changed",
			Next: "choose host ports that are free",
			Err:  err,
		}
	}
	return nil
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

// CloseSegment stops the gateway of a segment; one that does not run is not an
// error.
func (h *Host) CloseSegment(ctx context.Context, name string) error {
	dir := h.socketDir("segment", name)
	mon, err := dialMonitor(ctx, filepath.Join(dir, commandSocket))
	if err == nil {
		defer mon.close()
		p, err := mon.peer()
		if err != nil {
			return fmt.Errorf("close segment %q: %w", name, err)
		}
		if err := mon.run(ctx, "quit", nil, nil); err != nil && !isClosed(err) {
			return fmt.Errorf("close segment %q: %w", name, err)
		}
		if err := p.wait(ctx); err != nil {
			return fmt.Errorf("close segment %q: %w", name, err)
		}
	} else if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return os.RemoveAll(dir)
}
