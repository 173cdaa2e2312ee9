package runbook

import (
	"net/netip"

	"lifeboat/yamlfile"
)

func (r *reader) hosts(n *yamlfile.Node) (all []HostRule) {
	for _, p := range r.named(n, "hosts") {
		f := r.fields(p.Value, "a host", hostFields...)
		h := HostRule{
			Name: p.Key.Value, Line: p.Key.Line,
			Machines:    r.refers(f["machines"], "machines of host "+p.Key.Value, toMachine),
			MemoryBytes: r.size(f["memory"], "memory"),
			CPUs:        r.count(f["cpus"], "cpus", cpuLimit),
			Boots:       r.count(f["boots"], "boots", bootLimit),
		}
		for _, item := range r.list(f["tiers"], "tiers", tierLimit) {
			h.Tiers = append(h.Tiers, r.tier(item, "tiers"))
		}
		all = append(all, h)
	}
	return all
}

var hostFields = []string{"tiers", "machines", "memory", "cpus", "boots"}

// Limits of what a host is asked for.
const (
	cpuLimit  = 4096
	bootLimit = 500
)

func (r *reader) networks(n *yamlfile.Node) (all []NetworkRule) {
	for _, p := range r.named(n, "networks") {
		f := r.fields(p.Value, "a network", networkFields...)
		w := NetworkRule{
			Name: p.Key.Value, Line: p.Key.Line,
			CIDR:    r.cidr(f["cidr"]),
			Recover: r.cable(f["recover"]),
			VPN:     r.count(f["vpn"], "vpn", 65535),
		}
		for _, item := range r.list(f["source"], "source", listLimit) {
			w.Sources = append(w.Sources, r.Text(item, "source"))
		}
		for _, item := range r.list(f["forwards"], "forwards", listLimit) {
			w.Forwards = append(w.Forwards, r.forward(item))
		}
		for _, name := range r.named(f["names"], "names") {
			if w.Names == nil {
				w.Names = map[string]string{}
			}
			w.Names[r.hostName(name.Key, "names")] = r.address(name.Value, "names: "+name.Key.Value)
		}
		if f["recover"] != nil && w.Recover.Kind != CableNAT && (len(w.Forwards) > 0 || w.VPN > 0) {
			r.Wrong(f["recover"], "forwards and vpn go with recover: nat")
		}
		all = append(all, w)
	}
	return all
}

var networkFields = []string{"source", "cidr", "recover", "forwards", "vpn", "names"}

// cableWords are the kinds that need no name.
var cableWords = []string{string(CableNAT), string(CableIsolated), string(CableNone)}

// cable reads where a network leads: a word, or a bridge or a network by its name.
func (r *reader) cable(n *yamlfile.Node) Cable {
	if n == nil {
		return Cable{}
	}
	if len(n.Content) == 0 && n.Value != "" {
		return Cable{Kind: CableKind(r.Choice(n, "recover", cableWords...))}
	}
	f := r.fields(n, "recover", string(CableBridge), string(CableNetwork))
	bridge, network := r.Text(f["bridge"], "bridge"), r.Text(f["network"], "network")
	switch {
	case (bridge == "") == (network == ""):
		r.Wrong(n, "recover: write nat, isolated or none, or one of {bridge: NAME} and {network: NAME}")
	case bridge != "":
		return Cable{Kind: CableBridge, Name: bridge}
	}
	return Cable{Kind: CableNetwork, Name: network}
}

func (r *reader) cidr(n *yamlfile.Node) string {
	text := r.Text(n, "cidr")
	if n == nil {
		return ""
	}
	if _, err := netip.ParsePrefix(text); err != nil {
		r.Wrong(n, "cidr: %q is not a network, such as 10.0.0.0/24", text)
	}
	return text
}

// address reads one address, with or without its network's length.
func (r *reader) address(n *yamlfile.Node, what string) string {
	text := r.Text(n, what)
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		r.Wrong(n, "%s: %q is not an address, such as 10.0.0.5", what, text)
	}
	return text
}

func (r *reader) hostName(n *yamlfile.Node, what string) string {
	text := r.Line(n, what, 253)
	if !hostText.MatchString(text) {
		r.Wrong(n, "%s: %q is not the name of a host, such as mail.example.com", what, text)
	}
	return text
}

func (r *reader) forward(n *yamlfile.Node) Forward {
	f, err := parseForward(r.Text(n, "forwards"))
	if err != nil {
		r.Wrong(n, "forwards: %v", err)
		return Forward{}
	}
	r.refs = append(r.refs, reference{n, "forwards", f.Machine, toMachine})
	return f
}

func (r *reader) groups(n *yamlfile.Node) (all []Group) {
	in := map[string]string{}
	for _, p := range r.named(n, "groups") {
		f := r.fields(p.Value, "a group", "machines", "skew")
		g := Group{Name: p.Key.Value, Line: p.Key.Line, Machines: r.refers(f["machines"], "machines of group "+p.Key.Value, toMachine)}
		if f["skew"] != nil {
			g.SkewAllowed = r.Choice(f["skew"], "skew", "refuse", "allow") == "allow"
		}
		if len(g.Machines) == 0 {
			r.Wrong(p.Key, "group %s needs machines", g.Name)
		}
		for _, m := range g.Machines {
			if other, twice := in[m]; twice {
				r.Wrong(p.Key, "machine %q is in the groups %s and %s: make them one", m, other, g.Name)
			}
			in[m] = g.Name
		}
		all = append(all, g)
	}
	return all
}
