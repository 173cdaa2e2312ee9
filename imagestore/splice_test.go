package imagestore

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/imagestore/format"
)

// wholeRegion is a region in memory that counts what is loaded of it.
type wholeRegion struct {
	source, before, buf []byte
	reread              bool
	loaded              int
}

func (w *wholeRegion) bytes() []byte { return w.buf }

// The older point is what before was; clean blocks come from there or from the
// source as the test draws it.
func (w *wholeRegion) loadOld(_ context.Context, _ format.Entry, from, to int) error {
	a, b := from*format.BlockSize, min(to*format.BlockSize, len(w.before))
	copy(w.buf[a:b], w.before[a:b])
	return nil
}

func (w *wholeRegion) mayReread(int) bool { return w.reread }

func (w *wholeRegion) load(_ context.Context, from, to int) error {
	a, b := from*format.BlockSize, min(to*format.BlockSize, len(w.source))
	copy(w.buf[a:b], w.source[a:b])
	w.loaded += to - from
	return nil
}

// cutWhole is the plain rule: the whole region, from its start.
func cutWhole(data []byte) []format.Entry {
	site := testSite()
	cutter, namer := format.NewCutter(site.CutKey), format.NewNamer(site.ChunkKey)
	var out []format.Entry
	for at := 0; ; {
		start, end := cutter.Next(data, at)
		if start == format.Blocks(len(data)) {
			return out
		}
		id := namer.Chunk(data[start*format.BlockSize : min(end*format.BlockSize, len(data))])
		out = append(out, format.Entry{Start: start, Blocks: end - start, ID: id})
		at = end
	}
}

// drawRegion makes a region of few different blocks, so that zero blocks, cuts
// by content and cuts by length all come up.
func drawRegion(t *rapid.T, blocks int) []byte {
	seed := rapid.Uint64().Draw(t, "seed")
	r := rand.New(rand.NewPCG(seed, 1))
	zeros := rapid.IntRange(0, 10).Draw(t, "zeros")
	kinds := rapid.IntRange(1, 40).Draw(t, "kinds")
	data := make([]byte, blocks*format.BlockSize)
	for i := range blocks {
		if r.IntN(20) >= zeros {
			data[i*format.BlockSize+r.IntN(8)] = byte(1 + r.IntN(kinds))
		}
	}
	return data
}

func TestSpliceGivesTheLeafOfAFullReadForAnySupersetOfDirtyBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.IntRange(1, 200).Draw(t, "blocks")
		short := rapid.IntRange(0, format.BlockSize-1).Draw(t, "short")
		before := drawRegion(t, blocks)
		before = before[:len(before)-short]
		other := drawRegion(t, blocks)
		after := slices.Clone(before)
		dirty := make([]bool, blocks)
		for range rapid.IntRange(0, 8).Draw(t, "writes") {
			from := rapid.IntRange(0, blocks-1).Draw(t, "from")
			to := min(blocks, from+rapid.IntRange(1, 40).Draw(t, "length"))
			really := rapid.Bool().Draw(t, "really")
			for b := from; b < to; b++ {
				dirty[b] = true
				if really {
					a, z := b*format.BlockSize, min((b+1)*format.BlockSize, len(after))
					copy(after[a:z], other[a:z])
				}
			}
		}
		region := &wholeRegion{source: after, before: before, buf: make([]byte, len(after)), reread: rapid.Bool().Draw(t, "reread")}
		old := cutWhole(before)
		s := &splicer{cutter: format.NewCutter(testSite().CutKey), region: region, old: old, dirty: runsOf(dirty), blocks: blocks}
		pieces, err := s.splice(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		namer := format.NewNamer(testSite().ChunkKey)
		var got []format.Entry
		for _, p := range pieces {
			if p.fresh {
				p.ID = namer.Chunk(region.buf[p.Start*format.BlockSize : min(p.End()*format.BlockSize, len(region.buf))])
				if was, same := s.audited(p); same && was.ID != p.ID {
					t.Fatal("the audit of the change map fails although the map is right")
				}
			}
			got = append(got, p.Entry)
		}
		for _, e := range old {
			if s.hasFlank(e) && !s.flankEquals(e, before[e.Start*format.BlockSize:min(e.End()*format.BlockSize, len(before))], region.buf) {
				t.Fatal("the audit of a flank fails although the map is right")
			}
		}
		if want := cutWhole(after); !slices.Equal(got, want) {
			t.Fatalf("spliced %v\nwant    %v\ndirty   %v", spans(got), spans(want), s.dirty)
		}
	})
}

func runsOf(dirty []bool) []blockRun {
	var runs []blockRun
	for b, d := range dirty {
		if !d {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1].to == b {
			runs[n-1].to++
			continue
		}
		runs = append(runs, blockRun{b, b + 1})
	}
	return runs
}

func spans(entries []format.Entry) [][2]int {
	var out [][2]int
	for _, e := range entries {
		out = append(out, [2]int{e.Start, e.End()})
	}
	return out
}
