package main

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lifeboat"
	"lifeboat/hypervisor"
)

// bootPlan is what `boot` is going to do, decided before anything is done.
type bootPlan struct {
	Machines []plannedBoot
	// Network is what the operator asked for: "segment", "user", "none" or
	// "bridge:NAME".
	Network string
	// Segment is the private network of the run, where Network asks for one.
	Segment *plannedSegment
}

// plannedBoot is one machine to boot from one point.
type plannedBoot struct {
	Point lifeboat.RestorePoint
	// Name is what the machine is called on this host.
	Name     string
	Networks []hypervisor.Network
	Forwards []bootForward
	Checks   []bootCheck
}

// plannedSegment is a network that only the machines of the run see.
type plannedSegment struct {
	Name        string
	CIDR        netip.Prefix
	HostAddress netip.Addr
}

// segment describes the private network for the host, or is nil where nothing
// leads into one.
func (p *bootPlan) segment() *hypervisor.Segment {
	if p.Segment == nil {
		return nil
	}
	s := &hypervisor.Segment{Name: p.Segment.Name, CIDR: p.Segment.CIDR.String(), HostAddress: p.Segment.HostAddress.String()}
	for _, m := range p.Machines {
		for _, f := range m.Forwards {
			s.Forwards = append(s.Forwards, hypervisor.SegmentForward{HostPort: f.HostPort, Address: f.Address, GuestPort: f.GuestPort})
		}
	}
	if len(s.Forwards) == 0 {
		return nil
	}
	return s
}

// bootCheck is how a service is asked whether it answers.
type bootCheck struct {
	Machine string
	// Kind is "tcp" or "http".
	Kind string
	Port int
	Path string
	// Dial is where it is reached from this host: through a forward, or directly.
	Dial string
	// Guest is ADDRESS:PORT of the machine itself where a gateway stands between,
	// which accepts connections before the machine does.
	Guest string
}

func (c bootCheck) String() string {
	if c.Kind == "http" {
		return fmt.Sprintf("http:%d%s", c.Port, c.Path)
	}
	return fmt.Sprintf("tcp:%d", c.Port)
}

// pickPoints chooses the points to boot: by the beginning of a point's id, by
// the name or id of a machine (its newest point), or the newest of all.
func pickPoints(points []lifeboat.RestorePoint, names []string, all bool, label string) ([]lifeboat.RestorePoint, error) {
	newest := newestPoints(points)
	if all {
		if len(newest) == 0 {
			return nil, noPoints(label)
		}
		return newest, nil
	}
	var picked []lifeboat.RestorePoint
	for _, name := range names {
		p, err := pickPoint(points, newest, name, label)
		if err != nil {
			return nil, err
		}
		picked = append(picked, p)
	}
	return picked, nil
}

// newestPoints returns the newest point of each machine, by machine name.
func newestPoints(points []lifeboat.RestorePoint) []lifeboat.RestorePoint {
	return slices.SortedFunc(maps.Values(lifeboat.Newest(points)), func(x, y lifeboat.RestorePoint) int {
		return strings.Compare(x.Machine.Name+x.Machine.ID, y.Machine.Name+y.Machine.ID)
	})
}

func pickPoint(points, newest []lifeboat.RestorePoint, name, label string) (lifeboat.RestorePoint, error) {
	var found []lifeboat.RestorePoint
	for _, p := range newest {
		if p.Machine.Name == name || p.Machine.ID == name {
			found = append(found, p)
		}
	}
	if len(found) == 0 && len(name) >= 6 {
		for _, p := range points {
			if strings.HasPrefix(p.ID, name) {
				found = append(found, p)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return lifeboat.RestorePoint{}, &lifeboat.Problem{
			What: fmt.Sprintf("drive %s has no machine and no point %q", label, name),
			Safe: "nothing was done; the drive is unchanged",
			Next: "see what it has: lifeboat point list --drive " + shellWord(label),
		}
	default:
		return lifeboat.RestorePoint{}, usagef("%q means several points: give the whole id, see: lifeboat point list --drive %s", name, shellWord(label))
	}
}

func noPoints(label string) error {
	return &lifeboat.Problem{
		What: "drive " + label + " holds no restore point",
		Safe: "nothing was done; the drive is unchanged",
		Next: "attach another drive, or export to this one",
	}
}

// parseForward reads [HOSTPORT:]MACHINE:PORT. A host port of 0 means any.
func parseForward(text string) (hostPort int, machine string, port int, err error) {
	parts := strings.Split(text, ":")
	bad := usagef("--forward takes [HOSTPORT:]MACHINE:PORT, not %q", text)
	if len(parts) == 3 {
		if hostPort, err = parsePort(parts[0]); err != nil {
			return 0, "", 0, bad
		}
		parts = parts[1:]
	}
	if len(parts) != 2 || parts[0] == "" {
		return 0, "", 0, bad
	}
	if port, err = parsePort(parts[1]); err != nil {
		return 0, "", 0, bad
	}
	return hostPort, parts[0], port, nil
}

func parsePort(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("%q is not a port", text)
	}
	return n, nil
}

// parseCheck reads MACHINE=tcp:PORT or MACHINE=http:PORT[/PATH].
func parseCheck(text string) (bootCheck, error) {
	bad := usagef("--check takes MACHINE=tcp:PORT or MACHINE=http:PORT/PATH, not %q", text)
	machine, what, ok := strings.Cut(text, "=")
	kind, rest, ok2 := strings.Cut(what, ":")
	if !ok || !ok2 || machine == "" || (kind != "tcp" && kind != "http") {
		return bootCheck{}, bad
	}
	portText, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 && kind == "http" {
		portText, path = rest[:i], rest[i:]
	}
	port, err := parsePort(portText)
	if err != nil {
		return bootCheck{}, bad
	}
	if kind == "http" && path == "" {
		path = "/"
	}
	return bootCheck{Machine: machine, Kind: kind, Port: port, Path: path}, nil
}

// planner decides how machines are booted. It asks nobody but freePort.
type planner struct {
	run       string
	network   string
	forwards  []string
	checks    []string
	addresses []string
	// taken says whether this host has a machine of that name already.
	taken func(name string) bool
	// freePort returns a TCP port of the loopback that nobody listens on.
	freePort func() (int, error)
}

// plan decides everything that can be decided before a machine is touched.
func (pl planner) plan(points []lifeboat.RestorePoint) (*bootPlan, error) {
	plan := &bootPlan{Network: pl.network}
	seen := map[string]bool{}
	for _, p := range points {
		name := p.Machine.Name
		if seen[name] {
			return nil, usagef("two of the points are of a machine called %q: boot them one after the other", name)
		}
		seen[name] = true
		if pl.taken(name) {
			return nil, &lifeboat.Problem{
				What: fmt.Sprintf("%s: this host has a machine of that name already", name),
				Safe: "nothing was started",
				Next: fmt.Sprintf("see it: lifeboat ps; end it: lifeboat stop %s --remove", shellWord(name)),
			}
		}
		plan.Machines = append(plan.Machines, plannedBoot{Point: p, Name: name})
	}
	if err := pl.addAddresses(plan); err != nil {
		return nil, err
	}
	if err := pl.addWays(plan); err != nil {
		return nil, err
	}
	return plan, pl.addNetworks(plan)
}

func (p *bootPlan) find(name string) (*plannedBoot, error) {
	for i := range p.Machines {
		if p.Machines[i].Name == name {
			return &p.Machines[i], nil
		}
	}
	return nil, usagef("%q is not one of the machines to boot", name)
}

// addAddresses takes addresses from the command line for machines whose agent
// could not tell them when they were exported.
func (pl planner) addAddresses(plan *bootPlan) error {
	for _, text := range pl.addresses {
		machine, address, ok := strings.Cut(text, "=")
		prefix, err := netip.ParsePrefix(address)
		if !ok || err != nil {
			return usagef("--address takes MACHINE=ADDRESS/BITS, not %q", text)
		}
		b, err := plan.find(machine)
		if err != nil {
			return err
		}
		if len(b.Point.Machine.NICs) == 0 {
			return usagef("%s has no network card", machine)
		}
		b.Point.Machine.NICs[0].Addresses = []string{prefix.String()}
	}
	return nil
}

// addWays turns forwards into open ports of the loopback, and finds the way to
// each service that is to be checked.
func (pl planner) addWays(plan *bootPlan) error {
	kind, _, _ := strings.Cut(pl.network, ":")
	for _, text := range pl.forwards {
		hostPort, machine, port, err := parseForward(text)
		if err != nil {
			return err
		}
		b, err := plan.find(machine)
		if err != nil {
			return err
		}
		if kind != "segment" && kind != "user" {
			return usagef("--forward goes with --network segment or user, not with %s", pl.network)
		}
		if _, err := pl.forward(b, hostPort, port); err != nil {
			return err
		}
	}
	for _, text := range pl.checks {
		c, err := parseCheck(text)
		if err != nil {
			return err
		}
		b, err := plan.find(c.Machine)
		if err != nil {
			return err
		}
		if err := pl.reach(b, &c, kind); err != nil {
			return err
		}
		b.Checks = append(b.Checks, c)
	}
	return nil
}

// reach finds the way to a service.
func (pl planner) reach(b *plannedBoot, c *bootCheck, kind string) error {
	switch kind {
	case "segment":
		f, err := pl.forward(b, 0, c.Port)
		c.Dial, c.Guest = loopback(f.HostPort), net.JoinHostPort(f.Address, strconv.Itoa(c.Port))
		return err
	case "user":
		if c.Kind == "tcp" {
			return usagef("--check %s=tcp: on --network user a connection says nothing, because QEMU accepts it first; use http", shellWord(c.Machine))
		}
		f, err := pl.forward(b, 0, c.Port)
		c.Dial = loopback(f.HostPort)
		return err
	case "bridge":
		prefix, ok := addressOf(b.Point.Machine)
		if !ok {
			return noAddress(b.Name, c.Port)
		}
		c.Dial = net.JoinHostPort(prefix.Addr().String(), strconv.Itoa(c.Port))
		return nil
	default:
		return usagef("--check needs a network: --network segment, user or bridge:NAME")
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func noAddress(machine string, port int) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: its address is not known, so no way leads to its port %d (it had no agent when it was exported)", machine, port),
		Safe: "nothing was started",
		Next: fmt.Sprintf("say it: --address %s=ADDRESS/BITS", shellWord(machine)),
	}
}

// forward returns the way from the loopback to a machine's port, opening one
// where there is none yet.
func (pl planner) forward(b *plannedBoot, hostPort, port int) (bootForward, error) {
	for _, f := range b.Forwards {
		if f.GuestPort == port && (hostPort == 0 || hostPort == f.HostPort) {
			return f, nil
		}
	}
	if hostPort == 0 {
		var err error
		if hostPort, err = pl.freePort(); err != nil {
			return bootForward{}, err
		}
	}
	f := bootForward{HostPort: hostPort, GuestPort: port}
	if pl.network == "segment" {
		prefix, ok := addressOf(b.Point.Machine)
		if !ok {
			return bootForward{}, noAddress(b.Name, port)
		}
		f.Address = prefix.Addr().String()
	}
	b.Forwards = append(b.Forwards, f)
	return f, nil
}

// addressOf returns a machine's first IPv4 address that others can reach.
func addressOf(m lifeboat.Machine) (netip.Prefix, bool) {
	for _, n := range m.NICs {
		for _, text := range n.Addresses {
			p, err := netip.ParsePrefix(text)
			if err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
				return p, true
			}
		}
	}
	return netip.Prefix{}, false
}

// addNetworks decides where each network card's cable goes.
func (pl planner) addNetworks(plan *bootPlan) error {
	kind, bridge, _ := strings.Cut(pl.network, ":")
	var used []netip.Addr
	for i := range plan.Machines {
		b := &plan.Machines[i]
		if p, ok := addressOf(b.Point.Machine); ok {
			used = append(used, p.Addr())
			if plan.Segment == nil && kind == "segment" {
				plan.Segment = &plannedSegment{Name: "boot-" + short(pl.run), CIDR: p.Masked()}
			}
		}
		for nic := range b.Point.Machine.NICs {
			n, err := pl.cable(kind, bridge, nic, b.Forwards)
			if err != nil {
				return err
			}
			b.Networks = append(b.Networks, n)
		}
	}
	if plan.Segment != nil {
		plan.Segment.HostAddress = freeAddress(plan.Segment.CIDR, used)
	}
	return nil
}

// cable decides for one card. Forwards lead through the first.
func (pl planner) cable(kind, bridge string, nic int, forwards []bootForward) (hypervisor.Network, error) {
	switch kind {
	case "none":
		return hypervisor.Network{Kind: hypervisor.NetworkNone}, nil
	case "segment":
		return hypervisor.Network{Kind: hypervisor.NetworkSegment, Name: "boot-" + short(pl.run)}, nil
	case "bridge":
		if bridge == "" {
			return hypervisor.Network{}, usagef("--network bridge needs a name: bridge:br0")
		}
		return hypervisor.Network{Kind: hypervisor.NetworkBridge, Name: bridge}, nil
	case "user":
		n := hypervisor.Network{Kind: hypervisor.NetworkUser}
		if nic == 0 {
			for _, f := range forwards {
				n.Forwards = append(n.Forwards, hypervisor.Forward{HostPort: f.HostPort, GuestPort: f.GuestPort})
			}
		}
		return n, nil
	default:
		return hypervisor.Network{}, usagef("--network takes segment, user, none or bridge:NAME, not %q", pl.network)
	}
}

// freeAddress finds an address in a network that no machine has, from its end.
func freeAddress(p netip.Prefix, used []netip.Addr) netip.Addr {
	last := p.Addr()
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		last = a
		// Large networks: a free address near the start is as good.
		if host := a.As4(); p.Bits() < 20 && host[2] > 0 && host[3] == 255 {
			break
		}
	}
	for a := last.Prev(); p.Contains(a); a = a.Prev() {
		if !slices.Contains(used, a) {
			return a
		}
	}
	return last
}
