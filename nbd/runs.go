package nbd

import (
	"fmt"

	"lifeboat"
)

// run is a part of a disk that is data, or is all zeros.
type run struct {
	lifeboat.Extent
	hole bool
}

// cover turns the data extents that an export named into runs that cover the
// given extent without gaps. Extents out of order are refused: answering from
// them could call data a hole.
func cover(within lifeboat.Extent, data []lifeboat.Extent) ([]run, error) {
	runs := make([]run, 0, 2*len(data)+1)
	at := within.Offset
	last := int64(0)
	for _, d := range data {
		if d.Length <= 0 || d.Offset < last {
			return nil, fmt.Errorf("extent %d+%d is empty or out of order", d.Offset, d.Length)
		}
		last = d.End()
		start, end := max(d.Offset, within.Offset), min(d.End(), within.End())
		if start >= end {
			continue
		}
		if start > at {
			runs = append(runs, run{lifeboat.Extent{Offset: at, Length: start - at}, true})
		}
		if n := len(runs); n > 0 && !runs[n-1].hole && runs[n-1].End() == start {
			runs[n-1].Length += end - start
		} else {
			runs = append(runs, run{lifeboat.Extent{Offset: start, Length: end - start}, false})
		}
		at = end
	}
	if at < within.End() {
		runs = append(runs, run{lifeboat.Extent{Offset: at, Length: within.End() - at}, true})
	}
	return runs, nil
}

// appendStatus adds a run behind the last one, or makes the last one longer
// when it says the same.
func appendStatus(list []Status, s Status) []Status {
	if n := len(list); n > 0 && list[n-1].Flags == s.Flags && list[n-1].End() == s.Offset {
		list[n-1].Length += s.Length
		return list
	}
	return append(list, s)
}

// selectExtents returns the runs that keep accepts, neighbours merged.
func selectExtents(list []Status, keep func(flags uint32) bool) []lifeboat.Extent {
	var out []lifeboat.Extent
	for _, s := range list {
		if !keep(s.Flags) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].End() == s.Offset {
			out[n-1].Length += s.Length
		} else {
			out = append(out, s.Extent)
		}
	}
	return out
}
