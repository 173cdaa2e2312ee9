package imagestore

import (
	"context"
	"errors"
	"fmt"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// frameReader reads frames of packs for moving or copying them. It serves one
// goroutine at a time.
type frameReader struct {
	s       *Store
	payload []byte
	lengths []uint32
}

// read reads a frame into b, which is used again if it is large enough, and
// checks every chunk of it against the directory. What is left in the returned
// bytes can be carried over to another pack; payload and lengths stay until the
// next read.
func (r *frameReader) read(o *openPack, f format.DirectoryFrame, tree bool, b []byte) ([]byte, format.FrameHeader, error) {
	if cap(b) < format.MaxFrameSize+64 {
		b = make([]byte, 0, format.MaxFrameSize+64)
	}
	if r.payload == nil {
		r.payload = make([]byte, 0, format.PayloadBuffer)
	}
	b = b[:f.Size]
	if err := readFull(o.file, b, int64(f.Offset)); err != nil {
		return b, format.FrameHeader{}, err
	}
	payload, lengths, h, err := o.key.OpenFrame(r.payload[:0], r.lengths[:0], b)
	if err != nil {
		return b, h, err
	}
	r.payload, r.lengths = payload, lengths
	if h.Type != format.FrameChunks || len(lengths) != len(f.Chunks) {
		return b, h, format.ErrCorrupt
	}
	at := 0
	for i, c := range f.Chunks {
		n := int(lengths[i])
		if uint32(n) != c.Length || r.s.index.namers.name(payload[at:at+n], tree) != c.ID {
			return b, h, fmt.Errorf("%w: chunk %d has another id", format.ErrCorrupt, i)
		}
		at += n
	}
	return b, h, nil
}

// contents lists what is in a pack. A torn one, which has no directory, is read
// whole; a pack that should have one and has not is damaged. While the index
// lacks something that is needed, no pack without a directory may go: what does
// not open of it may be that very thing, and a repair may bring it back.
func (p *pruning) contents(ctx context.Context, o *openPack, number uint32) (format.Directory, error) {
	d, err := o.directory()
	if err == nil || isGone(err) || !p.s.packs.isTorn(number) {
		return d, err
	}
	if n := len(p.live.missing); n > 0 {
		return nil, fmt.Errorf("%w: it has no directory, and may hold one of %d needed chunks that the index lacks", lifeboat.ErrDamaged, n)
	}
	return p.s.scanContents(ctx, o, p.s.packs.pack(number).Tree)
}

// scanContents lists what can be found in a pack without its directory.
func (s *Store) scanContents(ctx context.Context, o *openPack, tree bool) (d format.Directory, err error) {
	err = s.scanTorn(ctx, o, tree, func(e format.RunEntry) {
		if n := len(d); n == 0 || d[n-1].Offset != e.Place.Offset {
			d = append(d, format.DirectoryFrame{Offset: e.Place.Offset, Size: uint32(e.Place.FrameSize())})
		}
		f := &d[len(d)-1]
		f.Chunks = append(f.Chunks, format.DirectoryChunk{ID: e.ID, Length: uint32(e.Place.Length())})
	})
	return d, err
}

// checkPack reads a whole pack back from the medium, past the page cache.
func (s *Store) checkPack(ctx context.Context, pack format.RunPack) error {
	o, err := s.openPack(pack)
	if err != nil {
		return err
	}
	defer o.file.Close()
	if err := o.file.DropCache(0, o.size); err != nil {
		return err
	}
	d, err := o.directory()
	if err != nil {
		return err
	}
	r := frameReader{s: s}
	var b []byte
	for _, f := range d {
		if err := ctx.Err(); err != nil {
			return err
		}
		if b, _, err = r.read(o, f, pack.Tree, b); err != nil {
			return fmt.Errorf("%s at %d: %w", packName(pack), f.Offset, err)
		}
	}
	return nil
}

// frameMover writes chunks anew that were read from a pack of this store, or of
// another one.
type frameMover struct {
	s      *Store
	reader frameReader
	// builders collect the chunks of frames that are not needed whole, first of
	// data, then of trees.
	builders [2]*frameBuilder
	meter    *meter
}

// newFrameMover makes a mover that reads the packs of from.
func (s *Store) newFrameMover(from *Store, m *meter) *frameMover {
	return &frameMover{s: s, reader: frameReader{s: from}, meter: m,
		builders: [2]*frameBuilder{s.writer.newBuilder(false, &m.written), s.writer.newBuilder(true, &m.written)}}
}

// close hands on what was collected; it must be called whatever happened.
func (m *frameMover) close() error {
	return errors.Join(m.builders[0].close(), m.builders[1].close())
}

// move writes the wanted chunks of a frame. A frame that is wanted whole is
// carried over as it is compressed.
func (m *frameMover) move(o *openPack, f format.DirectoryFrame, tree bool, wanted func(i int) bool) error {
	builder := m.builders[0]
	if tree {
		builder = m.builders[1]
	}
	job := m.s.writer.pool.Get().(*frameJob)
	b, h, err := m.reader.read(o, f, tree, job.memory)
	job.memory = b[:0]
	if err != nil {
		m.s.writer.recycle(job)
		return err
	}
	m.meter.read.Add(int64(f.Size))
	whole := true
	for i := range f.Chunks {
		whole = whole && wanted(i)
	}
	if whole {
		job.tree, job.written = tree, builder.written
		job.lengths = append(job.lengths[:0], m.reader.lengths...)
		for _, c := range f.Chunks {
			job.ids = append(job.ids, c.ID)
			m.meter.fresh.Add(int64(c.Length))
		}
		job.frame, job.memory = format.CarryFrame(b, h), nil
		return m.s.writer.send(job)
	}
	defer m.s.writer.recycle(job)
	at := 0
	for i, c := range f.Chunks {
		chunk := m.reader.payload[at : at+int(c.Length)]
		at += int(c.Length)
		if !wanted(i) {
			continue
		}
		fresh, err := builder.add(c.ID, chunk)
		if err != nil {
			return err
		}
		if fresh {
			m.meter.fresh.Add(int64(c.Length))
		}
	}
	return nil
}
