package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"lifeboat/imagestore/format"
)

// readParity checks the parity of a pack that was just read: the whole file, and
// that it is of this pack. What is wrong with it hurts no point; a pack that has
// none is counted.
func (v *verification) readParity(ctx context.Context, p format.RunPack) error {
	if !v.s.hasParity() || ctx.Err() != nil {
		return ctx.Err()
	}
	par, err := v.s.readParity(p)
	switch {
	case isGone(err):
		return err
	case errors.Is(err, fs.ErrNotExist):
		v.mu.Lock()
		v.report.WithoutParity++
		v.mu.Unlock()
		err = nil
	case err == nil:
		v.meter.read.Add(par.head.FileSize())
		if err = par.fault; err == nil {
			err = v.sampleCells(p, par)
		}
		if isGone(err) {
			return err
		}
		if err == nil {
			return nil
		}
	}
	if err != nil {
		v.fault(Fault{File: parityName(p), Why: err.Error()})
	}
	v.mu.Lock()
	v.badParity = append(v.badParity, p)
	v.mu.Unlock()
	return nil
}

// sampleCells compares a few cells of a pack with their checksums: parity of
// other bytes fits none of them. Rot in the pack is found by its seals.
func (v *verification) sampleCells(p format.RunPack, par *parityFile) error {
	v.mu.Lock()
	state := v.packs[v.s.packs.add(p)]
	v.mu.Unlock()
	if state == nil || state.lost || len(state.bad) > 0 {
		return nil // what the pack should be is not known here
	}
	if state.good != nil {
		return v.compareTorn(p, par)
	}
	f, err := v.s.dir.Open(packName(p))
	if err != nil {
		return nil
	}
	defer f.Close()
	size, err := f.Size()
	if err == nil && size != par.head.Size {
		err = fmt.Errorf("%w: it is of a pack of %d bytes", format.ErrCorrupt, par.head.Size)
	}
	if err != nil {
		return err
	}
	last := par.head.Cells() - 1
	for _, i := range []int{0, last / 3, last * 2 / 3, last} {
		var cell [format.CellSize]byte
		at := int64(i) * format.CellSize
		if err := readFull(f, cell[:min(format.CellSize, size-at)], at); err != nil {
			return err
		}
		if !par.cellFits(i, cell[:]) {
			return fmt.Errorf("%w: it is of other bytes", format.ErrCorrupt)
		}
	}
	return nil
}

// compareTorn compares a pack that has no directory with its parity, which knows
// whether it ever had one.
func (v *verification) compareTorn(p format.RunPack, par *parityFile) error {
	r, err := readTolerant(v.s.dir, packName(p), format.MaxPackSize)
	if err != nil || len(r.lost) == 0 && par.fits(r.data) {
		return err
	}
	v.fault(Fault{File: packName(p), Why: "it is not what its parity was made of"})
	return nil
}
