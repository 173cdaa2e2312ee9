package qemu

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"lifeboat"
)

// What an agent says goes into restore points and onto screens, and whoever owns
// the guest owns the agent: it is bounded, and only what has the right form is
// taken.
const (
	mostAddresses = 32  // on one card; more are left out
	longestName   = 128 // bytes of the name of an interface
	longestWords  = 200 // bytes of what an agent says of an error
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
	if len(g.Name) > longestName || printable(g.Name) != g.Name {
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

// guestWords is what a guest said, for a person: one line of printable
// characters, cut where it gets long.
func guestWords(text string) string {
	text = printable(text)
	if len(text) <= longestWords {
		return text
	}
	cut := longestWords
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}

// printable leaves out what a terminal could take for a command.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
}
