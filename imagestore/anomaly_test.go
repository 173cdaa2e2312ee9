package imagestore

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"lifeboat"
)

const gib = 1 << 30

// nights exports a machine night after night; the last judgement is returned.
func nights(first newData, rest ...newData) *lifeboat.Change {
	c := judgeFirst(first, 0)
	for _, n := range rest {
		c = judgeChange(n, c)
	}
	return c
}

// night is new data as a share of a machine, and its density.
func changed(data int64, share, density float64) newData {
	fresh := float64(data) * share
	return newData{data: data, fresh: int64(fresh), stored: int64(fresh * density)}
}

func repeat(n newData, times int) (all []newData) {
	for range times {
		all = append(all, n)
	}
	return all
}

func TestUnusualChangesAreToldAndNormalNightsAreNot(t *testing.T) {
	office := changed(40*gib, 1, 0.45) // the first export of a server
	quiet := changed(40*gib, 0.004, 0.35)
	for name, c := range map[string]struct {
		first newData
		rest  []newData
		loud  bool
	}{
		"a first export":                         {changed(40*gib, 1, 0.99), nil, false},
		"quiet nights":                           {office, repeat(quiet, 20), false},
		"an upgrade of packages":                 {office, append(repeat(quiet, 20), changed(40*gib, 0.06, 0.55)), false},
		"an upgrade in the first week":           {office, append(repeat(quiet, 2), changed(40*gib, 0.08, 0.7)), false},
		"a release upgrade":                      {office, append(repeat(quiet, 20), changed(40*gib, 0.35, 0.5)), false},
		"logs that are rotated and packed":       {office, append(repeat(quiet, 6), changed(40*gib, 0.01, 0.99)), false},
		"a database that grows":                  {office, repeat(changed(40*gib, 0.12, 0.3), 10), false},
		"a packed dump every night":              {office, repeat(changed(40*gib, 0.2, 0.96), 10), false},
		"a video every few nights":               {office, append(repeat(quiet, 9), changed(40*gib, 0.05, 1)), false},
		"a small machine":                        {changed(20<<20, 1, 0.4), append(repeat(changed(20<<20, 0.01, 0.4), 5), changed(20<<20, 0.7, 1)), false},
		"photographs, another year of them":      {changed(400*gib, 1, 0.98), append(repeat(changed(400*gib, 0.01, 0.98), 10), changed(400*gib, 0.4, 0.98)), false},
		"an encrypted disk":                      {office, append(repeat(quiet, 20), changed(40*gib, 0.95, 1.0005)), true},
		"an encrypted disk on the second night":  {office, []newData{changed(40*gib, 0.95, 1.0005)}, true},
		"a quarter of a disk encrypted":          {office, append(repeat(quiet, 20), changed(40*gib, 0.25, 1)), true},
		"encrypted, on a machine that upgrades":  {office, append(append(repeat(quiet, 10), changed(40*gib, 0.1, 0.5), changed(40*gib, 0.3, 0.5)), changed(40*gib, 0.9, 1)), true},
		"encrypted, beside a dump every night":   {office, append(repeat(changed(40*gib, 0.1, 0.5), 10), changed(40*gib, 0.8, 1)), true},
		"photographs, all of them encrypted":     {changed(400*gib, 1, 0.98), append(repeat(changed(400*gib, 0.01, 0.98), 10), changed(400*gib, 0.97, 1)), true},
		"encrypted on the second night in a row": {office, append(repeat(quiet, 10), changed(40*gib, 0.3, 1), changed(40*gib, 0.5, 1)), true},
	} {
		got := nights(c.first, c.rest...)
		if got.Unusual() != c.loud || (got.Why != "") != c.loud {
			t.Errorf("%s: score %d, %q", name, got.Score, got.Why)
		}
	}
}

func TestAFirstExportIsComparedWithAnotherDrive(t *testing.T) {
	for _, c := range []struct {
		density, elsewhere float64
		loud               bool
	}{{0.99, 0, false}, {0.99, 0.45, true}, {0.5, 0.45, false}, {0.99, 0.97, false}, {0.99, 0.85, false}} {
		got := judgeFirst(changed(40*gib, 0.9, c.density), c.elsewhere)
		if got.Unusual() != c.loud || got.Whole != got.Density || !got.First {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

func TestScoresKeepTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.Int64Range(0, 1<<42).Draw(t, "data")
		unit := rapid.Float64Range(0, 1)
		before := judgeFirst(changed(data, 1, unit.Draw(t, "whole")), 0)
		for i := range rapid.IntRange(0, 30).Draw(t, "nights") {
			before = judgeChange(changed(data, unit.Draw(t, fmt.Sprint("share", i)), 1.001*unit.Draw(t, fmt.Sprint("density", i))), before)
			if before.Score < 0 || before.Score > 100 || len(before.History) > lifeboat.ChangeHistory {
				t.Fatalf("%+v", before)
			}
		}
		share, density := unit.Draw(t, "share"), unit.Draw(t, "density")
		more := share + (1-share)*unit.Draw(t, "more")
		denser := density + (1-density)*unit.Draw(t, "denser")
		low := judgeChange(changed(data, share, density), before)
		if high := judgeChange(changed(data, more, density), before); high.Score < low.Score {
			t.Fatalf("share %v: %d; share %v: %d", share, low.Score, more, high.Score)
		}
		if high := judgeChange(changed(data, share, denser), before); high.Score < low.Score {
			t.Fatalf("density %v: %d; density %v: %d", density, low.Score, denser, high.Score)
		}
		if low.Unusual() && (density < denseData-0.001 || share < leastShare-0.001 || data < tellingBytes) {
			t.Fatalf("told of %+v", low)
		}
	})
}

// Nights of the kinds that servers have, at random: none is told of.
func TestAYearOfNormalNightsIsQuiet(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		data := int64(1+r.IntN(500)) * gib
		c := judgeFirst(changed(data, 1, 0.3+0.4*r.Float64()), 0)
		for n := range 365 {
			share, density := 0.001+0.02*r.Float64(), 0.2+0.4*r.Float64()
			switch {
			case n%7 == 3: // packages
				share, density = share+0.05*r.Float64(), 0.4+0.3*r.Float64()
			case n%30 == 5: // logs, packed
				share, density = share+0.02, 0.95
			case r.IntN(60) == 0: // somebody copies films
				share, density = share+0.04*r.Float64(), 1
			}
			if c = judgeChange(changed(data, share, density), c); c.Unusual() {
				t.Fatalf("seed %d, night %d: %+v", seed, n, c)
			}
		}
		if c = judgeChange(changed(data, 0.6, 1), c); !c.Unusual() {
			t.Errorf("seed %d: an attack after a year has score %d", seed, c.Score)
		}
	}
}

func TestAnOverwrittenDiskIsUnusualInItsPoint(t *testing.T) {
	s := openStore(t, newDrive(t).Dir(), Write)
	data := make([]byte, 32<<20)
	for i := range data {
		data[i] = byte(i / 5000 % 251)
		if i%64 == 0 {
			data[i] = byte(i * 7919 >> 12)
		}
	}
	export := func() lifeboat.RestorePoint {
		return mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	}
	if p := export(); p.Change == nil || !p.Change.First || p.Change.Unusual() || p.Change.Density > 0.6 {
		t.Fatalf("%+v", p.Change)
	}
	if p := export(); p.Change.First || p.Change.Share != 0 || p.Change.Unusual() {
		t.Fatalf("%+v", p.Change)
	}
	r := rand.NewChaCha8([32]byte{1})
	r.Read(data[4<<20:])
	p := export()
	if !p.Change.Unusual() || len(p.Change.History) != 1 || p.Change.Density < 0.99 || p.Change.Share < 0.8 {
		t.Errorf("%+v", p.Change)
	}
	if again, err := s.Point(t.Context(), p.ID); err != nil || again.Change.Score != p.Change.Score {
		t.Errorf("it is not kept: %+v, %v", again.Change, err)
	}
}
