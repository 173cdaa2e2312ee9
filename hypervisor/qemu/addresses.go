package qemu

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// What an agent says goes into restore points and onto screens, and whoever owns
// the guest owns the agent: it is bounded, and only what has the right form is
// taken.
const (
	mostAddresses = 32  // on one card; more are left out
	longestName   = 128 // bytes of the name of an interface
)

// guestInterface is what the agent tells of a network card.
type guestInterface struct {
	Name      string `json:"name"`
	MAC       string `json:"hardware-address"`
	Addresses []struct {
		Address string `json:"ip-address"`
		Prefix  int    `json:"prefix"`
	} `json:"ip-addresses"`
}

// seeAddresses asks the guest for its addresses and writes them to the cards of
// the description. Without an agent the description stays as it is.
func (m *machine) seeAddresses(ctx context.Context, d *lifeboat.Machine) {
	if !m.def.Machine.Agent || len(d.NICs) == 0 {
		return
	}
	a, err := dialAgent(ctx, filepath.Join(m.sockets(), agentSocket))
	if err != nil {
		return
	}
	defer a.close()
	var list []guestInterface
	if a.run(ctx, agentPatience, "guest-network-get-interfaces", nil, &list) != nil {
		return
	}
	now := time.Now().UTC()
	for i := range d.NICs {
		for _, g := range list {
			if strings.EqualFold(g.MAC, d.NICs[i].MAC) {
				d.NICs[i].Interface, d.NICs[i].Addresses, d.NICs[i].SeenAt = g.name(), g.prefixes(), now
			}
		}
	}
}

// name is the interface's name, or empty if no system would give it.
func (g *guestInterface) name() string {
	if len(g.Name) > longestName || hypervisor.Printable(g.Name) != g.Name {
		return ""
	}
	return g.Name
}

// prefixes are the interface's addresses in CIDR notation, without those that
// are none.
func (g *guestInterface) prefixes() []string {
	var list []string
	for _, a := range g.Addresses {
		prefix, err := netip.ParsePrefix(fmt.Sprintf("%s/%d", a.Address, a.Prefix))
		if err == nil && len(list) < mostAddresses {
			list = append(list, prefix.String())
		}
	}
	return list
}
