package imagestore

import (
	"sync"
	"sync/atomic"

	"lifeboat/imagestore/format"
)

// frameJob is one frame on its way: filled by a builder, compressed by whoever
// filled it, sealed and written by the writer, then used again.
type frameJob struct {
	tree    bool
	payload []byte
	lengths []uint32
	ids     []format.ID
	frame   format.Frame
	memory  []byte
	written *atomic.Int64
}

func (j *frameJob) reset() {
	if b := j.frame.Buffer(); cap(b) > 0 {
		j.memory = b
	}
	j.payload, j.lengths, j.ids = j.payload[:0], j.lengths[:0], j.ids[:0]
	j.frame, j.written = format.Frame{}, nil
}

// frameBuilder collects unique chunks into frames. A chunk that was claimed is
// always handed on, even by a capture that was cancelled: others may already
// refer to it.
type frameBuilder struct {
	w       *writer
	tree    bool
	written *atomic.Int64

	mu  sync.Mutex
	job *frameJob
}

// newBuilder makes a builder that every sync of the store flushes, until it is
// closed.
func (w *writer) newBuilder(tree bool, written *atomic.Int64) *frameBuilder {
	b := &frameBuilder{w: w, tree: tree, written: written}
	w.mu.Lock()
	w.builders[b] = struct{}{}
	w.mu.Unlock()
	return b
}

// put writes a chunk unless it is on the drive already, and says whether it is
// new.
func (b *frameBuilder) put(id format.ID, chunk []byte) (bool, error) {
	known, err := b.w.s.index.known(id)
	if err != nil || known {
		return false, err
	}
	return b.add(id, chunk)
}

// add is put for a chunk that is to be written whether or not the index has it,
// unless this process is writing it already.
func (b *frameBuilder) add(id format.ID, chunk []byte) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Claim and hand over under one lock: a sync that sees the claim also sees
	// the chunk.
	if !b.w.s.index.pending.claim(id) {
		return false, nil
	}
	if b.job != nil && (len(b.job.payload)+len(chunk) > format.MaxPayload || len(b.job.ids) == format.MaxFrameChunks) {
		if err := b.flushLocked(); err != nil {
			return false, err
		}
	}
	if b.job == nil {
		b.job = b.w.pool.Get().(*frameJob)
		b.job.tree, b.job.written = b.tree, b.written
	}
	j := b.job
	j.payload = append(j.payload, chunk...)
	j.lengths = append(j.lengths, uint32(len(chunk)))
	j.ids = append(j.ids, id)
	return true, nil
}

func (b *frameBuilder) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flushLocked()
}

func (b *frameBuilder) flushLocked() error {
	j := b.job
	if j == nil {
		return b.w.err()
	}
	b.job = nil
	j.frame = format.PackFrame(j.memory, j.lengths, j.payload)
	j.memory = nil
	return b.w.send(j)
}

// close hands on what is left and forgets the builder.
func (b *frameBuilder) close() error {
	err := b.flush()
	b.w.mu.Lock()
	delete(b.w.builders, b)
	b.w.mu.Unlock()
	return err
}
