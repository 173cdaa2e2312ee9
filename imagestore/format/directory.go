package format

import "hash/crc32"

// Directory lists the frames of a pack, so that an index is rebuilt without
// reading them.
type Directory []DirectoryFrame

// DirectoryFrame is one frame of a directory.
type DirectoryFrame struct {
	Offset, Size uint32
	Chunks       []DirectoryChunk
}

// DirectoryChunk is one chunk of a frame, in the order of its payload.
type DirectoryChunk struct {
	ID     ID
	Length uint32
}

// Append writes the directory behind b.
func (d Directory) Append(b []byte) []byte {
	b = le.AppendUint32(b, uint32(len(d)))
	for _, f := range d {
		b = le.AppendUint32(b, f.Offset)
		b = le.AppendUint32(b, f.Size)
		b = le.AppendUint16(b, uint16(len(f.Chunks)))
		for _, c := range f.Chunks {
			b = append(b, c.ID[:]...)
			b = le.AppendUint32(b, c.Length)
		}
	}
	return b
}

// DecodeDirectory reads a directory that fills b.
func DecodeDirectory(b []byte) (Directory, error) {
	r := reader{b: b}
	n := r.count(4, 10)
	d := make(Directory, 0, n)
	end := uint64(HeaderSize)
	for range n {
		f := DirectoryFrame{Offset: r.u32(), Size: r.u32()}
		chunks := int(r.u16())
		if r.err != nil || chunks < 1 || chunks > MaxFrameChunks || chunks*36 > r.left() {
			return nil, corrupt("a directory with an impossible count")
		}
		if uint64(f.Offset) != end || f.Size > MaxFrameSize {
			return nil, corrupt("a directory whose frames do not follow one another")
		}
		end = uint64(f.Offset) + uint64(f.Size)
		f.Chunks = make([]DirectoryChunk, chunks)
		total := uint64(0)
		for i := range f.Chunks {
			c := &f.Chunks[i]
			r.bytes(c.ID[:])
			c.Length = r.u32()
			if c.Length < 1 || c.Length > MaxChunkSize {
				return nil, corrupt("a directory with a chunk of %d bytes", c.Length)
			}
			total += uint64(c.Length)
		}
		if total > MaxPayload {
			return nil, corrupt("a directory with a frame of %d bytes", total)
		}
		d = append(d, f)
	}
	return d, r.end()
}

// SealDirectory makes the directory frame and the footer that close a pack,
// which is offset bytes long so far.
func (k *PackKey) SealDirectory(d Directory, ordinal uint32, offset int64) []byte {
	plain := d.Append(nil)
	b, codec := Compress(make([]byte, FrameHeaderSize, FrameHeaderSize+len(plain)+tagSize+PackFooterSize), plain)
	f := Frame{b, FrameHeader{Type: FrameDirectory, Codec: codec, Payload: len(plain),
		Sealed: len(b) - FrameHeaderSize + tagSize}}
	sealed := k.Seal(f, ordinal)
	return PackFooter{Offset: uint32(offset), Size: uint32(len(sealed)), Frames: uint32(len(d))}.Append(sealed, k.header.File)
}

// PackFooter ends a pack that was written to its end.
type PackFooter struct {
	// Offset and Size are those of the directory frame.
	Offset, Size uint32
	Frames       uint32
}

// Append writes the footer behind b.
func (f PackFooter) Append(b []byte, pack ID) []byte {
	start := len(b)
	b = append(b, packEnd...)
	b = le.AppendUint32(b, f.Offset)
	b = le.AppendUint32(b, f.Size)
	b = le.AppendUint32(b, f.Frames)
	b = append(b, pack[:8]...)
	return le.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// DecodePackFooter reads the footer of the given pack, whose file has size
// bytes. A footer is not sealed: what it says is bounded before it is used.
func DecodePackFooter(b []byte, pack ID, size int64) (PackFooter, error) {
	var f PackFooter
	if len(b) != PackFooterSize || string(b[:8]) != packEnd || string(b[20:28]) != string(pack[:8]) ||
		le.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return f, corrupt("the pack has no footer")
	}
	f = PackFooter{Offset: le.Uint32(b[8:]), Size: le.Uint32(b[12:]), Frames: le.Uint32(b[16:])}
	if size > MaxPackSize || f.Offset < HeaderSize || f.Size > maxDirectoryFrame ||
		int64(f.Offset)+int64(f.Size)+PackFooterSize != size {
		return f, corrupt("the pack's footer points nowhere")
	}
	return f, nil
}

// end is where the last frame of chunks ends.
func (d Directory) end() uint32 {
	if len(d) == 0 {
		return HeaderSize
	}
	return d[len(d)-1].Offset + d[len(d)-1].Size
}

// OpenDirectory opens the directory frame that fills b.
func (k *PackKey) OpenDirectory(b []byte, f PackFooter) (Directory, error) {
	plain, _, h, err := k.OpenFrame(nil, nil, b)
	if err != nil {
		return nil, err
	}
	if h.Type != FrameDirectory || h.Ordinal != f.Frames {
		return nil, corrupt("the pack's directory is another frame")
	}
	d, err := DecodeDirectory(plain)
	if err == nil && len(d) != int(f.Frames) {
		err = corrupt("a directory of %d frames, not %d", len(d), f.Frames)
	}
	if err == nil && d.end() != f.Offset {
		err = corrupt("a directory whose frames end at %d, and it is at %d", d.end(), f.Offset)
	}
	return d, err
}
