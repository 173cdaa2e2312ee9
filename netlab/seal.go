package netlab

import (
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
)

// seals are the settings that shut the host out of a bridge. Guests there believe
// to be in production and have its addresses. Without these, the host would take
// their packets in, and answer the real server of that address.
var seals = []struct{ file, value, why string }{
	{"ipv6/conf/%s/disable_ipv6", "1", "no address of its own"},
	{"ipv4/conf/%s/rp_filter", "1", "no packet comes in: no route leads back through the bridge"},
	{"ipv4/conf/%s/arp_ignore", "8", "it answers for no address of the host"},
	{"ipv4/conf/%s/accept_local", "0", "as rp_filter"},
	{"ipv4/conf/%s/route_localnet", "0", "as rp_filter"},
	{"ipv4/conf/%s/forwarding", "0", "nothing leads out"},
	{"ipv4/conf/%s/send_redirects", "0", "it says nothing about routes"},
}

// Seal shuts this computer out of a bridge and the ports that it has now: there is
// no address there, it answers for none, takes no packet in and passes none on.
// Guests on the bridge see each other as before. A bridge that has an address is
// refused: it is not a private one. A port that is plugged in later has an IPv6
// address until Seal is called again.
func Seal(bridge string) error {
	link, err := bridgeNamed(bridge)
	if err != nil {
		return err
	}
	if strings.ContainsAny(bridge, "/.") {
		return fmt.Errorf("bridge %q has a name with another meaning in a path", bridge)
	}
	for _, s := range seals {
		path := "/proc/sys/net/" + fmt.Sprintf(s.file, bridge)
		if err := set(path, s.value); err != nil {
			return allowed("shut the host out of bridge "+bridge, err)
		}
	}
	ports, err := Ports(bridge)
	if err != nil {
		return err
	}
	for _, port := range ports {
		if err := set("/proc/sys/net/ipv6/conf/"+port+"/disable_ipv6", "1"); err != nil {
			return allowed("shut the host out of port "+port, err)
		}
	}
	if err := netlink.LinkSetARPOff(link); err != nil {
		return allowed("shut the host out of bridge "+bridge, err)
	}
	return Sealed(bridge)
}

// Sealed says in an error why the host is not shut out of a bridge.
func Sealed(bridge string) error {
	ports, err := Ports(bridge)
	if err != nil {
		return err
	}
	for _, name := range append(ports, bridge) {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("look at %s: %w", name, err)
		}
		addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return fmt.Errorf("read the addresses of %s: %w", name, err)
		}
		if len(addresses) > 0 {
			return fmt.Errorf("%s has the address %s of this computer: %s is not a private network", name, addresses[0].IPNet, bridge)
		}
	}
	for _, s := range seals {
		value, err := os.ReadFile("/proc/sys/net/" + fmt.Sprintf(s.file, bridge))
		if os.IsNotExist(err) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(string(value)); got != s.value {
			return fmt.Errorf("the host is not shut out of bridge %s: %s is %s, not %s", bridge, fmt.Sprintf(s.file, bridge), got, s.value)
		}
	}
	return nil
}

// Ports are the interfaces that are plugged into a bridge.
func Ports(bridge string) ([]string, error) {
	link, err := bridgeNamed(bridge)
	if err != nil {
		return nil, err
	}
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the ports of bridge %s: %w", bridge, err)
	}
	var names []string
	for _, l := range all {
		if l.Attrs().MasterIndex == link.Attrs().Index {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}
