package imagestore

import (
	"fmt"

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// tailWriter seals the tail of a run segment by segment: the filter of a drive
// of terabytes is too large to be kept twice.
type tailWriter struct {
	w      *runWriter
	footer format.RunFooter
	plain  []byte
	n      uint64
}

// writeTail writes everything behind the pages. The filter is made from the
// pages that were just written: their ids ascend, and so do its blocks.
func (w *runWriter) writeTail(dir durable.Dir, name string) error {
	t := &tailWriter{w: w, plain: make([]byte, 0, format.SegmentPlain), footer: format.RunFooter{
		Entries: w.entries, Packs: uint32(len(w.tail.Packs)), Replaced: uint32(len(w.tail.Replaced)),
		FilterBlocks: format.FilterBlocks(w.entries)}}
	if err := t.add(w.tail.Append(nil)); err != nil {
		return err
	}
	if err := t.addFilter(dir, name); err != nil {
		return err
	}
	if err := t.seal(); err != nil {
		return err
	}
	w.buf = t.footer.Append(w.buf)
	return w.flush()
}

func (t *tailWriter) addFilter(dir durable.Dir, name string) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	maker := format.NewFilterMaker(t.footer.FilterBlocks, t.add)
	pages := run{file: f, key: t.w.key}
	var buf [format.RunPageSize]byte
	for n := range t.footer.Pages() {
		page, err := pages.readPage(n, buf[:])
		if err != nil {
			return fmt.Errorf("read page %d again: %w", n, err)
		}
		for i := range t.footer.PageEntries(n) {
			if err := maker.Add(page.Entry(i).ID); err != nil {
				return err
			}
		}
	}
	return maker.End()
}

// add appends bytes to the tail.
func (t *tailWriter) add(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), format.SegmentPlain-len(t.plain))
		t.plain = append(t.plain, b[:n]...)
		b = b[n:]
		if len(t.plain) == format.SegmentPlain {
			if err := t.seal(); err != nil {
				return err
			}
		}
	}
	return nil
}

// seal writes the segment that is full, or the last one.
func (t *tailWriter) seal() error {
	if len(t.plain) == 0 {
		return nil
	}
	t.w.buf = t.w.key.AppendSegment(t.w.buf, t.n, t.footer, t.plain)
	t.plain = t.plain[:0]
	t.n++
	if len(t.w.buf) >= runWriteSize {
		return t.w.flush()
	}
	return nil
}
