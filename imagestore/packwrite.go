package imagestore

import (
	"fmt"

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// packWriteSize is one write to the drive.
const packWriteSize = 1 << 20

// packWriter is a pack that is being filled.
type packWriter struct {
	s      *Store
	pack   format.RunPack
	number uint32
	file   durable.WriteFile
	key    *format.PackKey
	// size is the pack's length so far; buf holds its end, not yet written.
	size int64
	buf  []byte

	frames []packFrame
	chunks []format.DirectoryChunk

	// parity follows what is written, in a store whose packs have it.
	parity *parityMaker
}

type packFrame struct {
	offset, size uint32
	chunks       int
}

// newPack begins a pack, if the drive has room for it.
func (s *Store) newPack(tree bool) (*packWriter, error) {
	if err := s.checkRoom(); err != nil {
		return nil, err
	}
	pack := format.RunPack{ID: newFileID(), Tree: tree}
	h := format.Header{Kind: packKind(tree), Generation: s.super.Generation, Drive: s.driveID, File: pack.ID}
	master, ok := s.masters.Key(h.Generation)
	if !ok {
		return nil, fmt.Errorf("no key of generation %d", h.Generation)
	}
	key, err := format.NewPackKey(h, master)
	if err != nil {
		return nil, err
	}
	f, err := s.dir.Create(packName(pack))
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", packName(pack), err)
	}
	p := &packWriter{s: s, pack: pack, number: s.packs.add(pack), file: f, key: key, size: format.HeaderSize}
	p.buf = h.Append(make([]byte, 0, packWriteSize+format.MaxFrameSize))
	if s.hasParity() {
		p.parity = s.newParity(pack)
	}
	return p, nil
}

// directoryOverhead is room for the directory's header, tag and footer.
const directoryOverhead = 256

// hasRoom says whether the pack can take the frame and still be ended.
func (p *packWriter) hasRoom(job *frameJob, limit int64) bool {
	directory := 4 + 10*(len(p.frames)+1) + 36*(len(p.chunks)+len(job.ids))
	return directory <= format.MaxDirectorySize && p.size+int64(job.frame.Size())+int64(directory)+directoryOverhead <= limit
}

// add appends a frame and says where its chunks are.
func (p *packWriter) add(job *frameJob) error {
	sealed := p.key.Seal(job.frame, uint32(len(p.frames)))
	offset := uint32(p.size)
	p.frames = append(p.frames, packFrame{offset, uint32(len(sealed)), len(job.ids)})
	at := 0
	for i, id := range job.ids {
		n := int(job.lengths[i])
		p.chunks = append(p.chunks, format.DirectoryChunk{ID: id, Length: uint32(n)})
		p.s.index.pending.set(id, format.NewPlace(p.number, offset, len(sealed), at, n))
		at += n
	}
	if job.written != nil {
		job.written.Add(int64(len(sealed)))
	}
	return p.append(sealed)
}

func (p *packWriter) append(b []byte) error {
	p.size += int64(len(b))
	p.buf = append(p.buf, b...)
	if len(p.buf) < packWriteSize {
		return nil
	}
	return p.flush()
}

func (p *packWriter) flush() error {
	if _, err := p.file.Write(p.buf); err != nil {
		return fmt.Errorf("write %s: %w", packName(p.pack), err)
	}
	if p.parity != nil {
		if err := p.parity.write(p.buf); err != nil {
			return err
		}
	}
	p.buf = p.buf[:0]
	return nil
}

// end writes directory and footer. The pack still has to be synced.
func (p *packWriter) end() error {
	d := make(format.Directory, len(p.frames))
	chunks := p.chunks
	for i, f := range p.frames {
		d[i] = format.DirectoryFrame{Offset: f.offset, Size: f.size, Chunks: chunks[:f.chunks]}
		chunks = chunks[f.chunks:]
	}
	if err := p.append(p.key.SealDirectory(d, uint32(len(p.frames)), p.size)); err != nil {
		return err
	}
	err := p.flush()
	p.buf = nil
	return err
}

// appendEntries appends the index entries of the pack.
func (p *packWriter) appendEntries(entries []format.RunEntry) []format.RunEntry {
	chunks := p.chunks
	for _, f := range p.frames {
		at := 0
		for _, c := range chunks[:f.chunks] {
			entries = append(entries, format.RunEntry{ID: c.ID,
				Place: format.NewPlace(p.number, f.offset, int(f.size), at, int(c.Length))})
			at += int(c.Length)
		}
		chunks = chunks[f.chunks:]
	}
	return entries
}
