package netlab

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a lab's own namespace does with packets. These rules and routes are inside;
// they end with the lab.

// rulesTable is the name of the lab's table. There is no other in its namespace.
const rulesTable = "lifeboat"

// A packet that this process takes in is marked, and so finds the table that makes
// every address its own.
const (
	takenMark  = 1
	takenTable = 100
)

// nft runs f on the rules of the lab.
func (l *Lab) nft(f func(c *nftables.Conn, t *nftables.Table)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(l.ns)))
	if err != nil {
		return err
	}
	f(c, c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: rulesTable}))
	return c.Flush()
}

// clearRules takes away what an earlier process of this lab left.
func (l *Lab) clearRules() error {
	return l.nft(func(c *nftables.Conn, t *nftables.Table) { c.DelTable(t) })
}

// takeForeign gives this process what guests of networks with an uplink send to
// addresses outside the lab.
func (s *server) takeForeign() error {
	config := s.lab.config
	err := s.lab.nft(func(c *nftables.Conn, t *nftables.Table) {
		chain := c.AddChain(&nftables.Chain{
			Name: "take", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
		})
		rule := func(parts ...[]expr.Any) {
			var all []expr.Any
			for _, p := range parts {
				all = append(all, p...)
			}
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: all})
		}
		for _, p := range append(s.stays(), netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("127.0.0.0/8")) {
			rule(toNetwork(p), verdict(expr.VerdictAccept))
		}
		for _, n := range config.Networks {
			if bridge, err := config.bridge(n.Name); err == nil && n.Uplink {
				for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
					rule(fromInterface(bridge), ofProtocol(protocol), take(uplinkPort), verdict(expr.VerdictAccept))
				}
			}
		}
	})
	if err != nil {
		return err
	}
	return s.lab.within(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		rule := netlink.NewRule()
		rule.Mark, rule.Table, rule.Family = takenMark, takenTable, netlink.FAMILY_V4
		if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{
			LinkIndex: lo.Attrs().Index, Table: takenTable, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
			Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
		})
	})
}

// stays are the networks and addresses that are inside.
func (s *server) stays() []netip.Prefix {
	var all []netip.Prefix
	for _, n := range s.lab.config.Networks {
		if n.CIDR.IsValid() {
			all = append(all, n.CIDR.Masked())
		}
	}
	for _, a := range s.lab.config.servers() {
		all = append(all, netip.PrefixFrom(a, 32))
	}
	return append(all, s.lab.config.vpnNetwork())
}

// guardVPN lets staff reach the machines, by the lab's own address, which each
// machine can answer without a route; and lets no machine reach the staff.
func (l *Lab) guardVPN() error {
	return l.nft(func(c *nftables.Conn, t *nftables.Table) {
		staff := l.config.vpnNetwork()
		nat := c.AddChain(&nftables.Chain{
			Name: "staff-in", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		c.AddRule(&nftables.Rule{Table: t, Chain: nat, Exprs: append(address4(12, staff), &expr.Masq{})})
		forward := c.AddChain(&nftables.Chain{
			Name: "staff-out", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		fresh := []expr.Any{
			&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(expr.CtStateBitNEW), Xor: native(0)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native(0)},
		}
		c.AddRule(&nftables.Rule{Table: t, Chain: forward, Exprs: append(append(toNetwork(staff), fresh...), verdict(expr.VerdictDrop)...)})
	})
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func fromInterface(name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded}}
}

func ofProtocol(p byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}}}
}

func toNetwork(p netip.Prefix) []expr.Any { return address4(16, p) }

// address4 matches the address at an offset of the IPv4 header: 12 is whence, 16
// whereto.
func address4(offset uint32, p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// take gives a packet to the socket at a port of the lab's loopback.
func take(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{127, 0, 0, 1}},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.TProxy{Family: unix.NFPROTO_IPV4, TableFamily: unix.NFPROTO_IPV4, RegAddr: 1, RegPort: 2},
		&expr.Immediate{Register: 1, Data: native(takenMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
