package hypervisor

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// mostRoutes bounds what is taken of a guest's table of routes.
const mostRoutes = 4096

// guestRoute is a route of a guest that leads everywhere.
type guestRoute struct {
	name    string // the interface's
	gateway netip.Addr
	metric  int64
}

// askRoutes returns the guest's default routes, IPv4 first.
func askRoutes(ctx context.Context, run AgentCommand) []guestRoute {
	if answer, err := run(ctx, "guest-network-get-route", nil); err == nil {
		return agentRoutes(answer)
	}
	if routes := procRoutes(readGuestFile(ctx, run, "/proc/net/route")); len(routes) > 0 {
		return routes
	}
	return procRoutes6(readGuestFile(ctx, run, "/proc/net/ipv6_route"))
}

// gatewayOf is the gateway behind the interfaces of a card, the one of the
// lowest metric, or empty.
func gatewayOf(routes []guestRoute, names []string) string {
	var best *guestRoute
	for i, r := range routes {
		if slices.Contains(names, r.name) && (best == nil || better(r, *best)) {
			best = &routes[i]
		}
	}
	if best == nil {
		return ""
	}
	return best.gateway.String()
}

func better(a, b guestRoute) bool {
	if a.gateway.Is4() != b.gateway.Is4() {
		return a.gateway.Is4()
	}
	return a.metric < b.metric
}

// agentRoutes reads the answer to guest-network-get-route. The form is that of
// QEMU's documentation; no agent that has it was at hand.
func agentRoutes(answer []byte) []guestRoute {
	var list []struct {
		Interface   string          `json:"iface"`
		Destination string          `json:"destination"`
		Mask        string          `json:"mask"`
		Prefix      json.RawMessage `json:"desprefixlen"`
		Gateway     string          `json:"gateway"`
		NextHop     string          `json:"nexthop"`
		Metric      int64           `json:"metric"`
	}
	if json.Unmarshal(answer, &list) != nil {
		return nil
	}
	var routes []guestRoute
	for _, r := range list[:min(len(list), mostRoutes)] {
		to, err := netip.ParseAddr(r.Destination)
		if err != nil || !to.IsUnspecified() {
			continue
		}
		prefix := strings.Trim(string(r.Prefix), `"`)
		gateway := r.Gateway
		if to.Is6() {
			gateway = r.NextHop
			// The prefix is in hexadecimal digits, as the kernel writes it.
			if n, err := strconv.ParseUint(prefix, 16, 8); err != nil || n != 0 {
				continue
			}
		} else if r.Mask != "0.0.0.0" && r.Mask != "" {
			continue
		}
		routes = addRoute(routes, r.Interface, gateway, r.Metric)
	}
	return routes
}

// addRoute adds a route if its gateway is an address that a host can have.
func addRoute(routes []guestRoute, name, gateway string, metric int64) []guestRoute {
	addr, err := netip.ParseAddr(gateway)
	if err != nil || addr.Zone() != "" || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || len(routes) == mostRoutes {
		return routes
	}
	return append(routes, guestRoute{name, addr.Unmap(), metric})
}

// The flags of a route in Linux.
const (
	routeUp      = 1
	routeGateway = 2
)

// procRoutes reads /proc/net/route: a heading, and a line for each route with
// interface, destination, gateway, flags, references, use, metric and mask. The
// addresses are numbers in the byte order of the CPU, which is a PC's.
func procRoutes(table []byte) []guestRoute {
	var routes []guestRoute
	for line := range bytes.Lines(table) {
		f := strings.Fields(string(line))
		if len(f) < 8 || strings.Trim(f[1], "0") != "" || strings.Trim(f[7], "0") != "" {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		if err != nil || flags&(routeUp|routeGateway) != routeUp|routeGateway {
			continue
		}
		gateway, err := strconv.ParseUint(f[2], 16, 32)
		metric, metricErr := strconv.ParseInt(f[6], 10, 64)
		if err != nil || metricErr != nil {
			continue
		}
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], uint32(gateway))
		routes = addRoute(routes, f[0], netip.AddrFrom4(b).String(), metric)
	}
	return routes
}

// procRoutes6 reads /proc/net/ipv6_route: destination, its prefix, source, its
// prefix, next hop, metric, references, use, flags and interface, all numbers in
// hexadecimal digits.
func procRoutes6(table []byte) []guestRoute {
	var routes []guestRoute
	for line := range bytes.Lines(table) {
		f := strings.Fields(string(line))
		if len(f) < 10 || strings.Trim(f[0], "0") != "" || f[1] != "00" {
			continue
		}
		flags, err := strconv.ParseUint(f[8], 16, 32)
		if err != nil || flags&(routeUp|routeGateway) != routeUp|routeGateway {
			continue
		}
		hop, err := hex.DecodeString(f[4])
		metric, metricErr := strconv.ParseUint(f[5], 16, 32)
		if err != nil || metricErr != nil || len(hop) != 16 {
			continue
		}
		routes = addRoute(routes, f[9], netip.AddrFrom16([16]byte(hop)).String(), int64(metric))
	}
	return routes
}

// askNameServers returns the guest's name servers. Where its own resolver stands
// in /etc/resolv.conf, the true ones are in that resolver's file.
func askNameServers(ctx context.Context, run AgentCommand) []string {
	servers := nameServers(readGuestFile(ctx, run, "/etc/resolv.conf"))
	if len(servers) > 0 {
		return servers
	}
	return nameServers(readGuestFile(ctx, run, "/run/systemd/resolve/resolv.conf"))
}

// nameServers reads a resolv.conf. A server on the guest's own loopback is left
// out.
func nameServers(conf []byte) []string {
	var list []string
	for line := range bytes.Lines(conf) {
		f := strings.Fields(string(line))
		if len(f) < 2 || f[0] != "nameserver" || len(list) == mostServers {
			continue
		}
		addr, err := netip.ParseAddr(f[1])
		if err != nil || addr.IsLoopback() || addr.IsUnspecified() || Printable(f[1]) != f[1] || slices.Contains(list, addr.String()) {
			continue
		}
		list = append(list, addr.String())
	}
	return list
}
