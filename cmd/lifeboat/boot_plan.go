package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/hypervisor"
)

// bootPlan is what `boot` is going to do, decided before anything is done.
type bootPlan struct {
	Machines []plannedBoot
	// Network is what the operator asked for: "segment", "user", "none",
	// "bridge:NAME" or "network:NAME".
	Network string
	// Segment is the private network of the run, where Network asks for one.
	Segment *plannedSegment
}

// plannedBoot is one machine to boot from one point.
type plannedBoot struct {
	Point lifeboat.RestorePoint
	// Name is what the machine is called on its host.
	Name string
	// Form says what a person chose to have put in the place of what: Point's
	// machine is that form then. Empty means that the machine decides.
	Form string `json:",omitempty"`
	// Networks are where the cables of its network cards go, in order.
	Networks []hypervisor.Network
	Forwards []bootForward
	Checks   []bootCheck

	// readdressed says that --address gives it another address than it had.
	readdressed bool
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

	// direct says that Dial is on a network that others are on as well.
	direct bool
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

// planner decides how machines are booted. It asks nobody but taken and freePort.
type planner struct {
	run string
	// network is where cards lead that maps does not speak of, maps is
	// SOURCENETWORK=KIND:NAME each.
	network string
	maps    []string
	// renames are MACHINE=NAME each.
	renames   []string
	forwards  []string
	checks    []string
	addresses []string
	// segments says that the host has private networks.
	segments bool
	// taken says whether the host has a machine of that name already.
	taken func(name string) bool
	// freePort returns a TCP port of the loopback that nobody listens on.
	freePort func() (int, error)
}

// plan decides everything that can be decided before a machine is touched.
func (pl planner) plan(points []lifeboat.RestorePoint) (*bootPlan, error) {
	plan := &bootPlan{Network: pl.network}
	renamed, err := pl.renamed(points)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, p := range points {
		name := p.Machine.Name
		if other, ok := renamed[name]; ok {
			name = other
		}
		if seen[name] {
			return nil, usagef("two of the machines would be called %q: say another name with --rename, or boot them one after the other", name)
		}
		seen[name] = true
		if pl.taken(name) {
			return nil, &lifeboat.Problem{
				What: fmt.Sprintf("%s: this host has a machine of that name already", name),
				Safe: "nothing was started",
				Next: fmt.Sprintf("if it was booted from a drive, see it: lifeboat ps; end it: lifeboat stop %s --remove; for a copy beside it: --rename %s=NAME; if it is what is left of the one that was lost, take it off the host first", shellWord(name), shellWord(p.Machine.Name)),
			}
		}
		plan.Machines = append(plan.Machines, plannedBoot{Point: p, Name: name})
	}
	if err := pl.addAddresses(plan); err != nil {
		return nil, err
	}
	if err := pl.addNetworks(plan); err != nil {
		return nil, err
	}
	return plan, pl.addWays(plan)
}

// renamed reads --rename: names at the source, and what they become.
func (pl planner) renamed(points []lifeboat.RestorePoint) (map[string]string, error) {
	names := map[string]string{}
	for _, text := range pl.renames {
		from, to, ok := strings.Cut(text, "=")
		if !ok || from == "" || to == "" || plainText(to) != to || oneLine(to) != to {
			return nil, usagef("--rename takes MACHINE=NAME, not %q", text)
		}
		if !slices.ContainsFunc(points, func(p lifeboat.RestorePoint) bool { return p.Machine.Name == from }) {
			return nil, usagef("--rename: %q is not one of the machines to boot", from)
		}
		names[from] = to
	}
	return names, nil
}

func (p *bootPlan) find(name string) (*plannedBoot, error) {
	for i := range p.Machines {
		if p.Machines[i].Name == name {
			return &p.Machines[i], nil
		}
	}
	var names []string
	for _, m := range p.Machines {
		names = append(names, m.Name)
		if m.Point.Machine.Name == name {
			return nil, usagef("%q is called %q here (--rename): say that name", name, m.Name)
		}
	}
	return nil, usagef("%q is not one of the machines to boot: %s", name, list(names))
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
		had, known := addressOf(b.Point.Machine.NICs[0])
		b.readdressed = !known || had.Addr() != prefix.Addr()
		b.Point.Machine.NICs[0].Addresses = []string{prefix.String()}
	}
	return nil
}
