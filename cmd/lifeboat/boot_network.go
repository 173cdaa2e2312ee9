package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lifeboat"
	"lifeboat/hypervisor"
)

// parseNetwork reads where a cable goes: segment, user, none, bridge:NAME or
// network:NAME. The name of the private network is not its business.
func parseNetwork(text string) (hypervisor.Network, error) {
	word, name, named := strings.Cut(text, ":")
	n := hypervisor.Network{Kind: hypervisor.NetworkKind(word), Name: name}
	switch n.Kind {
	case hypervisor.NetworkSegment, hypervisor.NetworkUser, hypervisor.NetworkNone:
		if named {
			return n, fmt.Errorf("%s takes no name, and got %q", word, name)
		}
	case hypervisor.NetworkBridge, hypervisor.NetworkNamed:
		if name == "" {
			return n, fmt.Errorf("%s needs a name: %s:NAME", word, word)
		}
	default:
		return n, fmt.Errorf("%q is not one of: segment, user, none, bridge:NAME, network:NAME", text)
	}
	return n, nil
}

// cables knows where the cards of each of the source's networks go.
type cables struct {
	others hypervisor.Network
	mapped map[string]hypervisor.Network
}

func (c cables) of(n lifeboat.NIC) hypervisor.Network {
	if to, ok := c.mapped[n.Network]; ok {
		return to
	}
	return c.others
}

// cables reads --network and --map.
func (pl planner) cables(plan *bootPlan) (c cables, err error) {
	if c.others, err = pl.cable(plan.Network); err != nil {
		return c, usagef("--network: %v", err)
	}
	c.mapped = map[string]hypervisor.Network{}
	for _, text := range pl.maps {
		// A source's network may have any name; what it leads to has no "=" before
		// its own name begins.
		source, to, ok := strings.Cut(text, "=")
		if !ok || source == "" {
			return c, usagef("--map takes SOURCE=none, SOURCE=bridge:NAME, SOURCE=network:NAME and so on, not %q", text)
		}
		if _, twice := c.mapped[source]; twice {
			return c, usagef("--map: the network %q stands twice", source)
		}
		if !plan.knowsNetwork(source) {
			return c, usagef("--map: none of the machines has a card on a network %q; they have: %s", source, list(plan.networks()))
		}
		if c.mapped[source], err = pl.cable(to); err != nil {
			return c, usagef("--map %s: %v", source, err)
		}
	}
	return c, nil
}

func (pl planner) cable(text string) (hypervisor.Network, error) {
	n, err := parseNetwork(text)
	if err == nil && n.Kind == hypervisor.NetworkSegment {
		n.Name = "boot-" + short(pl.run)
		if !pl.segments {
			err = fmt.Errorf("this host has no private networks; say network:NAME, or none")
		}
	}
	return n, err
}

// networks lists the source's networks that the machines have cards on.
func (p *bootPlan) networks() []string {
	var names []string
	for _, m := range p.Machines {
		for _, n := range m.Point.Machine.NICs {
			if n.Network != "" {
				names = append(names, n.Network)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (p *bootPlan) knowsNetwork(name string) bool { return slices.Contains(p.networks(), name) }

// addNetworks decides where each network card's cable goes, and what the private
// network is like: that of the first machine on it whose address is known.
func (pl planner) addNetworks(plan *bootPlan) error {
	c, err := pl.cables(plan)
	if err != nil {
		return err
	}
	var used []netip.Addr
	for i := range plan.Machines {
		b := &plan.Machines[i]
		for _, n := range b.Point.Machine.NICs {
			to := c.of(n)
			b.Networks = append(b.Networks, to)
			p, ok := addressOf(n)
			if !ok || to.Kind != hypervisor.NetworkSegment {
				continue
			}
			used = append(used, p.Addr())
			if plan.Segment == nil {
				plan.Segment = &plannedSegment{Name: to.Name, CIDR: p.Masked()}
			}
		}
	}
	if plan.Segment != nil {
		plan.Segment.HostAddress = freeAddress(plan.Segment.CIDR, used)
	}
	return nil
}

// unplugged says that some card has no cable.
func (p *bootPlan) unplugged() bool {
	for _, m := range p.Machines {
		for _, n := range m.Networks {
			if n.Kind == hypervisor.NetworkNone {
				return true
			}
		}
	}
	return false
}

// way is how a machine is reached: through its first card that is plugged in and
// whose address is known, or else its first that is plugged in.
func (b *plannedBoot) way() (card int, address netip.Addr, kind hypervisor.NetworkKind) {
	card, kind = -1, hypervisor.NetworkNone
	for i, n := range b.Point.Machine.NICs {
		if b.Networks[i].Kind == hypervisor.NetworkNone {
			continue
		}
		if p, ok := addressOf(n); ok {
			return i, p.Addr(), b.Networks[i].Kind
		}
		if card < 0 {
			card, kind = i, b.Networks[i].Kind
		}
	}
	return card, netip.Addr{}, kind
}

// addWays turns forwards into open ports of the loopback, and finds the way to
// each service that is to be checked.
func (pl planner) addWays(plan *bootPlan) error {
	for _, text := range pl.forwards {
		hostPort, machine, port, err := parseForward(text)
		if err != nil {
			return err
		}
		b, err := plan.find(machine)
		if err != nil {
			return err
		}
		if _, _, kind := b.way(); kind != hypervisor.NetworkSegment && kind != hypervisor.NetworkUser {
			return usagef("--forward goes with a card on segment or user; %s is on %s", machine, kind)
		}
		if _, err := pl.forward(b, hostPort, port); err != nil {
			return err
		}
	}
	for _, text := range pl.checks {
		c, err := parseCheck(text)
		if err != nil {
			return err
		}
		b, err := plan.find(c.Machine)
		if err != nil {
			return err
		}
		if err := pl.reach(b, &c); err != nil {
			return err
		}
		b.Checks = append(b.Checks, c)
	}
	return nil
}

// reach finds the way to a service.
func (pl planner) reach(b *plannedBoot, c *bootCheck) error {
	_, address, kind := b.way()
	switch kind {
	case hypervisor.NetworkSegment:
		f, err := pl.forward(b, 0, c.Port)
		c.Dial, c.Guest = loopback(f.HostPort), net.JoinHostPort(f.Address, strconv.Itoa(c.Port))
		return err
	case hypervisor.NetworkUser:
		if c.Kind == "tcp" {
			return usagef("--check %s=tcp: on --network user a connection says nothing, because QEMU accepts it first; use http", shellWord(c.Machine))
		}
		f, err := pl.forward(b, 0, c.Port)
		c.Dial = loopback(f.HostPort)
		return err
	case hypervisor.NetworkBridge, hypervisor.NetworkNamed:
		if !address.IsValid() {
			return noAddress(b.Name, c.Port)
		}
		c.Dial, c.direct = net.JoinHostPort(address.String(), strconv.Itoa(c.Port)), true
		return nil
	default:
		return usagef("--check %s: a network is needed: --network segment, user, bridge:NAME or network:NAME", shellWord(c.Machine))
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func noAddress(machine string, port int) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: its address is not known, so no way leads to its port %d (no agent told it when it was exported)", machine, port),
		Safe: "nothing was started",
		Next: fmt.Sprintf("say it: --address %s=ADDRESS/BITS", shellWord(machine)),
	}
}

// forward returns the way from the loopback to a machine's port, opening one
// where there is none yet.
func (pl planner) forward(b *plannedBoot, hostPort, port int) (bootForward, error) {
	for _, f := range b.Forwards {
		if f.GuestPort == port && (hostPort == 0 || hostPort == f.HostPort) {
			return f, nil
		}
	}
	if hostPort == 0 {
		var err error
		if hostPort, err = pl.freePort(); err != nil {
			return bootForward{}, err
		}
	}
	f := bootForward{HostPort: hostPort, GuestPort: port}
	card, address, kind := b.way()
	if kind == hypervisor.NetworkSegment {
		if !address.IsValid() {
			return bootForward{}, noAddress(b.Name, port)
		}
		f.Address = address.String()
	} else {
		to := &b.Networks[card]
		to.Forwards = append(to.Forwards, hypervisor.Forward{HostPort: hostPort, GuestPort: port})
	}
	b.Forwards = append(b.Forwards, f)
	return f, nil
}

// addressOf returns a card's first IPv4 address that others can reach.
func addressOf(n lifeboat.NIC) (netip.Prefix, bool) {
	for _, text := range n.Addresses {
		p, err := netip.ParsePrefix(text)
		if err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// freeAddress finds an address in a network that no machine has, from its end.
func freeAddress(p netip.Prefix, used []netip.Addr) netip.Addr {
	last := p.Addr()
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		last = a
		// Large networks: a free address near the start is as good.
		if host := a.As4(); p.Bits() < 20 && host[2] > 0 && host[3] == 255 {
			break
		}
	}
	for a := last.Prev(); p.Contains(a); a = a.Prev() {
		if !slices.Contains(used, a) {
			return a
		}
	}
	return last
}
