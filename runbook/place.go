package runbook

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
)

// What a host keeps for itself where no rule says how much machines may take: a
// sixteenth of its memory, at least as much as a small system needs.
const (
	hostReserveShare = 16
	hostReserveBytes = 512 << 20
)

// cpusPerCPU is how many virtual processors share one of the host where no rule
// says more: servers mostly wait.
const cpusPerCPU = 4

// bootBytesPerSecond is what one machine that starts asks of a drive. With more of
// them than a drive can feed all of them are late.
const bootBytesPerSecond = 40 << 20

// Boots at the same time, where no rule says how many: unknownBoots from a drive
// whose rate nobody measured, mostBoots from the fastest.
const (
	unknownBoots = 2
	mostBoots    = 8
)

// addHosts lists the hosts that may be used and fills them.
func (r *resolver) addHosts() {
	for _, name := range r.hostNames() {
		h, _ := r.host(name)
		rule, _ := r.book.hostRule(name)
		r.plan.Hosts = append(r.plan.Hosts, PlannedHost{Name: name, Kind: h.Kind, KVM: h.KVM, Remote: h.Remote,
			MemoryBytes: memoryFor(h, rule), CPUs: cpusFor(h, rule), Boots: r.bootsFor(h, rule)})
	}
	for i := range r.plan.Machines {
		r.plan.Machines[i].MayRunOn = r.mayRunOn(r.subjects[i])
	}
	fill(r.plan)
	for i, m := range r.plan.Machines {
		if m.Host == "" {
			r.noRoom(r.subjects[i], m)
		}
	}
}

// hostNames are the hosts that answered and that a rule lets in: in the order of
// the rules, and of the situation where a rule speaks of any host.
func (r *resolver) hostNames() (names []string) {
	for _, rule := range r.book.hostRules() {
		for _, h := range r.s.Hosts {
			if h.Reached && (h.Name == rule.Name || rule.Name == "*") && !slices.Contains(names, h.Name) {
				names = append(names, h.Name)
			}
		}
	}
	return names
}

// hostRules are the rules, those for a named host first. Without any, each host may
// run everything.
func (b *Book) hostRules() []HostRule {
	if len(b.Hosts) == 0 {
		return []HostRule{{Name: "*"}}
	}
	rules := slices.Clone(b.Hosts)
	slices.SortStableFunc(rules, func(x, y HostRule) int { return boolOrder(x.Name != "*", y.Name != "*") })
	return rules
}

// hostRule is what the runbook says of a host.
func (b *Book) hostRule(name string) (HostRule, bool) {
	for _, rule := range b.hostRules() {
		if rule.Name == name || rule.Name == "*" {
			return rule, true
		}
	}
	return HostRule{}, false
}

func (r *resolver) host(name string) (KnownHost, bool) {
	i := slices.IndexFunc(r.s.Hosts, func(h KnownHost) bool { return h.Name == name })
	if i < 0 {
		return KnownHost{}, false
	}
	return r.s.Hosts[i], true
}

// memoryFor is what machines may take on a host; 0: it does not tell.
func memoryFor(h KnownHost, rule HostRule) int64 {
	if rule.MemoryBytes > 0 {
		return rule.MemoryBytes
	}
	limit := h.FreeMemoryBytes
	if h.TotalMemoryBytes > 0 {
		own := h.TotalMemoryBytes - max(hostReserveBytes, h.TotalMemoryBytes/hostReserveShare)
		if limit == 0 || own < limit {
			// A host as small as that still says that it has a limit.
			limit = max(own, 1)
		}
	}
	return limit
}

func cpusFor(h KnownHost, rule HostRule) int {
	return cmp.Or(rule.CPUs, h.CPUs*cpusPerCPU)
}

// bootsFor is how many machines start on a host at the same time: as many as the
// slowest drive of the plan feeds, and the host has processors for.
func (r *resolver) bootsFor(h KnownHost, rule HostRule) int {
	if rule.Boots > 0 {
		return rule.Boots
	}
	boots := mostBoots
	for _, d := range r.plan.Drives {
		fed := unknownBoots
		if rate := r.drives[d.ID].ReadBytesPerSecond; rate > 0 {
			fed = int(rate / bootBytesPerSecond)
		}
		boots = min(boots, fed)
	}
	if h.CPUs > 0 {
		boots = min(boots, h.CPUs)
	}
	return max(boots, 1)
}

// mayRunOn are the hosts of the plan that the runbook lets a machine run on.
func (r *resolver) mayRunOn(m *subject) []string {
	allowed := []string{}
	for _, h := range r.plan.Hosts {
		rule, _ := r.book.hostRule(h.Name)
		all := len(rule.Tiers) == 0 && len(rule.Machines) == 0
		if (m.Host == "" || m.Host == h.Name) && (all || slices.Contains(rule.Tiers, m.Tier) || slices.Contains(rule.Machines, m.Name)) {
			allowed = append(allowed, h.Name)
		}
	}
	return allowed
}

// Place gives the machines of hosts that are gone new hosts, among those of the
// plan that are left, and leaves every other machine where it is. It returns a plan
// of its own; a machine that fits nowhere has no host there, and a finding that
// stops it and nothing else.
func Place(p *Plan, gone ...string) (*Plan, []Finding) {
	next := *p
	next.Machines, next.Hosts = slices.Clone(p.Machines), nil
	for _, h := range p.Hosts {
		if !slices.Contains(gone, h.Name) {
			h.Machines = nil
			next.Hosts = append(next.Hosts, h)
		}
	}
	var moved []int
	for i := range next.Machines {
		m := &next.Machines[i]
		m.MayRunOn = filter(m.MayRunOn, func(name string) bool { return !slices.Contains(gone, name) })
		if slices.Contains(gone, m.Host) {
			m.Host, m.HostWhy = "", ""
			moved = append(moved, i)
		}
	}
	fill(&next)
	var findings []Finding
	for _, i := range moved {
		if m := next.Machines[i]; m.Host == "" {
			findings = append(findings, noPlace(&next, m))
		}
	}
	return &next, sortFindings(findings)
}

// left is what a host still has.
type left struct {
	memory int64
	cpus   int
}

// leftOn is what the hosts of a plan have beside the machines that are on them.
func leftOn(p *Plan) map[string]left {
	all := map[string]left{}
	for _, h := range p.Hosts {
		room := left{math.MaxInt64, math.MaxInt}
		if h.MemoryBytes > 0 {
			room.memory = h.MemoryBytes
		}
		if h.CPUs > 0 {
			room.cpus = h.CPUs
		}
		all[h.Name] = room
	}
	for _, m := range p.Machines {
		if room, ok := all[m.Host]; ok {
			all[m.Host] = left{room.memory - m.Memory, room.cpus - m.CPUs}
		}
	}
	return all
}

// fill places the machines that have no host: the first tiers first, in a tier
// those with the least choice and then the largest, each on the host with hardware
// virtualisation, near the drive, that it leaves the least room on.
func fill(p *Plan) {
	room := leftOn(p)
	var order []int
	for i, m := range p.Machines {
		if m.Host == "" && m.Point.ID != "" {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := p.Machines[a], p.Machines[b]
		return cmp.Or(cmp.Compare(tierOrder(x.Tier), tierOrder(y.Tier)), cmp.Compare(len(x.MayRunOn), len(y.MayRunOn)),
			cmp.Compare(y.Memory, x.Memory), cmp.Compare(y.CPUs, x.CPUs), cmp.Compare(x.Name, y.Name))
	})
	for _, i := range order {
		m := &p.Machines[i]
		fits := filter(p.Hosts, func(h PlannedHost) bool {
			return slices.Contains(m.MayRunOn, h.Name) && room[h.Name].memory >= m.Memory && room[h.Name].cpus >= m.CPUs
		})
		if len(fits) == 0 {
			continue
		}
		best := slices.MinFunc(fits, func(a, b PlannedHost) int {
			return cmp.Or(boolOrder(a.KVM, b.KVM), boolOrder(!a.Remote, !b.Remote),
				cmp.Compare(room[a.Name].memory, room[b.Name].memory), cmp.Compare(a.Name, b.Name))
		})
		m.Host, m.HostWhy = best.Name, whyThere(m, best, len(fits), room[best.Name])
		room[best.Name] = left{room[best.Name].memory - m.Memory, room[best.Name].cpus - m.CPUs}
	}
	listed := map[string][]string{}
	for _, m := range p.Machines {
		listed[m.Host] = append(listed[m.Host], m.Name)
	}
	for i := range p.Hosts {
		p.Hosts[i].Machines = listed[p.Hosts[i].Name]
	}
}

// tierOrder puts machines of no tier last: nothing waits for them.
func tierOrder(tier int) int {
	if tier == 0 {
		return math.MaxInt
	}
	return tier
}

func whyThere(m *PlannedMachine, h PlannedHost, fits int, room left) string {
	switch {
	case len(m.MayRunOn) == 1:
		return "the only host that it may run on"
	case fits == 1:
		return "the only host with room for it"
	case h.MemoryBytes == 0:
		return "the first that does not tell a limit"
	}
	return fmt.Sprintf("it fits best there: %s of %s were left", sizeWords(room.memory), sizeWords(h.MemoryBytes))
}

// noRoom finds why a machine with a point has no host.
func (r *resolver) noRoom(m *subject, planned PlannedMachine) {
	switch {
	case planned.Point.ID == "":
		return
	case len(planned.MayRunOn) > 0:
		f := noPlace(r.plan, planned)
		f.Line = m.Line
		r.plan.Findings = append(r.plan.Findings, f)
	case m.Host != "":
		r.find(Stops, "host-unreached", m, fmt.Sprintf("%s may run on host %s only, which %s", m.Name, m.Host, r.whyAway(m.Host)), "see what is wrong with it: lifeboat host check; or take host: off the machine")
	case len(r.plan.Hosts) == 0:
		r.find(Stops, "host-unreached", m, m.Name+": no host that the runbook names can be reached", "see what is wrong: lifeboat host check")
	default:
		r.find(Stops, "host-unreached", m, m.Name+": no host that can be reached may run it", "let a host run it with tiers: or machines: in hosts:, or make another one reachable")
	}
}

// whyAway says why a host is not in the plan.
func (r *resolver) whyAway(name string) string {
	switch h, known := r.host(name); {
	case !known:
		return "nobody knows"
	case !h.Reached:
		return "does not answer: " + cmp.Or(h.Why, "nobody knows why")
	default:
		return "the runbook keeps for other machines"
	}
}

// noPlace says with figures why a machine fits on no host that it may run on.
func noPlace(p *Plan, m PlannedMachine) Finding {
	f := Finding{Severity: Stops, Code: "memory", Machine: m.Name}
	if len(m.MayRunOn) == 0 {
		f.Code, f.What = "host-unreached", m.Name+": no host is left that it may run on"
		f.Next = "make another host reachable, and resume the run"
		return f
	}
	room, best := leftOn(p), ""
	for _, h := range m.MayRunOn {
		if best == "" || room[h].memory > room[best].memory {
			best = h
		}
	}
	roomy := slices.ContainsFunc(m.MayRunOn, func(h string) bool { return room[h].memory >= m.Memory })
	h := p.Hosts[slices.IndexFunc(p.Hosts, func(h PlannedHost) bool { return h.Name == best })]
	if roomy {
		most := slices.Max(slices.Collect(maps.Values(cpusLeft(room, m.MayRunOn))))
		f.Code = "cpus"
		f.What = fmt.Sprintf("%s needs %d CPUs, and no host with memory for it has more than %d left beside the other machines", m.Name, m.CPUs, max(most, 0))
		f.Next = "give it fewer with cpus: in the runbook, raise cpus: of a host, or add a host"
		return f
	}
	f.What = fmt.Sprintf("%s needs %s of memory; the most that is left is %s of %s, on host %s", m.Name, sizeWords(m.Memory), sizeWords(max(room[best].memory, 0)), sizeWords(h.MemoryBytes), best)
	f.Next = "give it less with memory: in the runbook, leave machines out, or add a host"
	return f
}

func cpusLeft(room map[string]left, hosts []string) map[string]int {
	all := map[string]int{}
	for _, h := range hosts {
		all[h] = room[h].cpus
	}
	return all
}
