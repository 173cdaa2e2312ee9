package imagestore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zeebo/blake3"

	"lifeboat/imagestore/format"
)

// VerifyPlan is what a verification is going to read.
type VerifyPlan struct {
	// TotalBytes counts the packs that this verification is about. ResumedBytes
	// of them an earlier part of it has read, which began at ResumedFrom.
	TotalBytes   int64     `json:"totalBytes"`
	ResumedBytes int64     `json:"resumedBytes,omitempty"`
	ResumedFrom  time.Time `json:"resumedFrom,omitzero"`
}

// planned is a pack that a verification is about.
type planned struct {
	packFile
	size int64
	// at is when it was last read and good, in seconds.
	at uint64
}

// plan decides which packs are read, and notes those that an earlier part of
// this verification has read.
func (v *verification) plan(ctx context.Context) ([]planned, error) {
	// What is covered is asked before the drive is listed: a capture may commit
	// meanwhile, and its packs must not look as if they were missing.
	covered := v.s.index.coveredNow()
	if len(v.o.Points) > 0 {
		needed, err := v.neededPacks(ctx)
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(covered, func(p format.RunPack, _ bool) bool { return !needed[p] })
	}
	files, err := v.s.listPacks(ctx)
	if err != nil {
		return nil, err
	}
	v.present = map[format.ID]int64{}
	var list []planned
	for _, f := range files {
		size := fileSize(f.entry)
		v.present[f.ID] = size
		// Without an index run: the beginnings of an export; nothing refers to them.
		if covered[f.RunPack] {
			list = append(list, planned{f, size, v.checks.at(f.ID)})
		}
	}
	for p := range covered {
		if _, ok := v.present[p.ID]; !ok {
			v.lostPack(p, errors.New("the file is missing"))
		}
	}
	if v.o.Unread {
		list = slices.DeleteFunc(list, func(p planned) bool { return p.at > 0 })
	}
	if v.o.Sample > 0 {
		marked := v.s.marks.packNumbers()
		damaged := func(p planned) bool { return p.at == 0 && marked[v.s.packs.add(p.RunPack)] }
		list = sample(list, damaged, v.checks.known.Sequence, v.o.Sample)
	}
	for _, p := range list {
		v.report.Plan.TotalBytes += p.size
	}
	if v.o.part() {
		return list, nil
	}
	return v.withoutResumed(list), nil
}

// sample chooses the packs that were read longest ago, those that never were
// before all others, until they are the given share of all bytes: so that a
// sample of 5 % has read everything after twenty times, whatever came since.
// Packs that are known to be damaged never get a date. They would come first for
// ever, so a sample takes the same share of them, in turns.
func sample(list []planned, damaged func(planned) bool, turn uint64, share float64) []planned {
	slices.SortFunc(list, func(a, b planned) int {
		return cmp.Or(cmp.Compare(a.at, b.at), bytes.Compare(a.ID[:], b.ID[:]))
	})
	var known, rest []planned
	for _, p := range list {
		if damaged(p) {
			known = append(known, p)
		} else {
			rest = append(rest, p)
		}
	}
	if n := uint64(len(known)); n > 0 {
		first := turn % n * max(1, uint64(share*float64(n))) % n
		known = slices.Concat(known[first:], known[:first])
	}
	return append(shareOf(rest, share), shareOf(known, share)...)
}

// shareOf is the beginning of a list that has a share of its bytes.
func shareOf(list []planned, share float64) []planned {
	var total, chosen int64
	for _, p := range list {
		total += p.size
	}
	for i, p := range list {
		if float64(chosen) >= share*float64(total) {
			return list[:i]
		}
		chosen += p.size
	}
	return list
}

// scope tells verifications apart by what they are about.
func (v *verification) scope() (id format.ID) {
	if len(v.o.Points) == 0 {
		return id
	}
	h := blake3.New()
	for _, p := range slices.Sorted(slices.Values(v.o.Points)) {
		h.WriteString(p)
	}
	h.Sum(id[:0])
	return id
}

// withoutResumed takes the packs out that an earlier part of this verification
// has read and found good, and notes which one it is that goes on from now. A
// pack with a mark is always read again, and so is one without a directory: what
// is missing in it is seen only when the points are looked at.
func (v *verification) withoutResumed(list []planned) []planned {
	known, now := &v.checks.known, v.s.now()
	began := moment(known.Begun)
	if !v.o.Resume || known.Begun == 0 || known.Scope != v.scope() || now.Sub(began) >= resumeWithin {
		known.Begun, known.Scope = seconds(now), v.scope()
		began = time.Time{}
	}
	v.checks.ours = true
	v.began = known.Begun
	if began.IsZero() {
		return list
	}
	marked := v.s.marks.packNumbers()
	v.report.Plan.ResumedFrom = began
	return slices.DeleteFunc(list, func(p planned) bool {
		number := v.s.packs.add(p.RunPack)
		if p.at < known.Begun || marked[number] || v.s.packs.isTorn(number) {
			return false
		}
		v.packs[number] = &packState{at: p.at, bad: map[uint32]bool{}}
		v.report.Plan.ResumedBytes += p.size
		return true
	})
}

// neededPacks are the packs in which the index finds something of the points.
// Whatever is not found here is looked for when the points are walked.
func (v *verification) neededPacks(ctx context.Context) (map[format.RunPack]bool, error) {
	needed := map[uint32]bool{}
	y := v.s.newSurvey(func(p format.Place, id format.ID) fact {
		if v.s.marks.has(p, id) {
			return broken
		}
		needed[p.Pack] = true
		return unread
	})
	if err := y.look(ctx, v.records); err != nil {
		return nil, fmt.Errorf("find the packs of the points: %w", err)
	}
	packs := map[format.RunPack]bool{}
	for number := range needed {
		packs[v.s.packs.pack(number)] = true
	}
	return packs, nil
}
