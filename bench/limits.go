package main

// bound is a figure to be reached: a ratio to the peer's figure of the same run,
// or a value of our own.
type bound struct {
	work, figure string
	bound        float64
	atLeast      bool
	unit         string
	value        func(*report) (float64, bool)
}

const times = "× restic"

// bounds are the limits that the store was built to. Those on processor time are
// the steady ones.
var bounds = []bound{
	{workExport, "CPU", 0.42, false, times, ratio(workExport, cpuRatio)},
	{workExport, "wall", 0.45, false, times, ratio(workExport, wallRatio)},
	{workExport, "stored, without parity", 1.00, false, times, ratio(workExport, storedRatio)},
	{workNext, "CPU", 0.27, false, times, ratio(workNext, cpuRatio)},
	{workNext, "wall", 0.27, false, times, ratio(workNext, wallRatio)},
	{workNext, "added, without parity", 0.53, false, times, ratio(workNext, storedRatio)},
	{workNextList, "CPU", 0.12, false, times, ratio(workNextList, cpuRatio)},
	{workNextList, "wall", 0.15, false, times, ratio(workNextList, wallRatio)},
	{workNextList, "read of the disks", 1.4, false, "× what changed", figure("reads_per_dirty")},
	{workRestore, "CPU", 0.45, false, times, ratio(workRestore, cpuRatio)},
	{workRestore, "wall", 0.6, false, times, ratio(workRestore, wallRatio)},
	{workVerify, "CPU", 0.40, false, times, ratio(workVerify, cpuRatio)},
	{workVerify, "wall", 0.45, false, times, ratio(workVerify, wallRatio)},
	{workRandom, "mean", 0.6, false, "ms", reading(workRandom, func(f readFigures) float64 { return f.MeanMS })},
	{workFlight, "rate", 0.3, true, "GB/s", reading(workFlight, func(f readFigures) float64 { return f.GBPerS })},
	{workSequential, "rate", 1, true, "GB/s", reading(workSequential, func(f readFigures) float64 { return f.GBPerS })},
	{workIndex, "opening", 1, false, "s", atLargest("open-s")},
	{workIndex, "memory, opened for writing", 256, false, "MiB", atLargest("write-anon-MiB")},
	{workIndex, "memory, exporting", 256, false, "MiB", atLargest("export-anon-MiB")},
	{workIndex, "memory, verifying and serving", 256, false, "MiB", atLargest("read-anon-MiB")},
	{workIndex, "an absent id", 2, false, "µs", atLargest("absent-us")},
	{workPlan, "resolving", 1, false, "s", figure(figurePlan)},
}

const (
	workIndex = "index, largest measured"
	workPlan  = "plan of 500 machines"
)

func cpuRatio(r ratios) float64    { return r.CPU }
func wallRatio(r ratios) float64   { return r.Wall }
func storedRatio(r ratios) float64 { return r.Stored }

// ratio takes one of the ratios of a work.
func ratio(work string, pick func(ratios) float64) func(*report) (float64, bool) {
	return func(r *report) (float64, bool) {
		c := r.cost(work, ours)
		if c == nil || c.To == nil {
			return 0, false
		}
		return pick(*c.To), true
	}
}

func reading(work string, pick func(readFigures) float64) func(*report) (float64, bool) {
	return func(r *report) (float64, bool) {
		c := r.readCost(work, ours)
		if c == nil {
			return 0, false
		}
		return pick(c.readFigures), true
	}
}

func figure(name string) func(*report) (float64, bool) {
	return func(r *report) (float64, bool) {
		v, ok := r.Figures[name]
		return v, ok
	}
}

// atLargest takes a figure of the largest index.
func atLargest(name string) func(*report) (float64, bool) {
	return func(r *report) (float64, bool) {
		if len(r.Index) == 0 {
			return 0, false
		}
		v, ok := r.Index[len(r.Index)-1].Figures[name]
		return v, ok
	}
}

// judge works out the ratios, and which limits were met.
func (r *report) judge() {
	for _, w := range r.Works {
		// The peer has no way to be told what changed: it reads everything.
		against := w.Work
		if against == workNextList {
			against = workNext
		}
		base := r.cost(against, peer)
		for _, c := range w.Tools {
			if base == nil {
				continue
			}
			c.To = &ratios{Wall: per(c.WallS, base.WallS), CPU: per(c.CPUS, base.CPUS), Stored: per(c.StoredMiB, base.StoredMiB)}
		}
	}
	r.Limits = nil
	for _, b := range bounds {
		v, ok := b.value(r)
		if !ok {
			continue
		}
		met := v <= b.bound
		if b.atLeast {
			met = v >= b.bound
		}
		r.Limits = append(r.Limits, limit{b.work, b.figure, round(v), b.bound, b.atLeast, b.unit, met})
	}
}

// per is a ratio; of nothing it is none.
func per(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return round(a / b)
}
