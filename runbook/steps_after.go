package runbook

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/yamlfile"
)

// dropped is a step that is not done in this mode, or for no machine of the plan:
// whoever waits for it waits for what it would have waited for, and a machine's own
// step for what of it is done here.
type dropped struct {
	after []string
	nodes []int
	seen  bool
}

// drop keeps what a step of the file stands for that is not done here, under its
// own name and those that it has for each of its machines.
func (g *graph) drop(s Step, machines []*subject) {
	all := &dropped{after: s.After}
	for _, m := range machines {
		one := &dropped{after: s.After, nodes: g.beforeOf(s, g.chains[m.Name])}
		all.nodes = append(all.nodes, one.nodes...)
		if name := string(s.Kind) + "-" + m.Name; g.missing[name] == nil {
			g.missing[name] = one
		}
	}
	if s.ID != "" {
		g.missing[s.ID] = all
	}
}

// beforeOf are the steps of a machine that a step of the file about it waits for
// anyway; of one that is the machine's own, what there is of it.
func (g *graph) beforeOf(s Step, c *chain) []int {
	switch {
	case s.ownStep(c.machine.Machine) && g.missingHere(s):
		return []int{g.standsFor(c, s.Kind)}
	case len(s.After) == 0:
		return []int{c.steps[StepBoot], c.ready}
	}
	return []int{c.steps[StepBoot]}
}

// missingHere says that a step of the file is not done in this mode.
func (g *graph) missingHere(s Step) bool {
	return s.When != WhenAlways && string(s.When) != string(g.r.s.Mode) ||
		g.r.s.Mode == Drill && (s.Kind == StepConnect || s.Kind == StepSettle)
}

// standsFor is the step of a machine that one of its own means here. Where there is
// none of that kind (a drill plugs nothing in, and not every machine is settled) it
// is the one that it would have come after.
func (g *graph) standsFor(c *chain, kind StepKind) int {
	if i, there := c.steps[kind]; there {
		return i
	}
	if kind == StepConnect && overNetwork(g.r.checksOf(c.machine)) {
		return c.steps[StepBoot]
	}
	return c.ready
}

// machineFirst and stepFirst look up a name of after:.
func (g *graph) machineFirst(name string) ([]int, bool) {
	if c, ok := g.chains[name]; ok {
		return []int{g.readyOf(c)}, true
	}
	nodes, ok := g.named[name]
	return nodes, ok
}

func (g *graph) stepFirst(name string) ([]int, bool) {
	if nodes, ok := g.named[name]; ok {
		return nodes, true
	}
	return g.machineFirst(name)
}

// behind are the steps that a name of after: means.
func (g *graph) behind(name string, line int, m *subject, look func(string) ([]int, bool)) (all []int) {
	if nodes, ok := look(name); ok {
		return nodes
	}
	if d, ok := g.missing[name]; ok {
		if d.seen {
			return nil
		}
		d.seen = true
		all = slices.Clone(d.nodes)
		for _, other := range d.after {
			all = append(all, g.behind(other, line, m, g.stepFirst)...)
		}
		d.seen = false
		return all
	}
	if nodes, right := g.inBook(name); right {
		return nodes
	}
	what := fmt.Sprintf("after: %s is no machine and no step of the runbook%s", name, yamlfile.Meant(name, sortedKeys(g.known())))
	machine := ""
	if m != nil {
		machine = m.Name
	}
	g.r.findAt(Stops, "unknown-step", machine, line, what, "correct the name in after:")
	return nil
}

// inBook says that a name is right though no step here bears it, and what it means:
// a machine's own step that is not done here, the release of a tier where nothing is
// isolated (all was checked then), or a machine that is not in the plan, which
// nobody waits for.
func (g *graph) inBook(name string) (nodes []int, right bool) {
	for _, m := range g.r.book.Machines {
		if name == releaseOf(m.Tier) {
			for _, c := range g.chains {
				nodes = append(nodes, c.steps[StepCheck])
			}
			return nodes, true
		}
		kind, rest, _ := strings.Cut(name, "-")
		c, planned := g.chains[m.Name]
		switch {
		case m.Name == name:
			return nil, true
		case m.Name != rest:
		case planned && slices.Contains(impliedKinds, StepKind(kind)):
			return []int{g.standsFor(c, StepKind(kind))}, true
		case !planned && slices.Contains(machineKinds, StepKind(kind)):
			return nil, true
		}
	}
	return nil, false
}

func (g *graph) known() map[string]bool {
	all := map[string]bool{}
	for name := range g.named {
		all[name] = true
	}
	for name := range g.chains {
		all[name] = true
	}
	return all
}
