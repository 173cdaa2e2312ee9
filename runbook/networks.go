package runbook

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/yamlfile"
)

// unnamedNetwork is what the network of cards is called whose source had no name
// for it, in a runbook that has not exactly one network.
const unnamedNetwork = "unnamed"

// addNetworks decides where every card's cable leads, and what each network is
// like: its addresses are those that the machines had on it.
func (r *resolver) addNetworks() {
	rules := map[string]NetworkRule{}
	for i := range r.plan.Machines {
		m := &r.plan.Machines[i]
		for _, card := range m.Point.Machine.NICs {
			rule, known := r.ruleOf(card)
			if !known {
				r.unknownNetwork(r.subjects[i], rule.Name)
			}
			rules[rule.Name] = rule
			pc := PlannedCard{MAC: card.MAC, Network: rule.Name, Address: slices.Clone(card.Addresses)}
			if own := r.subjects[i].Addresses[rule.Name]; len(pc.Address) == 0 && own != "" && r.firstOn(*m, rule.Name) {
				pc.Address = []string{withBits(own, rule.CIDR)}
			}
			m.Cards = append(m.Cards, pc)
			r.addNetwork(rule, card, pc)
		}
	}
	for i := range r.plan.Networks {
		n := &r.plan.Networks[i]
		n.Names = r.namesOn(n.Name, rules[n.Name].Names)
	}
	slices.SortStableFunc(r.plan.Networks, func(a, b PlannedNetwork) int { return r.ruleOrder(a.Name) - r.ruleOrder(b.Name) })
	r.checkAddresses()
	r.checkForwards()
}

// ruleOrder is where the runbook speaks of a network; those that it does not come
// last.
func (r *resolver) ruleOrder(name string) int {
	i := slices.IndexFunc(r.book.Networks, func(n NetworkRule) bool { return n.Name == name })
	if i < 0 {
		return len(r.book.Networks)
	}
	return i
}

// ruleOf is the rule for a card of the source. Where there is none, it is one that
// says nothing but the name.
func (r *resolver) ruleOf(card lifeboat.NIC) (NetworkRule, bool) {
	for _, n := range r.book.Networks {
		if len(n.Sources) == 0 && n.Name == card.Network || slices.Contains(n.Sources, card.Network) {
			return n, true
		}
	}
	if card.Network == "" && len(r.book.Networks) == 1 {
		return r.book.Networks[0], true
	}
	// A runbook without networks leaves them all to the defaults.
	return NetworkRule{Name: cmp.Or(card.Network, unnamedNetwork)}, len(r.book.Networks) == 0
}

// unknownNetwork: in a drill the network is a private one like the others; in a
// recovery nobody said where it leads.
func (r *resolver) unknownNetwork(m *subject, name string) {
	var known []string
	for _, n := range r.book.Networks {
		known = append(append(known, n.Name), n.Sources...)
	}
	what := fmt.Sprintf("%s has a card on network %q, which the runbook does not name%s", m.Name, name, yamlfile.Meant(name, known))
	severity := Stops
	if r.s.Mode == Drill {
		severity = Warns
	}
	r.find(severity, "unknown-network", m, what, "add it to networks: in the runbook, or to the sources: of one")
}

func (r *resolver) firstOn(m PlannedMachine, network string) bool {
	return !slices.ContainsFunc(m.Cards, func(c PlannedCard) bool { return c.Network == network })
}

// withBits gives an address that has none the length of its network's prefix.
func withBits(address, cidr string) string {
	network, err := netip.ParsePrefix(cidr)
	if addr, aerr := netip.ParseAddr(address); aerr == nil && err == nil && network.Contains(addr) {
		return netip.PrefixFrom(addr, network.Bits()).String()
	}
	return address
}

// addNetwork adds what a card tells of its network.
func (r *resolver) addNetwork(rule NetworkRule, card lifeboat.NIC, planned PlannedCard) {
	i := slices.IndexFunc(r.plan.Networks, func(n PlannedNetwork) bool { return n.Name == rule.Name })
	if i < 0 {
		i = len(r.plan.Networks)
		n := PlannedNetwork{Name: rule.Name, Cable: r.cableOf(rule), CIDR: rule.CIDR}
		if n.Cable.Kind == CableNAT {
			n.Forwards, n.VPN = rule.Forwards, rule.VPN
		}
		r.plan.Networks = append(r.plan.Networks, n)
	}
	n := &r.plan.Networks[i]
	if p, ok := firstPrefix(planned.Address); ok && n.CIDR == "" {
		n.CIDR = p.Masked().String()
	}
	n.Gateway = cmp.Or(n.Gateway, card.Gateway)
	for _, server := range card.DNS {
		if !slices.Contains(n.DNS, server) {
			n.DNS = append(n.DNS, server)
		}
	}
}

// cableOf is where a network leads: in a drill nowhere, in a recovery where its
// rule says, else to a private network behind this computer's address.
func (r *resolver) cableOf(rule NetworkRule) Cable {
	switch {
	case r.s.Mode == Drill:
		return Cable{Kind: CableIsolated}
	case rule.Recover.Kind != "":
		return rule.Recover
	case r.s.Uplinks == 0:
		r.findAt(Warns, "uplink", "", rule.Line, fmt.Sprintf("this computer has no network that leads out: %s is one that only the machines see", rule.Name),
			"connect this computer, or say where it leads with recover: in the runbook")
		return Cable{Kind: CableIsolated}
	case r.s.Uplinks > 1:
		r.findAt(Warns, "uplink", "", rule.Line, fmt.Sprintf("this computer has %d networks that lead out, and the runbook does not say where %s leads: it is put behind NAT", r.s.Uplinks, rule.Name),
			"say where it leads with recover: in the runbook")
	}
	return Cable{Kind: CableNAT}
}

// firstPrefix is the first address of IPv4, with the length of its network, else
// the first of IPv6 that is not of the link alone.
func firstPrefix(addresses []string) (netip.Prefix, bool) {
	var found []netip.Prefix
	for _, text := range addresses {
		if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().IsLinkLocalUnicast() {
			found = append(found, p)
		}
	}
	if i := slices.IndexFunc(found, func(p netip.Prefix) bool { return p.Addr().Is4() }); i > 0 {
		return found[i], true
	}
	if len(found) == 0 {
		return netip.Prefix{}, false
	}
	return found[0], true
}

// namesOn are the names that a network's DNS answers for: those of its machines,
// and those that the runbook gives it, which win.
func (r *resolver) namesOn(network string, own map[string]string) map[string]string {
	names := map[string]string{}
	for _, m := range r.plan.Machines {
		for _, c := range m.Cards {
			p, ok := firstPrefix(c.Address)
			if !ok || c.Network != network {
				continue
			}
			for _, name := range []string{m.Name, m.Point.Machine.HostName} {
				if name = strings.ToLower(name); isHostName(name) && names[name] == "" {
					names[name] = p.Addr().String()
				}
			}
		}
	}
	for name, address := range own {
		names[strings.ToLower(name)] = address
	}
	if len(names) == 0 {
		return nil
	}
	return names
}

// isHostName says that a name can be asked for by DNS.
func isHostName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' {
			return false
		}
	}
	return true
}

// checkAddresses finds machines that would have one address on one network.
func (r *resolver) checkAddresses() {
	holders := map[string]string{}
	for i, m := range r.plan.Machines {
		for _, c := range m.Cards {
			for _, text := range c.Address {
				p, err := netip.ParsePrefix(text)
				if err != nil || p.Addr().IsLinkLocalUnicast() {
					continue
				}
				key := c.Network + "\x00" + p.Addr().String()
				if other, taken := holders[key]; taken && other != m.Name {
					r.find(Warns, "address-clash", r.subjects[i], fmt.Sprintf("%s and %s both had the address %s on network %s", other, m.Name, p.Addr(), c.Network),
						"an address that moves between them is no harm; else correct one of the machines after the recovery")
					continue
				}
				holders[key] = m.Name
			}
		}
	}
}

// checkForwards finds forwards that cannot be made: to a machine that is not in the
// plan, or from a port that somebody has. The port of a VPN is taken on all addresses.
func (r *resolver) checkForwards() {
	var made []TakenPort
	for _, n := range r.plan.Networks {
		line := r.lineOfNetwork(n.Name)
		take := func(p TakenPort, what, where string) {
			clashes := func(o TakenPort) bool { return p.clashes(o) }
			who := ""
			switch {
			case slices.ContainsFunc(r.s.PortsTaken, clashes):
				who = "another program"
			case slices.ContainsFunc(made, clashes):
				who = "another network or forward"
			}
			if who != "" {
				r.findAt(Stops, "port-taken", "", line, fmt.Sprintf("network %s %s %d of this computer, which %s has", n.Name, what, p.Port, who), "end that program, or choose another port in "+where)
			}
			made = append(made, p)
		}
		for _, f := range n.Forwards {
			if !slices.ContainsFunc(r.book.Machines, func(m Machine) bool { return m.Name == f.Machine }) {
				r.findAt(Stops, "unknown-machine", "", line, fmt.Sprintf("network %s forwards port %d to %s, which is no machine of the runbook", n.Name, f.HostPort, f.Machine), "correct the forward")
			}
			address, err := netip.ParseAddr(f.Address)
			if err != nil {
				address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			}
			take(TakenPort{Port: f.HostPort, Address: address}, "forwards port", "the forward")
		}
		if n.VPN > 0 {
			take(TakenPort{UDP: true, Port: n.VPN}, "gives its VPN the UDP port", "vpn: of the network")
		}
	}
}
