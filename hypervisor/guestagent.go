package hypervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"lifeboat"
)

// What an agent says goes into restore points and onto screens, and whoever owns
// the guest owns the agent: it is bounded, and only what has the right form is
// taken.
const (
	mostAddresses    = 32       // on one card; more are left out
	mostServers      = 8        // name servers
	longestInterface = 128      // bytes of the name of an interface
	longestGuestFile = 64 << 10 // bytes that are read of a file in the guest
)

// AgentCommand carries out one command of the agent in a guest and returns what
// stands under "return" in its answer. It has limits of its own for how long it
// waits and for how much it takes.
type AgentCommand func(ctx context.Context, command string, arguments map[string]any) (json.RawMessage, error)

// AskGuest asks the agent for what a guest calls itself and its cards, and
// writes it to the description: host name, family, and for each card (found by
// its MAC) the interface, the addresses, the gateway and the name servers. What
// the agent does not know or may not tell stays as it is.
//
// The gateway and the name servers are asked for with guest-network-get-route
// (QEMU 9.1 and newer) and else read from the guest's own files, where its agent
// allows that. Distributions that forbid it (Red Hat's) tell neither.
func AskGuest(ctx context.Context, run AgentCommand, m *lifeboat.Machine, now time.Time) {
	answer, err := run(ctx, "guest-network-get-interfaces", nil)
	if err != nil {
		return
	}
	found := guestInterfaces(answer)
	names := make([][]string, len(m.NICs)) // of the interfaces of each card
	for i := range m.NICs {
		names[i] = setAddresses(&m.NICs[i], found, now)
	}
	if answer, err := run(ctx, "guest-get-host-name", nil); err == nil {
		m.HostName = guestHostName(answer)
	}
	if answer, err := run(ctx, "guest-get-osinfo", nil); err == nil && m.GuestFamily == "" {
		m.GuestFamily = guestFamily(answer)
	}
	if !slices.ContainsFunc(names, func(n []string) bool { return len(n) > 0 }) {
		return
	}
	routes := askRoutes(ctx, run)
	servers := askNameServers(ctx, run)
	for i := range m.NICs {
		if len(names[i]) > 0 {
			m.NICs[i].Gateway, m.NICs[i].DNS = gatewayOf(routes, names[i]), nil
		}
	}
	if at := mainCard(m.NICs, names); at >= 0 {
		m.NICs[at].DNS = servers
	}
}

// mainCard is the card that the name servers are written to: the first that has
// a gateway, or the first that the guest knows.
func mainCard(nics []lifeboat.NIC, names [][]string) int {
	at := slices.IndexFunc(nics, func(n lifeboat.NIC) bool { return n.Gateway != "" && !n.SeenAt.IsZero() })
	if at >= 0 {
		return at
	}
	return slices.IndexFunc(names, func(n []string) bool { return len(n) > 0 })
}

// guestInterface is what an agent tells of an interface.
type guestInterface struct {
	Name      string `json:"name"`
	MAC       string `json:"hardware-address"`
	Addresses []struct {
		Address string `json:"ip-address"`
		Prefix  int    `json:"prefix"`
	} `json:"ip-addresses"`
}

// guestInterfaces reads the answer to guest-network-get-interfaces. Anything
// that is not one is no interfaces.
func guestInterfaces(answer []byte) []guestInterface {
	var list []guestInterface
	if json.Unmarshal(answer, &list) != nil {
		return nil
	}
	return list
}

// setAddresses writes to a card what the guest calls it, and returns the names
// of all interfaces with its MAC: a bridge, a bond or a VLAN on the card has it
// too, and then holds the addresses. The card itself comes first in such lists.
func setAddresses(nic *lifeboat.NIC, found []guestInterface, now time.Time) (names []string) {
	var addresses []string
	for _, g := range found {
		if nic.MAC == "" || !strings.EqualFold(g.MAC, nic.MAC) || len(names) == mostAddresses {
			continue
		}
		names = append(names, g.name())
		for _, prefix := range g.prefixes() {
			if len(addresses) < mostAddresses && !slices.Contains(addresses, prefix) {
				addresses = append(addresses, prefix)
			}
		}
	}
	if len(names) > 0 {
		nic.Interface, nic.Addresses, nic.SeenAt = names[0], addresses, now
	}
	return names
}

// name is the interface's name, or empty if no system would give it.
func (g *guestInterface) name() string {
	if len(g.Name) > longestInterface || Printable(g.Name) != g.Name {
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

var hostNameForm = regexp.MustCompile(`^[\pL\pN][\pL\pN._-]{0,252}$`)

// guestHostName reads the answer to guest-get-host-name.
func guestHostName(answer []byte) string {
	var reply struct {
		Name string `json:"host-name"`
	}
	if json.Unmarshal(answer, &reply) != nil || len(reply.Name) > 253 || !hostNameForm.MatchString(reply.Name) {
		return ""
	}
	return reply.Name
}

// guestFamily reads the answer to guest-get-osinfo. Its id is that of
// /etc/os-release, or "mswindows".
func guestFamily(answer []byte) string {
	var reply struct {
		ID string `json:"id"`
	}
	switch {
	case json.Unmarshal(answer, &reply) != nil || reply.ID == "":
		return ""
	case reply.ID == "mswindows":
		return "windows"
	case strings.HasSuffix(strings.ToLower(reply.ID), "bsd"):
		return "bsd"
	}
	return "linux"
}

// readGuestFile returns the beginning of a file in the guest, or nil.
func readGuestFile(ctx context.Context, run AgentCommand, path string) []byte {
	answer, err := run(ctx, "guest-file-open", map[string]any{"path": path, "mode": "r"})
	if err != nil {
		return nil
	}
	var handle int64
	if json.Unmarshal(answer, &handle) != nil {
		return nil
	}
	answer, err = run(ctx, "guest-file-read", map[string]any{"handle": handle, "count": longestGuestFile})
	// A file that stays open would stay so until the agent ends.
	run(ctx, "guest-file-close", map[string]any{"handle": handle})
	var read struct {
		Data []byte `json:"buf-b64"`
	}
	if err != nil || json.Unmarshal(answer, &read) != nil || len(read.Data) > longestGuestFile {
		return nil
	}
	return read.Data
}
