package runbook

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Meaning is a hash of what a runbook does, as 64 hex digits: its steps, machines,
// groups, checks, rules for hosts and networks, and objectives. Comments, the order
// of keys, names of people and their numbers, what messages and questions say, lead
// times and the period are no part of it. A drill counts for every text of the same
// meaning. A default that is written out means what it means unsaid.
//
// A later version of the program has the same hash for the same text: what it can
// say in addition is left out where it is not said.
func Meaning(b *Book) string {
	type canonical struct {
		Objectives Objectives         `json:"objectives,omitzero"`
		Tiers      map[int]Objectives `json:"tiers,omitempty"`
		Hosts      []HostRule         `json:"hosts,omitempty"`
		Networks   []NetworkRule      `json:"networks,omitempty"`
		Groups     []Group            `json:"groups,omitempty"`
		Machines   []Machine          `json:"machines"`
		Steps      []Step             `json:"steps,omitempty"`
	}
	c := canonical{Objectives: b.Objectives, Tiers: maps.Clone(b.Tiers)}
	// A tier that promises nothing is one that is not there.
	maps.DeleteFunc(c.Tiers, func(_ int, o Objectives) bool { return o == Objectives{} })
	for _, h := range b.Hosts {
		h.Line, h.Tiers, h.Machines = 0, sorted(h.Tiers), sorted(h.Machines)
		c.Hosts = append(c.Hosts, h)
	}
	for _, n := range b.Networks {
		c.Networks = append(c.Networks, plainNetwork(n))
	}
	for _, g := range b.Groups {
		g.Line, g.Machines = 0, sorted(g.Machines)
		c.Groups = append(c.Groups, g)
	}
	for _, m := range b.Machines {
		m.Line, m.After, m.Checks = 0, sorted(m.After), plainChecks(m.Checks)
		m.Tier, m.Point, m.OnFailure = max(m.Tier, 1), cmp.Or(m.Point, PointLatest), cmp.Or(m.OnFailure, FailStop)
		c.Machines = append(c.Machines, m)
	}
	for _, s := range b.Steps {
		s.Line, s.Text, s.Who, s.After, s.Checks = 0, "", "", sorted(s.After), plainChecks(s.Checks)
		s.Machines = sorted(s.Machines)
		c.Steps = append(c.Steps, s)
	}
	slices.SortFunc(c.Hosts, func(x, y HostRule) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(c.Networks, func(x, y NetworkRule) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(c.Groups, func(x, y Group) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(c.Machines, func(x, y Machine) int { return strings.Compare(x.Name, y.Name) })
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // plain data only
	}
	sum := sha256.Sum256(append([]byte("lifeboat runbook 1\n"), text...))
	return hex.EncodeToString(sum[:])
}

func sorted[T cmp.Ordered](all []T) []T { return slices.Sorted(slices.Values(all)) }

func plainNetwork(n NetworkRule) NetworkRule {
	n.Line = 0
	if len(n.Sources) == 0 {
		n.Sources = []string{n.Name}
	}
	n.Sources = sorted(n.Sources)
	n.Forwards = slices.SortedFunc(slices.Values(n.Forwards), func(x, y Forward) int { return strings.Compare(x.String(), y.String()) })
	return n
}

// usualPorts are asked where a check names none.
var usualPorts = map[CheckKind]int{CheckHTTP: 80, CheckHTTPS: 443, CheckDNS: 53}

// plainChecks writes the defaults out.
func plainChecks(checks []Check) []Check {
	var all []Check
	for _, c := range checks {
		c.Line, c.Port, c.Within, c.Passes = 0, cmp.Or(c.Port, usualPorts[c.Kind]), cmp.Or(c.Within, DefaultWithin), max(c.Passes, 1)
		if c.Kind == CheckHTTP || c.Kind == CheckHTTPS {
			c.Status = cmp.Or(c.Status, 200)
		}
		all = append(all, c)
	}
	return all
}
