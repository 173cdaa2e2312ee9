package imagestore

import (
	"fmt"
	"math"
	"slices"

	"lifeboat"
)

// What makes a change unusual. Each figure has a floor, so that a small machine,
// a first export or a machine without a history never cries.
const (
	// tellingBytes of new data are needed before anything is said: a few files
	// more or less make a large share of a small machine.
	tellingBytes = 16 << 20
	// denseData is what hardly compresses. Programs, documents and databases come
	// to 0.25 to 0.6; what is encrypted to 1.
	denseData = 0.90
	// denseJump is by how much the new data is denser than usual.
	denseJump = 0.10
	// leastShare of a machine's data has to be new; leastShareUnknown where fewer
	// than knownNights tell what is usual.
	leastShare        = 0.10
	leastShareUnknown = 0.25
	knownNights       = 3
	// mostOfIt is so much that a machine of which all data is dense, such as one
	// with photographs, is told of as well.
	mostOfIt = 0.60
	// deviations is how many of a machine's own usual ones a share is away before
	// it counts as a jump. Shares have long tails: an upgrade is twenty times a
	// quiet night.
	deviations = 6
	// madToSigma makes a median absolute deviation comparable with a standard
	// deviation, for data that is distributed normally.
	madToSigma = 1.4826
)

// nightBytes of new data are enough to tell their density.
const nightBytes = 1 << 20

// newData is what one export brought: bytes of the machine's data, of what was
// new in it, and of what that took up on the drive.
type newData struct{ data, fresh, stored int64 }

func (n newData) share() float64 {
	return roundTo4(min(1, float64(n.fresh)/float64(max(n.data, 1))))
}

func (n newData) density() float64 {
	if n.fresh < nightBytes {
		return 0
	}
	return roundTo4(float64(n.stored) / float64(n.fresh))
}

func roundTo4(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// judgeFirst is for a machine of which the drive has no point yet. Everything is
// new then; only another drive can tell what is usual.
func judgeFirst(n newData, elsewhere float64) *lifeboat.Change {
	c := &lifeboat.Change{First: true, Share: n.share(), Density: n.density()}
	c.Whole = c.Density
	if elsewhere <= 0 {
		return c
	}
	usual := usually{density: elsewhere, shareLimit: leastShareUnknown, densityLimit: max(denseData, elsewhere+2*denseJump)}
	if c.Density < usual.densityLimit {
		return c
	}
	if c.Score = usual.score(c, n.fresh); c.Unusual() {
		c.Why = fmt.Sprintf("its data hardly compresses any more (to %.0f %%; on another drive: %.0f %%): as if somebody had encrypted it", 100*c.Density, 100*elsewhere)
	}
	return c
}

// judgeChange compares a night with those before it, which the machine's last
// point on this drive remembers.
func judgeChange(n newData, before *lifeboat.Change) *lifeboat.Change {
	c := &lifeboat.Change{Share: n.share(), Density: n.density()}
	if before != nil {
		c.Whole = before.Whole
		c.History = slices.Clone(before.History)
		if !before.First {
			c.History = append(c.History, lifeboat.Night{Share: before.Share, Density: before.Density})
		}
		c.History = c.History[max(0, len(c.History)-lifeboat.ChangeHistory):]
	}
	usual := usualNights(c.History, c.Whole)
	c.Score = usual.score(c, n.fresh)
	if c.Unusual() {
		c.Why = fmt.Sprintf("%.0f %% of its data is new (usual: %.1f %%), and the new data hardly compresses (to %.0f %%; usual: %.0f %%): as if somebody had encrypted it",
			100*c.Share, 100*usual.share, 100*c.Density, 100*usual.density)
	}
	return c
}

// usually is what is usual for a machine.
type usually struct {
	share, density float64
	// shareLimit and densityLimit are where a jump begins.
	shareLimit, densityLimit float64
}

// usualNights takes medians and median absolute deviations: a few odd nights,
// even those of an attack, do not make the next one look usual.
func usualNights(history []lifeboat.Night, whole float64) usually {
	var shares, densities []float64
	for _, n := range history {
		shares = append(shares, n.Share)
		if n.Density > 0 {
			densities = append(densities, n.Density)
		}
	}
	if len(densities) < knownNights && whole > 0 {
		densities = append(densities, whole)
	}
	var u usually
	var shareSpread, densitySpread float64
	u.share, shareSpread = medianAndSpread(shares)
	u.density, densitySpread = medianAndSpread(densities)
	u.shareLimit = max(leastShare, u.share+deviations*max(shareSpread, 0.25*u.share, 0.005))
	if len(shares) < knownNights {
		u.shareLimit = max(u.shareLimit, leastShareUnknown)
	}
	u.densityLimit = max(denseData, u.density+max(denseJump, 3*densitySpread))
	return u
}

// score is 100 times how far the share is between its limit and everything, when
// both share and density jumped: at least half. Otherwise it is below half, and
// says how near it came.
func (u usually) score(c *lifeboat.Change, fresh int64) int {
	part := func(x, from, to float64) float64 { return min(1, max(0, (x-from)/max(to-from, 1e-9))) }
	near := min(part(c.Share, 0, u.shareLimit), part(c.Density, u.density, u.densityLimit))
	quiet := int(math.Floor(0.98 * lifeboat.UnusualScore * near))
	if fresh < tellingBytes || c.Density < denseData || u.density == 0 {
		return quiet
	}
	limit := u.shareLimit
	if c.Density < u.densityLimit {
		// All its data is dense: then only the share can tell.
		limit = max(limit, mostOfIt)
	}
	if c.Share < limit || limit >= 1 {
		return quiet
	}
	return lifeboat.UnusualScore + int(math.Round((100-lifeboat.UnusualScore)*part(c.Share, min(limit, 0.5), max(0.5, limit+0.3))))
}

// medianAndSpread returns the median, and the median absolute deviation as if it
// were a standard deviation.
func medianAndSpread(values []float64) (median, spread float64) {
	if len(values) == 0 {
		return 0, 0
	}
	median = middle(values)
	away := make([]float64, len(values))
	for i, v := range values {
		away[i] = math.Abs(v - median)
	}
	return median, madToSigma * middle(away)
}

func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
