package main

import (
	"fmt"
	"net/netip"
	"strings"

	"lifeboat/netlab"
	"lifeboat/runbook"
)

// labConfig is the lab that a plan needs: its isolated networks, and in a recovery
// those behind NAT. A drill has no way out, whatever a network is in a recovery.
func labConfig(run string, plan *runbook.Plan) (netlab.Config, error) {
	c := netlab.Config{Name: run, Names: map[string]netip.Addr{}}
	for _, n := range plan.Networks {
		nat := n.Cable.Kind == runbook.CableNAT && plan.Mode == runbook.Recover
		if !nat && n.Cable.Kind != runbook.CableIsolated && plan.Mode != runbook.Drill || n.Cable.Kind == runbook.CableNone {
			continue
		}
		network, err := labNetwork(plan, n)
		if err != nil {
			return c, fmt.Errorf("network %q: %w", n.Name, err)
		}
		if nat {
			network.Uplink, network.VPN = true, n.VPN
			if network.Forwards, err = labForwards(plan, n, network); err != nil {
				return c, fmt.Errorf("network %q: %w", n.Name, err)
			}
		}
		for name, text := range n.Names {
			a, err := bareAddress(text)
			if err != nil {
				return c, fmt.Errorf("network %q: the name %q: %w", n.Name, name, err)
			}
			c.Names[name] = a
		}
		c.Networks = append(c.Networks, network)
	}
	for _, m := range plan.Machines {
		for _, card := range m.Cards {
			if !labHas(c, card.Network) {
				continue
			}
			c.Cards = append(c.Cards, netlab.Card{
				Machine: m.Name, HostName: m.Point.Machine.HostName, MAC: card.MAC, Network: card.Network, Addresses: prefixes(card.Address),
			})
		}
	}
	return c, nil
}

func labHas(c netlab.Config, network string) bool {
	for _, n := range c.Networks {
		if n.Name == network {
			return true
		}
	}
	return false
}

// labNetwork reads the numbers of a network. Where the plan does not know them, they
// are those of the first card on it that brought its own.
func labNetwork(plan *runbook.Plan, n runbook.PlannedNetwork) (network netlab.Network, err error) {
	network.Name = n.Name
	if n.CIDR != "" {
		if network.CIDR, err = netip.ParsePrefix(n.CIDR); err != nil {
			return network, fmt.Errorf("%q is not a network such as 10.0.7.0/24", n.CIDR)
		}
		network.CIDR = network.CIDR.Masked()
	}
	for _, m := range plan.Machines {
		for _, card := range m.Cards {
			for _, p := range prefixes(card.Address) {
				if card.Network == n.Name && !network.CIDR.IsValid() && p.Bits() < 31 {
					network.CIDR = p.Masked()
				}
			}
		}
	}
	if n.Gateway != "" {
		if network.Gateway, err = bareAddress(n.Gateway); err != nil {
			return network, fmt.Errorf("its gateway: %w", err)
		}
	}
	for _, text := range n.DNS {
		a, err := bareAddress(text)
		if err != nil {
			return network, fmt.Errorf("its DNS server: %w", err)
		}
		// A guest that asks itself, or over IPv6, is not for the lab to answer.
		if a.Is4() && !a.IsLoopback() {
			network.DNS = append(network.DNS, a)
		}
	}
	return network, nil
}

// labForwards are the ways in. They listen on the loopback unless the runbook names
// an address.
func labForwards(plan *runbook.Plan, n runbook.PlannedNetwork, in netlab.Network) ([]netlab.Forward, error) {
	var all []netlab.Forward
	for _, f := range n.Forwards {
		listen := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if f.Address != "" {
			var err error
			if listen, err = netip.ParseAddr(f.Address); err != nil {
				return nil, fmt.Errorf("the forward of port %d: %q is not an address", f.HostPort, f.Address)
			}
		}
		to, ok := addressIn(plan, f.Machine, in)
		if !ok {
			return nil, fmt.Errorf("the forward of port %d: nobody knows the address of %q there", f.HostPort, f.Machine)
		}
		if f.HostPort < 1 || f.HostPort > 65535 || f.Port < 1 || f.Port > 65535 {
			return nil, fmt.Errorf("the forward of port %d to port %d is not possible", f.HostPort, f.Port)
		}
		all = append(all, netlab.Forward{Listen: netip.AddrPortFrom(listen, uint16(f.HostPort)), To: netip.AddrPortFrom(to, uint16(f.Port))})
	}
	return all, nil
}

// addressIn is the first address of a machine in a network.
func addressIn(plan *runbook.Plan, machine string, n netlab.Network) (netip.Addr, bool) {
	for _, m := range plan.Machines {
		for _, card := range m.Cards {
			for _, p := range prefixes(card.Address) {
				if m.Name == machine && card.Network == n.Name && n.CIDR.Contains(p.Addr()) {
					return p.Addr(), true
				}
			}
		}
	}
	return netip.Addr{}, false
}

// prefixes reads addresses, with their bits or without, and leaves out what cannot be
// an address of a card.
func prefixes(texts []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if a := p.Addr(); a.Is4() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsUnspecified() {
			all = append(all, p)
		}
	}
	return all
}

// bareAddress reads an address that may have bits behind it.
func bareAddress(text string) (netip.Addr, error) {
	bare, _, _ := strings.Cut(text, "/")
	a, err := netip.ParseAddr(bare)
	if err != nil {
		return a, fmt.Errorf("%q is not an address", text)
	}
	return a, nil
}
