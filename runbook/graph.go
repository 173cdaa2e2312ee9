package runbook

import (
	"fmt"
	"slices"
	"strings"
)

// order is the order of a plan's steps. A step is known by its place in the plan.
type order struct {
	steps []PlannedStep
	byID  map[string]int
	// needs are the steps that end before one begins; order is one in which each
	// stands behind what it needs.
	needs [][]int
	order []int
}

// newOrder checks that the steps of a plan can be done at all.
func newOrder(p *Plan) (*order, error) {
	g := &order{steps: p.Steps, byID: map[string]int{}, needs: make([][]int, len(p.Steps))}
	machines := map[string]bool{}
	for _, m := range p.Machines {
		machines[m.Name] = true
	}
	for i, s := range p.Steps {
		if _, twice := g.byID[s.ID]; twice || s.ID == "" {
			return nil, fmt.Errorf("plan: two steps are called %q", s.ID)
		}
		if s.Machine != "" && !machines[s.Machine] {
			return nil, fmt.Errorf("plan: step %s is about %s, which is no machine of it", s.ID, s.Machine)
		}
		g.byID[s.ID] = i
	}
	for i, s := range p.Steps {
		for _, id := range s.After {
			n, ok := g.byID[id]
			if !ok {
				return nil, fmt.Errorf("plan: step %s comes after %s, which is no step of it", s.ID, id)
			}
			g.needs[i] = append(g.needs[i], n)
		}
	}
	return g, g.sort()
}

// sort finds the order, or names the steps of a loop.
func (g *order) sort() error {
	left := make([]int, len(g.steps))
	after := make([][]int, len(g.steps))
	for i, needs := range g.needs {
		left[i] = len(needs)
		for _, n := range needs {
			after[n] = append(after[n], i)
		}
	}
	for i := range g.steps {
		if left[i] == 0 {
			g.order = append(g.order, i)
		}
	}
	for at := 0; at < len(g.order); at++ {
		for _, i := range after[g.order[at]] {
			if left[i]--; left[i] == 0 {
				g.order = append(g.order, i)
			}
		}
	}
	if len(g.order) == len(g.steps) {
		return nil
	}
	var loop []string
	for i, s := range g.steps {
		if left[i] > 0 {
			loop = append(loop, s.ID)
		}
	}
	return fmt.Errorf("plan: these steps wait for each other: %s", strings.Join(loop, ", "))
}

// before returns what a step needs, and what that needs, marked by place.
func (g *order) before(steps ...int) []bool {
	marked := make([]bool, len(g.steps))
	todo := slices.Clone(steps)
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, n := range g.needs[i] {
			if !marked[n] {
				marked[n] = true
				todo = append(todo, n)
			}
		}
	}
	return marked
}
