package runbook

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// settleLevels gives each step its level: one more than the highest of those that
// it waits for. It returns the steps that have none, because they wait for each
// other, or for such.
func (g *graph) settleLevels(without map[int]bool) (stuck []int) {
	waits := make([]int, len(g.nodes))
	behind := make([][]int, len(g.nodes))
	var free []int
	for i, n := range g.nodes {
		n.level = 0
		for b := range n.after {
			if !without[b] && !without[i] {
				waits[i]++
				behind[b] = append(behind[b], i)
			}
		}
		if waits[i] == 0 {
			free = append(free, i)
		}
	}
	for len(free) > 0 {
		i := free[0]
		free = free[1:]
		for _, next := range behind[i] {
			g.nodes[next].level = max(g.nodes[next].level, g.nodes[i].level+1)
			if waits[next]--; waits[next] == 0 {
				free = append(free, next)
			}
		}
	}
	for i := range g.nodes {
		if waits[i] > 0 {
			stuck = append(stuck, i)
		}
	}
	return stuck
}

// loops are the rings of steps that wait for each other, each once.
func (g *graph) loops() (all [][]int) {
	out := map[int]bool{}
	for {
		stuck := g.settleLevels(out)
		if len(stuck) == 0 {
			return all
		}
		ring := g.ring(stuck, out)
		all = append(all, ring)
		for _, i := range ring {
			out[i] = true
		}
	}
}

// ring walks back from a stuck step, always to the first stuck one that it waits
// for, until it comes to one that it met before.
func (g *graph) ring(stuck []int, out map[int]bool) []int {
	at, met, path := stuck[0], map[int]int{}, []int{}
	for {
		if from, again := met[at]; again {
			return path[from:]
		}
		met[at] = len(path)
		path = append(path, at)
		for _, b := range slices.Sorted(maps.Keys(g.nodes[at].after)) {
			if _, isStuck := slices.BinarySearch(stuck, b); isStuck && !out[b] {
				at = b
				break
			}
		}
	}
}

// loopWords names a loop: "boot-a waits for check-b, that for boot-a".
func (g *graph) loopWords(ring []int) string {
	words := []string{g.nodes[ring[0]].ID}
	for _, i := range append(ring[1:], ring[0]) {
		words = append(words, g.nodes[i].ID)
	}
	return strings.Join(words, " waits for ")
}

// lineOf is the first line of the runbook that speaks of a loop.
func (g *graph) lineOf(ring []int) int {
	line := 0
	for _, i := range ring {
		n := g.nodes[i]
		l := n.Step.Line
		if c := g.chains[n.Machine]; l == 0 && c != nil {
			l = c.machine.Line
		}
		if l > 0 && (line == 0 || l < line) {
			line = l
		}
	}
	return line
}

// ordered are the steps with each after those that it waits for, and else in the
// order of the tiers and of the file.
func (g *graph) ordered() []PlannedStep {
	order := make([]int, len(g.nodes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(g.nodes[a].level, g.nodes[b].level) })
	place := make([]int, len(order))
	for at, i := range order {
		place[i] = at
	}
	var steps []PlannedStep
	for _, i := range order {
		n := g.nodes[i]
		before := slices.SortedFunc(maps.Keys(n.after), func(a, b int) int { return place[a] - place[b] })
		for _, b := range before {
			n.After = append(n.After, g.nodes[b].ID)
		}
		steps = append(steps, n.PlannedStep)
	}
	return steps
}
