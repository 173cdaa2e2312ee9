package imagestore

import (
	"context"

	"lifeboat/imagestore/format"
)

// readIndex reads every page of every run.
func (v *verification) readIndex(ctx context.Context) error {
	v.s.index.mu.Lock()
	v.report.Faults = append(v.report.Faults, v.s.index.faults...)
	v.s.index.mu.Unlock()
	for _, r := range *v.s.index.runs.Load() {
		err := v.readRun(ctx, r)
		if isGone(err) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			v.s.index.distrust(r, err)
			v.fault(Fault{File: runName(r.id), Lost: true, Why: err.Error()})
			v.marks = append(v.marks, format.MarkEntry{Pack: r.id}) // the next writer makes it anew
		}
	}
	return nil
}

func (v *verification) readRun(ctx context.Context, r *run) error {
	if err := r.file.DropCache(0, r.footer.FileSize()); err != nil {
		return err
	}
	var buf [format.RunPageSize]byte
	var last format.ID
	for n := range r.footer.Pages() {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, err := r.readPage(n, buf[:])
		if err != nil {
			return err
		}
		count := r.footer.PageEntries(n)
		if err := page.Check(count, last, uint32(len(r.packs))); err != nil {
			return err
		}
		last = page.Entry(count - 1).ID
	}
	v.meter.read.Add(r.footer.FileSize())
	// The tail was checked when the run was opened; now it comes from the medium.
	return r.checkAgain()
}
