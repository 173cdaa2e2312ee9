package imagestore

import (
	"context"
	"fmt"
	"strings"

	"lifeboat/imagestore/format"
)

func trimFolder(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// packReader reads packs from front to end. Each goroutine has its own.
type packReader struct {
	v       *verification
	window  packWindow
	payload []byte
	lengths []uint32
}

// read checks one pack. Damage is noted; an error ends the verification.
func (r *packReader) read(ctx context.Context, pack format.RunPack) error {
	o, err := r.v.s.openPack(pack)
	if isGone(err) {
		return err
	}
	if err != nil {
		r.v.lostPack(pack, err)
		return nil
	}
	defer o.file.Close()
	if err := o.file.DropCache(0, o.size); err != nil {
		return err
	}
	state := &packState{}
	d, err := o.directory()
	switch {
	case isGone(err):
		return err
	case err != nil:
		// Its frames speak for themselves.
		if !r.v.s.packs.isTorn(r.v.s.packs.add(pack)) {
			r.v.fault(Fault{File: packName(pack), Lost: false, Why: "the directory cannot be read: " + err.Error()})
		}
		state.good = map[uint32]bool{}
		err = r.v.s.scanTorn(ctx, o, pack.Tree, func(e format.RunEntry) { state.good[e.Place.Offset] = true })
		if err != nil && !isDamage(err) {
			return err
		}
	default:
		state.bad = map[uint32]bool{}
		if err := r.frames(ctx, o, pack, d, state); err != nil {
			return err
		}
	}
	r.v.mu.Lock()
	r.v.packs[r.v.s.packs.add(pack)] = state
	r.v.report.Packs++
	r.v.mu.Unlock()
	r.v.meter.read.Add(o.size)
	return nil
}

func (r *packReader) frames(ctx context.Context, o *openPack, pack format.RunPack, d format.Directory, state *packState) error {
	r.begin(o, d)
	chunks := int64(0)
	for _, f := range d {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.frame(o, pack, f)
		if isGone(err) {
			return err
		}
		if err != nil {
			state.bad[f.Offset] = true
			r.v.damaged(pack, f.Offset, err)
		}
		chunks += int64(len(f.Chunks))
		r.v.meter.done.Add(int64(f.Size))
	}
	r.v.mu.Lock()
	r.v.report.Frames += int64(len(d))
	r.v.report.Chunks += chunks
	r.v.mu.Unlock()
	return nil
}

// begin gets ready for the frames of a pack.
func (r *packReader) begin(o *openPack, d format.Directory) {
	if r.payload == nil {
		r.payload = make([]byte, 0, format.PayloadBuffer)
	}
	r.window = packWindow{turn: &r.v.reading, o: o, end: framesEnd(d), buf: r.window.buf}
}

// frame opens a frame and recomputes the ids of its chunks.
func (r *packReader) frame(o *openPack, pack format.RunPack, f format.DirectoryFrame) error {
	b, err := r.window.frame(f)
	if err != nil {
		return err
	}
	r.payload, r.lengths, _, err = o.key.OpenFrame(r.payload[:0], r.lengths[:0], b)
	if err != nil {
		return err
	}
	if len(r.lengths) != len(f.Chunks) {
		return format.ErrCorrupt
	}
	at := 0
	for i, c := range f.Chunks {
		n := int(r.lengths[i])
		if uint32(n) != c.Length || r.v.s.index.namers.name(r.payload[at:at+n], pack.Tree) != c.ID {
			return fmt.Errorf("%w: chunk %d has another id", format.ErrCorrupt, i)
		}
		at += n
	}
	return nil
}
