package runbook

import (
	"cmp"
	"slices"
	"time"
)

// span is a part of a run's time, and spans are several.
type span struct{ from, to time.Duration }

type spans []span

// joined returns the same time as spans that are ascending and apart.
func (s spans) joined() spans {
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out spans
	for _, x := range s {
		switch n := len(out); {
		case x.to <= x.from:
		case n > 0 && x.from <= out[n-1].to:
			out[n-1].to = max(out[n-1].to, x.to)
		default:
			out = append(out, x)
		}
	}
	return out
}

// within returns what of s lies in other, without what of s lies outside of it.
func (s spans) within(other spans) spans {
	var out spans
	for _, a := range s.joined() {
		for _, b := range other.joined() {
			out = append(out, span{max(a.from, b.from), min(a.to, b.to)})
		}
	}
	return out.joined()
}

func (s spans) without(other spans) spans {
	out := s.joined()
	for _, b := range other.joined() {
		var left spans
		for _, a := range out {
			left = append(left, span{a.from, min(a.to, b.from)}, span{max(a.from, b.to), a.to})
		}
		out = left.joined()
	}
	return out
}

func (s spans) length() time.Duration {
	var sum time.Duration
	for _, x := range s.joined() {
		sum += x.to - x.from
	}
	return sum
}
