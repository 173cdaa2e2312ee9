package catalog

import (
	"slices"

	"lifeboat"
)

// MissingParts lists the other parts of a point of which none of these points is
// one: their drives have forgotten them, or they were never committed. Without
// them the point is not its machine. It is empty for a point that is no part.
func (p Point) MissingParts(points []Point) []lifeboat.Part {
	return slices.DeleteFunc(slices.Clone(p.Together), func(part lifeboat.Part) bool {
		return part.PointID == p.PointID || slices.ContainsFunc(points, func(o Point) bool { return o.PointID == part.PointID })
	})
}
