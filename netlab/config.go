package netlab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Config is a lab as it is to be. It is plain data and holds no secret.
type Config struct {
	// Name tells this lab from every other of this computer, for example the id of
	// its run.
	Name     string    `json:"name"`
	Networks []Network `json:"networks"`
	Cards    []Card    `json:"cards,omitempty"`
	// Names are answered by DNS beside the host names of the machines.
	Names map[string]netip.Addr `json:"names,omitempty"`
}

// Network is one network of a lab, with the numbers that production gave it.
type Network struct {
	Name string `json:"name"`
	// CIDR may be invalid: then nobody knows the network's numbers, guests see
	// each other there, and nothing is answered.
	CIDR    netip.Prefix `json:"cidr,omitzero"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	DNS     []netip.Addr `json:"dns,omitempty"`
	// Uplink lets guests reach out, by the address of this computer.
	Uplink bool `json:"uplink,omitempty"`
	// Forwards lead in. They listen on this computer.
	Forwards []Forward `json:"forwards,omitempty"`
	// VPN is the UDP port of this computer that staff reach the lab by; 0: none.
	VPN int `json:"vpn,omitempty"`
}

// Forward leads from a TCP port of this computer to a port of a guest.
type Forward struct {
	// Listen is the loopback's address unless somebody chose another.
	Listen netip.AddrPort `json:"listen"`
	To     netip.AddrPort `json:"to"`
}

// Card is a network card of a guest.
type Card struct {
	// Machine and HostName are the names that DNS answers for it.
	Machine   string         `json:"machine"`
	HostName  string         `json:"hostName,omitempty"`
	MAC       string         `json:"mac"`
	Network   string         `json:"network"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
}

// Bounds of a lab, far above any company that one drive brings back.
const (
	mostNetworks = 64
	mostCards    = 4096
	mostNames    = 4096
)

// Check says what is wrong with a lab before anything is made.
func (c Config) Check() error {
	if c.Name == "" || len(c.Networks) == 0 {
		return fmt.Errorf("a lab needs a name and a network")
	}
	if len(c.Networks) > mostNetworks || len(c.Cards) > mostCards || len(c.Names) > mostNames {
		return fmt.Errorf("a lab has at most %d networks, %d cards and %d names", mostNetworks, mostCards, mostNames)
	}
	vpn := 0
	for i, n := range c.Networks {
		if err := n.check(); err != nil {
			return fmt.Errorf("network %q: %w", n.Name, err)
		}
		for _, other := range c.Networks[:i] {
			if other.Name == n.Name {
				return fmt.Errorf("network %q stands twice", n.Name)
			}
			if n.CIDR.IsValid() && other.CIDR.IsValid() && n.CIDR.Overlaps(other.CIDR) {
				return fmt.Errorf("networks %q and %q have the same addresses (%s and %s): make them one", other.Name, n.Name, other.CIDR, n.CIDR)
			}
		}
		if n.VPN != 0 {
			vpn++
		}
	}
	if vpn > 1 {
		return fmt.Errorf("one network of a lab has the port of the VPN, which leads to all of them; here are %d", vpn)
	}
	for _, card := range c.Cards {
		if _, err := net.ParseMAC(card.MAC); err != nil {
			return fmt.Errorf("card of %q: %w", card.Machine, err)
		}
		if c.network(card.Network) == nil {
			return fmt.Errorf("card of %q: there is no network %q", card.Machine, card.Network)
		}
	}
	return nil
}

func (n Network) check() error {
	if !n.CIDR.IsValid() {
		if n.Uplink || n.VPN != 0 || len(n.Forwards) > 0 {
			return fmt.Errorf("nobody knows its addresses, so nothing can lead out of it or in")
		}
		return nil
	}
	if !n.CIDR.Addr().Is4() || n.CIDR.Bits() < 8 || n.CIDR.Bits() > 30 {
		return fmt.Errorf("%s is not an IPv4 network of 4 addresses or more", n.CIDR)
	}
	if n.Gateway.IsValid() && !n.CIDR.Contains(n.Gateway) {
		return fmt.Errorf("its gateway %s is not in %s", n.Gateway, n.CIDR)
	}
	for _, d := range n.DNS {
		if !d.Is4() || d.IsLoopback() || d.IsUnspecified() || d.IsMulticast() {
			return fmt.Errorf("%s cannot be a DNS server", d)
		}
	}
	for _, f := range n.Forwards {
		if f.Listen.Port() == 0 || f.To.Port() == 0 || !f.Listen.Addr().IsValid() || !n.CIDR.Contains(f.To.Addr()) {
			return fmt.Errorf("the forward from %s to %s is not possible", f.Listen, f.To)
		}
	}
	if !n.Uplink && (n.VPN != 0 || len(n.Forwards) > 0) {
		return fmt.Errorf("it is isolated, so nothing may lead in")
	}
	if n.VPN < 0 || n.VPN > 65535 {
		return fmt.Errorf("%d is not a UDP port", n.VPN)
	}
	return nil
}

// network finds a network by its name; nil: there is none.
func (c Config) network(name string) *Network {
	if i := slices.IndexFunc(c.Networks, func(n Network) bool { return n.Name == name }); i >= 0 {
		return &c.Networks[i]
	}
	return nil
}

// owned says that a guest has an address.
func (c Config) owned(a netip.Addr) bool {
	return slices.ContainsFunc(c.Cards, func(card Card) bool {
		return slices.ContainsFunc(card.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
	})
}

// routes says that the lab stands for the gateway of a network: it had one, and no
// guest is it.
func (c Config) routes(n Network) bool { return n.Gateway.IsValid() && !c.owned(n.Gateway) }

// own is the lab's address in a network: that of the gateway where it stands for
// it, and else the highest one that nobody has.
func (c Config) own(n Network) (netip.Prefix, bool) {
	if !n.CIDR.IsValid() {
		return netip.Prefix{}, false
	}
	if c.routes(n) {
		return netip.PrefixFrom(n.Gateway, n.CIDR.Bits()), true
	}
	for a := lastAddress(n.CIDR).Prev(); n.CIDR.Contains(a) && a != n.CIDR.Masked().Addr(); a = a.Prev() {
		if !c.owned(a) && a != n.Gateway && !slices.Contains(n.DNS, a) {
			return netip.PrefixFrom(a, n.CIDR.Bits()), true
		}
	}
	return netip.Prefix{}, false
}

// lastAddress is the broadcast address of an IPv4 network.
func lastAddress(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(bytes)
}

// servers are the addresses of production's DNS servers that the lab stands for:
// those that no guest has and that are not its own already.
func (c Config) servers() []netip.Addr {
	var all, own []netip.Addr
	for _, n := range c.Networks {
		if a, ok := c.own(n); ok {
			own = append(own, a.Addr())
		}
	}
	for _, n := range c.Networks {
		for _, d := range n.DNS {
			outside := !slices.ContainsFunc(c.Networks, func(n Network) bool { return n.CIDR.IsValid() && n.CIDR.Contains(d) })
			if c.owned(d) || slices.Contains(own, d) || slices.Contains(all, d) || n.Uplink && outside {
				continue
			}
			all = append(all, d)
		}
	}
	return all
}

// uplink says that some network of the lab leads out.
func (c Config) uplink() bool {
	return slices.ContainsFunc(c.Networks, func(n Network) bool { return n.Uplink })
}

// addressOf is the first address of a card in its network.
func (c Config) addressOf(card Card) (netip.Prefix, bool) {
	n := c.network(card.Network)
	if n == nil || !n.CIDR.IsValid() {
		return netip.Prefix{}, false
	}
	for _, p := range card.Addresses {
		if p.Addr().Is4() && n.CIDR.Contains(p.Addr()) {
			return netip.PrefixFrom(p.Addr(), n.CIDR.Bits()), true
		}
	}
	return netip.Prefix{}, false
}

// tag is how the names of the lab's cables begin, so that they are known from those
// of every other lab.
func (c Config) tag() string {
	sum := sha256.Sum256([]byte("lab\x00" + c.Name))
	return "lb" + hex.EncodeToString(sum[:4])
}

// bridge is what the network's bridge is called inside the lab.
func (c Config) bridge(network string) (string, error) {
	i := slices.IndexFunc(c.Networks, func(n Network) bool { return n.Name == network })
	if i < 0 {
		return "", fmt.Errorf("the lab has no network %q; it has: %s", network, strings.Join(c.networkNames(), ", "))
	}
	return fmt.Sprintf("net%d", i), nil
}

func (c Config) networkNames() []string {
	var names []string
	for _, n := range c.Networks {
		names = append(names, n.Name)
	}
	return names
}
