package imagestore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// RepairOptions say what a repair may use.
type RepairOptions struct {
	// Siblings are other drives of the same site, open for reading. What parity
	// cannot heal is taken from the first that has it.
	Siblings []*Store
	// DryRun changes nothing; the store may then be open in any mode.
	DryRun bool
	// RebuildIndex makes the whole index anew from the packs.
	RebuildIndex bool
	Progress     func(Progress)
}

// RepairReport is what a repair found, and what became of it. After a dry run it
// is what would become of it.
type RepairReport struct {
	Points    int   `json:"points"`
	Packs     int   `json:"packs"`
	ReadBytes int64 `json:"readBytes"`
	// Faults are what was found that is not as it was written, new or known.
	Faults []Fault `json:"faults,omitempty"`
	// DamagedPacks had something in them that was not good; HealedPacks of them
	// are whole again from parity, of HealedCells cells of 4 KiB.
	DamagedPacks int `json:"damagedPacks"`
	HealedPacks  int `json:"healedPacks"`
	HealedCells  int `json:"healedCells"`
	// Borrowed is what came from other drives, of which drive by its label.
	Borrowed []Borrowed `json:"borrowed,omitempty"`
	// ParityMade counts the packs that got parity anew.
	ParityMade int `json:"parityMade"`
	// RebuiltRuns counts index runs that were made anew from their packs.
	RebuiltRuns int `json:"rebuiltRuns"`
	// Lost counts the blocks, and parts of trees, that are nowhere. Unknown is of
	// a dry run: so many parts of trees would have to come back before it is known
	// what of their blocks is lost.
	Lost    int `json:"lost"`
	Unknown int `json:"unknown,omitempty"`
	// Hurt lists what of which points cannot be restored after the repair, and
	// Remaining what is still not as it was written. After a dry run Hurt is as it
	// is now.
	Hurt      []Hurt  `json:"hurt,omitempty"`
	Remaining []Fault `json:"remaining,omitempty"`
}

// Borrowed is what one drive gave to heal another.
type Borrowed struct {
	Drive  string `json:"drive"`
	Chunks int    `json:"chunks"`
	Bytes  int64  `json:"bytes"`
}

// Repair reads the whole store, heals what it can, and says what stays lost. The
// store must be open Alone.
//
// A damaged pack is healed from its parity; it is replaced by a file that was
// checked whole, frame by frame, and never changed in place. What parity does not
// reach is taken from the siblings and written to new packs with a new index run.
// What no drive has is marked, so that the next export that meets its bytes
// writes them again. Copies of small files are completed, missing parity is made,
// and marks of what is good again are dropped. A repair that is cut off leaves
// every point as good as it was, and is simply run again.
//
// When damage remains, the report comes with an error that wraps
// lifeboat.ErrDamaged.
func (s *Store) Repair(ctx context.Context, o RepairOptions) (RepairReport, error) {
	begin, end := s.beginMoving, s.endMoving // it may use the room that is kept free
	if o.DryRun {
		begin, end = s.begin, s.end
	}
	if err := begin(); err != nil {
		return RepairReport{}, err
	}
	defer end()
	for _, sibling := range o.Siblings {
		if sibling.super.Site != s.super.Site || sibling.super.ChunkKey != s.super.ChunkKey {
			return RepairReport{}, &lifeboat.Problem{
				What: fmt.Sprintf("%s belongs to another site than %s and cannot heal it", sibling.label(), s.label()),
				Safe: "nothing was changed on either",
				Next: "run the command again with drives of one site only",
				Err:  lifeboat.ErrWrongDrive,
			}
		}
	}
	r := &repair{s: s, o: o, borrowed: map[string]*Borrowed{}, healable: map[uint32]map[uint32]bool{}, tried: map[uint32]bool{}}
	if err := r.run(ctx); err != nil {
		err = fmt.Errorf("repair %s: %w", s.label(), err)
		if s.writer != nil && s.writer.err() != nil {
			err = s.writer.err()
		}
		return r.report, s.explain(err)
	}
	return r.report, r.verdict()
}

// repair is one run of Repair.
type repair struct {
	s        *Store
	o        RepairOptions
	report   RepairReport
	borrowed map[string]*Borrowed
	// found is the verification that the repair began with, and last the one
	// that saw its work.
	found, last *verification
	// damaged are the packs in which something is not good; healable says which
	// frames of them are, once parity has healed them.
	damaged  []format.RunPack
	healable map[uint32]map[uint32]bool
	// tried are the packs that parity was asked to heal.
	tried map[uint32]bool
}

func (r *repair) run(ctx context.Context) error {
	if err := r.beforehand(ctx); err != nil {
		return err
	}
	r.found = r.verification(nil)
	if err := r.found.run(ctx); err != nil {
		return err
	}
	r.last = r.found
	r.report.Points, r.report.Packs = r.found.report.Points, len(r.found.packs)
	r.report.Faults = append(r.report.Faults, r.found.report.Faults...)
	for {
		if err := r.healPacks(ctx); err != nil {
			return err
		}
		if r.o.DryRun {
			r.tell(r.promise(ctx))
			return ctx.Err()
		}
		if err := r.remakeParity(ctx, append(slices.Clone(r.last.badParity), r.damaged...)); err != nil {
			return err
		}
		if err := r.s.wrote(r.s.healIndex()); err != nil {
			return err
		}
		// What was healed is read back from the medium, and tells what is missing.
		if err := r.again(ctx); err != nil {
			return err
		}
		// A tree that came back, or a run of the index, leads to packs that nobody
		// knew were needed: they may be damaged as well.
		if !r.foundMore() {
			break
		}
	}
	for range maxTreeRounds {
		got, err := r.borrow(ctx)
		if err != nil {
			return err
		}
		if !got {
			break
		}
		r.damaged = nil
		if err := r.again(ctx); err != nil {
			return err
		}
	}
	// Packs that came back into the index only now have parity as well.
	if r.damaged = r.last.badParity; len(r.damaged) > 0 {
		if err := r.remakeParity(ctx, r.damaged); err != nil {
			return err
		}
		if err := r.again(ctx); err != nil {
			return err
		}
	}
	if err := r.s.wrote(r.s.restateMarks(r.last.packs)); err != nil {
		return err
	}
	r.tell(len(r.last.missing))
	return nil
}

// maxTreeRounds bounds how often missing things are asked for: a tree whose root
// is missing comes back level by level.
const maxTreeRounds = format.MaxLevel + 3

// beforehand does what needs no reading of packs.
func (r *repair) beforehand(ctx context.Context) error {
	s := r.s
	s.index.mu.Lock()
	r.report.Faults = append(r.report.Faults, s.index.faults...)
	s.index.mu.Unlock()
	if r.o.DryRun {
		return nil
	}
	if err := s.wrote(s.healSmallFiles(ctx)); err != nil {
		return err
	}
	if r.o.RebuildIndex {
		for _, run := range *s.index.runs.Load() {
			s.index.distrust(run, errRebuild)
		}
	}
	r.report.RebuiltRuns = len(s.index.brokenRuns())
	if err := s.wrote(s.healIndex()); err != nil {
		return err
	}
	if s.hasParity() {
		return nil
	}
	s.super.Compatible |= format.FeatureParity
	return s.wrote(s.writeSealed(format.KindSuperblock, superblockName, s.super.Append(nil)))
}

var errRebuild = errors.New("it is made anew because somebody asked for it")

// verification begins one that takes what known says of packs as read.
func (r *repair) verification(known map[uint32]*packState) *verification {
	v := r.s.newVerification(VerifyOptions{Progress: r.o.Progress})
	v.unsaved = r.o.DryRun
	if known != nil {
		v.packs = known
	}
	return v
}

// again verifies once more: the packs that were damaged or that are new, and
// everything that the points refer to.
func (r *repair) again(ctx context.Context) error {
	known := r.last.packs
	for _, p := range r.damaged {
		delete(known, r.s.packs.add(p))
	}
	r.last = r.verification(known)
	return r.last.run(ctx)
}

// healPacks heals every pack in which something is not good from its parity.
func (r *repair) healPacks(ctx context.Context) error {
	r.damaged = nil
	for number, state := range r.last.packs {
		if r.tried[number] || !state.damaged() {
			continue
		}
		r.tried[number] = true
		if _, err := r.healPack(ctx, r.s.packs.pack(number), true); err != nil {
			return err
		}
	}
	return r.healUncovered(ctx)
}

// foundMore says whether the last verification found damage in packs that parity
// was not asked to heal yet.
func (r *repair) foundMore() bool {
	for number, state := range r.last.packs {
		if state.damaged() && !r.tried[number] {
			return true
		}
	}
	return false
}

// healUncovered heals packs of which the index knows nothing: where it was lost,
// one whose header is rotten as well is in no run.
func (r *repair) healUncovered(ctx context.Context) error {
	list, err := r.s.uncovered(ctx, func(map[format.RunPack]bool) {})
	if err != nil {
		return err
	}
	healed := false
	for _, p := range list {
		if number := r.s.packs.add(p); r.last.packs[number] != nil || r.tried[number] {
			continue
		}
		better, err := r.healPack(ctx, p, false)
		if err != nil {
			return err
		}
		healed = healed || better
	}
	if !healed || r.o.DryRun {
		return nil
	}
	return r.s.wrote(r.s.salvage(ctx))
}

// healPack heals a pack from its parity, and says whether that made it better.
// One that the index does not know counts as damaged only then.
func (r *repair) healPack(ctx context.Context, p format.RunPack, known bool) (better bool, err error) {
	h, err := r.s.proposeHealing(ctx, p)
	if err != nil {
		return false, err
	}
	if h.image == nil && (h.before.whole() || !known) {
		return false, nil // it was torn before it ever was a whole pack
	}
	r.report.DamagedPacks++
	r.damaged = append(r.damaged, p)
	if h.image == nil {
		return false, nil
	}
	r.healable[r.s.packs.add(p)] = h.image.good
	r.report.HealedCells += h.cells
	if h.image.whole() {
		r.report.HealedPacks++
	}
	if r.o.DryRun {
		return true, nil
	}
	r.s.log.Info("healing a pack from its parity", "pack", packName(p), "cells", h.cells, "whole", h.image.whole())
	if err := r.s.replacePack(p, h.image.data); err != nil {
		return true, r.s.wrote(err)
	}
	return true, r.s.wrote(r.s.learnHealed(ctx, p))
}

// borrow takes what is missing from the siblings and says whether they had any
// of it.
func (r *repair) borrow(ctx context.Context) (bool, error) {
	if len(r.last.missing) == 0 || len(r.o.Siblings) == 0 {
		return false, nil
	}
	builders := map[bool]*frameBuilder{}
	for _, tree := range []bool{false, true} {
		builders[tree] = r.s.writer.newBuilder(tree, nil)
	}
	got := false
	for id, tree := range r.last.missing {
		n, err := r.fetch(ctx, id, tree, func(b []byte) error {
			fresh, err := builders[tree].put(id, b)
			got = got || fresh
			if err != nil {
				return fmt.Errorf("%w: %w", errStopped, err)
			}
			return nil
		})
		if err != nil {
			return false, err
		}
		if n > 0 {
			r.s.log.Info("took a chunk from another drive", "chunk", id, "bytes", n)
		}
	}
	for _, b := range builders {
		if err := b.close(); err != nil {
			return false, err
		}
	}
	return got, r.s.writer.sync()
}

// fetch gives a chunk of the first sibling that has it to use, and says how long
// it is; 0 when nobody has it. A sibling that went away is one that does not.
func (r *repair) fetch(ctx context.Context, id format.ID, tree bool, use func([]byte) error) (n int, err error) {
	for _, sibling := range r.o.Siblings {
		if err := sibling.begin(); err != nil {
			continue
		}
		err := sibling.chunk(ctx, id, tree, func(b []byte) error {
			n = len(b)
			return use(b)
		})
		sibling.end()
		if err == nil {
			label := sibling.nameOnSticker()
			if r.borrowed[label] == nil {
				r.borrowed[label] = &Borrowed{Drive: label}
			}
			r.borrowed[label].Chunks++
			r.borrowed[label].Bytes += int64(n)
			return n, nil
		}
		if ctx.Err() != nil || errors.Is(err, errStopped) {
			return 0, err
		}
	}
	return 0, nil
}

// promise is how much stays missing after a real run, as far as that can be
// seen: what is below a lost part of a tree is not known.
func (r *repair) promise(ctx context.Context) (lost int) {
	for id, tree := range r.found.missing {
		if tree {
			r.report.Unknown++
		}
		_, healed, _ := r.s.index.search(id, func(p format.Place) bool { return r.healable[p.Pack][p.Offset] })
		if healed {
			continue
		}
		if n, err := r.fetch(ctx, id, tree, func([]byte) error { return nil }); err != nil || n == 0 {
			lost++
		}
	}
	return lost
}

// remakeParity gives every pack parity that has none, or one that is rotten or
// not of its bytes. It is made from a pack in which everything is good.
func (r *repair) remakeParity(ctx context.Context, packs []format.RunPack) error {
	done := map[format.RunPack]bool{}
	for _, p := range packs {
		if done[p] {
			continue
		}
		done[p] = true
		img, err := r.s.inspectPack(ctx, p)
		if err != nil && !isDamage(err) {
			return err
		}
		if err != nil || !img.whole() {
			continue
		}
		par, err := r.s.readParity(p)
		if isGone(err) {
			return err
		}
		if err == nil && par.fits(img.data) {
			continue
		}
		err = r.s.remakeParity(p, img.data)
		if errors.Is(err, lifeboat.ErrDriveFull) {
			r.report.Remaining = append(r.report.Remaining, Fault{File: parityName(p), Why: "there is no room to make it anew"})
			continue
		}
		if err := r.s.wrote(err); err != nil {
			return err
		}
		r.report.ParityMade++
	}
	return nil
}

// tell completes the report.
func (r *repair) tell(lost int) {
	r.report.ReadBytes = r.found.meter.read.Load()
	r.report.Lost, r.report.Hurt = lost, r.last.report.Hurt
	for _, label := range slices.Sorted(maps.Keys(r.borrowed)) {
		r.report.Borrowed = append(r.report.Borrowed, *r.borrowed[label])
	}
	if r.last != r.found {
		r.report.ReadBytes += r.last.meter.read.Load()
		r.report.Remaining = append(r.report.Remaining, r.last.report.Faults...)
	}
}

// nowhere says what a dry run does not find, in words.
func (r *repair) nowhere() string {
	lost := fmt.Sprintf("%d blocks are nowhere", r.report.Lost)
	if r.report.Unknown == 0 {
		return lost
	}
	return fmt.Sprintf("%s, and what %d lists of blocks name is not known before they are healed", lost, r.report.Unknown)
}

// verdict is the error for the damage that remains, or nil.
func (r *repair) verdict() error {
	if r.report.Lost+r.report.Unknown == 0 && len(r.report.Remaining) == 0 && (r.o.DryRun || len(r.report.Hurt) == 0) {
		return nil
	}
	hurt := map[string]bool{}
	for _, h := range r.report.Hurt {
		hurt[h.PointID] = true
	}
	if r.o.DryRun {
		return &lifeboat.Problem{
			What: fmt.Sprintf("not all of %s can be healed for certain: %s", r.s.label(), r.nowhere()),
			Safe: "nothing was changed; no damaged block is ever given out as good",
			Next: "attach another drive of this site, and run: lifeboat repair --drive " + r.s.nameOnSticker(),
			Err:  lifeboat.ErrDamaged,
		}
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s stays damaged: %d blocks are nowhere, and %d restore points cannot be restored whole", r.s.label(), r.report.Lost, len(hurt)),
		Safe: fmt.Sprintf("the other %d restore points on it are whole; no damaged block is ever given out as good", r.report.Points-len(hurt)),
		Next: fmt.Sprintf("attach another drive of this site and run lifeboat repair %s again, or export to this drive again, which writes damaged blocks anew; "+
			"to get what is whole of a hurt point: lifeboat restore POINT --to FOLDER/ --allow-damaged", r.s.nameOnSticker()),
		Err: lifeboat.ErrDamaged,
	}
}
