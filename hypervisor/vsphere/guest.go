package vsphere

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// What a guest's tools say goes into restore points and onto screens, and
// whoever owns the guest owns the tools: it is bounded, and only what has the
// right form is taken.
const (
	mostAddresses = 32 // on one card
	mostServers   = 8  // name servers of one card
)

// addGuest writes to the description what the guest's tools told: its name, and
// for each card its addresses, gateway and name servers. Tools do not tell what
// the guest calls a card.
func (f *found) addGuest(m *lifeboat.Machine) {
	g := f.vm.Guest
	if name := hypervisor.GuestWords(g.HostName); len(name) <= 253 && !strings.ContainsAny(name, " /") {
		m.HostName = name
	}
	now := time.Now().UTC().Truncate(time.Second)
	for at, told := range g.Net {
		i := slices.IndexFunc(m.NICs, func(n lifeboat.NIC) bool {
			return n.MAC != "" && strings.EqualFold(n.MAC, told.MacAddress)
		})
		if i < 0 {
			continue
		}
		nic := &m.NICs[i]
		nic.SeenAt = now
		nic.Addresses = addressesOf(&told)
		nic.Gateway = gatewayOf(g.IpStack, at, nic.Addresses)
		nic.DNS = serversOf(&told, g.IpStack)
		if nic.Network == "" {
			nic.Network = hypervisor.GuestWords(plainName(told.Network))
		}
	}
}

// addressesOf are a card's addresses in CIDR notation.
func addressesOf(told *types.GuestNicInfo) []string {
	var list []string
	if told.IpConfig == nil {
		return nil
	}
	for _, a := range told.IpConfig.IpAddress {
		ip, err := netip.ParseAddr(a.IpAddress)
		if err != nil || a.PrefixLength < 0 || int(a.PrefixLength) > ip.BitLen() || len(list) == mostAddresses {
			continue
		}
		list = append(list, netip.PrefixFrom(ip.WithZone(""), int(a.PrefixLength)).String())
	}
	return list
}

// gatewayOf is the gateway of the card that stands at that place of the guest's
// list: of its default routes, the one that names the card, or that leads into
// one of the card's networks. IPv4 comes first.
func gatewayOf(stacks []types.GuestStackInfo, at int, addresses []string) string {
	found := ""
	for _, stack := range stacks {
		if stack.IpRouteConfig == nil {
			continue
		}
		for _, r := range stack.IpRouteConfig.IpRoute {
			gateway, err := netip.ParseAddr(r.Gateway.IpAddress)
			if err != nil || r.PrefixLength != 0 || gateway.IsUnspecified() {
				continue
			}
			if r.Gateway.Device != strconv.Itoa(at) && !inside(gateway, addresses) {
				continue
			}
			if gateway.Is4() {
				return gateway.String()
			}
			if found == "" {
				found = gateway.WithZone("").String()
			}
		}
	}
	return found
}

func inside(ip netip.Addr, networks []string) bool {
	return slices.ContainsFunc(networks, func(text string) bool {
		p, err := netip.ParsePrefix(text)
		return err == nil && p.Masked().Contains(ip.WithZone(""))
	})
}

// serversOf are the name servers of a card, or those of the whole guest.
func serversOf(told *types.GuestNicInfo, stacks []types.GuestStackInfo) []string {
	var said []string
	if told.DnsConfig != nil {
		said = told.DnsConfig.IpAddress
	}
	for _, stack := range stacks {
		if len(said) == 0 && stack.DnsConfig != nil {
			said = stack.DnsConfig.IpAddress
		}
	}
	var list []string
	for _, text := range said {
		ip, err := netip.ParseAddr(text)
		if err == nil && len(list) < mostServers && !slices.Contains(list, ip.String()) {
			list = append(list, ip.String())
		}
	}
	return list
}

// toolsRun says whether the guest's tools answer, and if not why, in words for a
// person.
func (f *found) toolsRun() (bool, string) {
	g := f.vm.Guest
	switch {
	case g == nil:
		return false, "the server tells nothing of the guest"
	case g.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning):
		return true, ""
	case g.ToolsVersionStatus2 == string(types.VirtualMachineToolsVersionStatusGuestToolsNotInstalled),
		g.ToolsStatus == types.VirtualMachineToolsStatusToolsNotInstalled:
		return false, "VMware Tools are not installed in the guest"
	}
	return false, "VMware Tools do not run in the guest"
}
