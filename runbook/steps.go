package runbook

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// addSteps makes the graph of all steps. Each machine has its own, in a row; those
// of the file join them or stand beside them. What has no order between it may
// be done at the same time.
func (r *resolver) addSteps() {
	g := &graph{r: r, named: map[string][]int{}, missing: map[string]*dropped{}, ids: map[string]bool{}, chains: map[string]*chain{}}
	for _, s := range r.book.Steps {
		g.ids[s.ID] = true
	}
	g.addMachines()
	g.addReleases()
	g.addFile()
	g.orderMachines()
	g.orderFile()
	for _, loop := range g.loops() {
		r.findAt(Stops, "loop", "", g.lineOf(loop), "these wait for each other: "+g.loopWords(loop), "take one of them out of after: or correct a tier")
	}
	r.plan.Steps = g.ordered()
}

// node is a step on its way to the plan.
type node struct {
	PlannedStep
	after map[int]bool
	level int
}

// chain are the steps of one machine, by their kinds, in their order. ready is the
// last of them before anything that needs the machine begins.
type chain struct {
	machine *subject
	steps   map[StepKind]int
	ready   int
	// said are those that the file speaks of.
	said map[StepKind]bool
}

type graph struct {
	r     *resolver
	nodes []*node
	// named are the nodes behind a name that after: may say; missing those names
	// that are right and stand for nothing here.
	named   map[string][]int
	missing map[string]*dropped
	// ids are those that the steps of the file have.
	ids    map[string]bool
	chains map[string]*chain
	// fromFile are the nodes of each step of the file, by its place there.
	fromFile [][]int
}

// add adds a step. One whose id another has, or that would take the id of another
// step of the file, gets a number.
func (g *graph) add(s PlannedStep) int {
	for id, n := s.ID, 2; len(g.named[s.ID]) > 0 || s.ID != s.Step.ID && g.ids[s.ID]; n++ {
		s.ID = id + "-" + strconv.Itoa(n)
	}
	g.nodes = append(g.nodes, &node{PlannedStep: s, after: map[int]bool{}})
	i := len(g.nodes) - 1
	g.named[s.ID] = []int{i}
	return i
}

func (g *graph) wait(step int, before ...int) {
	for _, b := range before {
		g.nodes[step].after[b] = true
	}
}

// addMachines gives each machine its steps. In a recovery a machine is plugged in
// before its checks where those go over the network; where they do not, and where
// everything is checked in isolated networks first, it is plugged in after them.
func (g *graph) addMachines() {
	for _, m := range g.r.subjects {
		kinds := []StepKind{StepBoot, StepCheck}
		if g.r.s.Mode == Recover {
			kinds = []StepKind{StepBoot, StepConnect, StepCheck}
			if g.r.plan.Isolated || !overNetwork(g.r.checksOf(m)) {
				kinds = []StepKind{StepBoot, StepCheck, StepConnect}
			}
		}
		c := &chain{machine: m, steps: map[StepKind]int{}, said: map[StepKind]bool{}}
		for _, kind := range kinds {
			g.link(c, kind)
		}
		if m.Settle && g.r.s.Mode == Recover {
			g.link(c, StepSettle)
		}
		g.chains[m.Name] = c
	}
}

// link adds the next step of a machine. Nobody has to wait until it is settled.
func (g *graph) link(c *chain, kind StepKind) int {
	m := c.machine
	id := string(kind) + "-" + m.Name
	i := g.add(PlannedStep{ID: id, Kind: kind, Machine: m.Name, Tier: m.Tier,
		Step: Step{ID: id, Kind: kind, Machines: []string{m.Name}, Essential: true, OnFailure: m.OnFailure}})
	if len(c.steps) > 0 {
		g.wait(i, c.ready)
	}
	c.steps[kind] = i
	if kind != StepSettle {
		c.ready = i
	}
	return i
}

// overNetwork says that a machine is asked through its network: by a check of that
// kind, by a command of whoever runs this, or by nothing at all.
func overNetwork(checks []Check) bool {
	return len(checks) == 0 || slices.ContainsFunc(checks, func(c Check) bool {
		return c.Kind != CheckAgent && c.Kind != CheckConsole && c.Kind != CheckGuest
	})
}

// checksOf are the checks of a machine: its own, else those of its check steps.
func (r *resolver) checksOf(m *subject) []Check {
	if len(m.Checks) > 0 {
		return m.Checks
	}
	var all []Check
	for _, s := range r.book.Steps {
		if s.Kind == StepCheck && (slices.Contains(s.Machines, m.Name) || s.Tier != 0 && s.Tier == m.Tier) {
			all = append(all, s.Checks...)
		}
	}
	return all
}

// addReleases makes a person let each tier out, after everything was checked.
func (g *graph) addReleases() {
	if !g.r.plan.Isolated {
		return
	}
	tiers := map[int][]*chain{}
	var checks []int
	for _, m := range g.r.subjects {
		c := g.chains[m.Name]
		tiers[m.Tier] = append(tiers[m.Tier], c)
		checks = append(checks, c.steps[StepCheck])
	}
	for _, tier := range g.tiers() {
		var members []*subject
		for _, c := range tiers[tier] {
			members = append(members, c.machine)
		}
		id := releaseOf(tier)
		text := fmt.Sprintf("Release tier %d to its real networks: %s? Everything was checked in the isolated networks.", tier, strings.Join(machineNames(members), ", "))
		release := g.add(PlannedStep{ID: id, Kind: StepConfirm, Tier: tier, Step: Step{ID: id, Kind: StepConfirm, Text: text, Essential: true, OnFailure: FailStop}})
		g.wait(release, checks...)
		for _, c := range tiers[tier] {
			g.wait(c.steps[StepConnect], release)
			checks = append(checks, c.steps[StepConnect])
		}
	}
}

// releaseOf is the step by which a person lets a tier out.
func releaseOf(tier int) string { return releasePrefix + strconv.Itoa(tier) }

const releasePrefix = "release-tier-"

// tiers are the tiers of the plan's machines; those of no tier come last.
func (g *graph) tiers() []int {
	seen := map[int]bool{}
	for _, m := range g.r.subjects {
		seen[m.Tier] = true
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b int) int { return cmp.Compare(tierOrder(a), tierOrder(b)) })
}

// addFile adds the steps of the file. A boot, check, connect or settle step is the
// machine's own, which it names and gives an order; all others stand beside.
func (g *graph) addFile() {
	g.fromFile = make([][]int, len(g.r.book.Steps))
	for i, s := range g.r.book.Steps {
		machines := g.machinesOf(s)
		away := g.missingHere(s) ||
			(len(s.Machines) > 0 || s.Tier != 0) && len(machines) == 0
		switch {
		case away:
			g.drop(s, machines)
		case s.perMachine():
			g.addEach(i, s, machines)
		default:
			g.addOne(i, s)
		}
	}
}

// perMachine says that a step is done once for each machine that it is about.
func (s Step) perMachine() bool {
	return slices.Contains(machineKinds, s.Kind)
}

// machinesOf are the machines of the plan that a step is about.
func (g *graph) machinesOf(s Step) []*subject {
	return filter(g.r.subjects, func(m *subject) bool {
		return slices.Contains(s.Machines, m.Name) || len(s.Machines) == 0 && s.Tier != 0 && s.Tier == m.Tier
	})
}

// ownStep says that a step of the file is one that its machine has anyway. A check
// step that brings checks is that only for a machine that has none of its own.
func (s Step) ownStep(m Machine) bool {
	switch s.Kind {
	case StepBoot, StepConnect, StepSettle:
		return true
	}
	return s.Kind == StepCheck && (len(s.Checks) == 0 || len(m.Checks) == 0)
}

func (g *graph) addEach(place int, s Step, machines []*subject) {
	for _, m := range machines {
		id := s.ID
		if len(s.Machines) > 1 || s.Tier != 0 {
			id = string(s.Kind) + "-" + m.Name
		}
		c := g.chains[m.Name]
		own := s.ownStep(m.Machine) && (s.Kind != StepCheck || !c.said[StepCheck])
		i, there := c.steps[s.Kind]
		switch {
		case own && there:
			g.rename(i, id)
		case own:
			i = g.link(c, s.Kind)
			g.rename(i, id)
		default:
			i = g.add(PlannedStep{ID: id, Kind: s.Kind, Machine: m.Name, Tier: m.Tier, Step: s})
			g.wait(i, g.beforeOf(s, c)...)
		}
		c.said[s.Kind] = c.said[s.Kind] || own
		n := g.nodes[i]
		n.Step = s
		n.Step.ID, n.Step.Machines, n.Step.Tier, n.Step.After = n.ID, []string{m.Name}, m.Tier, nil
		n.Step.OnFailure = cmp.Or(s.OnFailure, m.OnFailure)
		n.Step.Essential = s.Essential || own
		g.fromFile[place] = append(g.fromFile[place], i)
	}
	g.alias(s.ID, g.fromFile[place])
}

// rename gives a machine's own step the id of the file; its usual one stays known.
func (g *graph) rename(i int, id string) {
	if id == g.nodes[i].ID || len(g.named[id]) > 0 {
		return
	}
	g.nodes[i].ID = id
	g.named[id] = []int{i}
}

// alias lets after: say one name for all of a step's machines.
func (g *graph) alias(id string, nodes []int) {
	if id != "" && len(g.named[id]) == 0 {
		g.named[id] = nodes
	}
}

// addOne adds a step that is done once, and is about no machine.
func (g *graph) addOne(place int, s Step) {
	i := g.add(PlannedStep{ID: cmp.Or(s.ID, string(s.Kind)), Kind: s.Kind, Step: s})
	n := g.nodes[i]
	n.Step.ID, n.Step.After = n.ID, nil
	n.Step.OnFailure = cmp.Or(s.OnFailure, FailStop)
	g.fromFile[place] = []int{i}
}

// orderMachines lets a tier wait for the one before it, and a machine for those
// that it says it comes after.
func (g *graph) orderMachines() {
	ready := map[int][]int{}
	for _, m := range g.r.subjects {
		ready[m.Tier] = append(ready[m.Tier], g.readyOf(g.chains[m.Name]))
	}
	before := map[int][]int{}
	var last []int
	for _, tier := range g.tiers() {
		if tier != 0 {
			before[tier], last = last, ready[tier]
		}
	}
	for _, m := range g.r.subjects {
		c := g.chains[m.Name]
		boot := c.steps[StepBoot]
		g.wait(boot, before[m.Tier]...)
		for _, name := range m.After {
			g.wait(boot, g.behind(name, m.Line, m, g.machineFirst)...)
		}
	}
}

// readyOf is the step of a machine that others wait for. Where a person releases
// tier by tier, all are checked before the first is let out.
func (g *graph) readyOf(c *chain) int {
	if g.r.plan.Isolated {
		return c.steps[StepCheck]
	}
	return c.ready
}

// orderFile adds what the steps of the file say with after:.
func (g *graph) orderFile() {
	for i, s := range g.r.book.Steps {
		for _, node := range g.fromFile[i] {
			for _, name := range s.After {
				g.wait(node, g.behind(name, s.Line, nil, g.stepFirst)...)
			}
		}
	}
}
