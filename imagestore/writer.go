package imagestore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// writer is the one place that appends to a drive. Workers hand it frames; it
// seals them into packs with large sequential writes; a second goroutine, the
// finisher, syncs the packs that are full and writes index runs, so that the
// first one never waits for the medium's cache.
//
// After the first error nothing more is written: every later call returns it.
type writer struct {
	s      *Store
	frames chan writeRequest
	closed chan finishRequest
	done   sync.WaitGroup
	pool   sync.Pool // of *frameJob

	failOnce sync.Once
	dead     chan struct{}
	failure  error // set before dead is closed

	mu       sync.Mutex
	builders map[*frameBuilder]struct{}
}

// frameQueue is how many frames may wait for the writer: enough for one large
// write, little enough for memory.
const frameQueue = 8

type writeRequest struct {
	job     *frameJob
	barrier chan<- error
}

type finishRequest struct {
	pack    *packWriter
	barrier chan<- error
}

func newWriter(s *Store) *writer {
	w := &writer{
		s:      s,
		frames: make(chan writeRequest, frameQueue),
		// One pack may wait while another is being synced.
		closed:   make(chan finishRequest, 1),
		dead:     make(chan struct{}),
		builders: map[*frameBuilder]struct{}{},
	}
	w.pool.New = func() any {
		return &frameJob{payload: make([]byte, 0, format.MaxPayload)}
	}
	w.done.Add(2)
	go w.write()
	go w.finish()
	return w
}

// fail ends all writing. The first error is the one that is told.
func (w *writer) fail(err error) {
	w.failOnce.Do(func() {
		w.failure = w.s.explain(err)
		close(w.dead)
	})
}

// err is why nothing can be written any more, or nil.
func (w *writer) err() error {
	select {
	case <-w.dead:
		return w.failure
	default:
		return nil
	}
}

// send hands a frame to the writer, which owns it from then on.
func (w *writer) send(job *frameJob) error {
	select {
	case w.frames <- writeRequest{job: job}:
		return nil
	case <-w.dead:
		return w.failure
	}
}

// sync makes everything that was claimed so far durable and findable: the open
// frames of all captures are written, the packs closed and synced, and the
// index run that covers them is committed.
func (w *writer) sync() error {
	w.mu.Lock()
	builders := slices.Collect(maps.Keys(w.builders))
	w.mu.Unlock()
	for _, b := range builders {
		if err := b.flush(); err != nil {
			return err
		}
	}
	reply := make(chan error, 1)
	select {
	case w.frames <- writeRequest{barrier: reply}:
	case <-w.dead:
		return w.failure
	}
	select {
	case err := <-reply:
		return err
	case <-w.dead:
		return w.failure
	}
}

// close syncs what there is and ends the goroutines. No capture is under way.
func (w *writer) close() error {
	err := w.err()
	if err == nil {
		err = w.sync()
	}
	close(w.frames)
	w.done.Wait()
	return err
}

// write is the goroutine that fills packs.
func (w *writer) write() {
	defer w.done.Done()
	defer close(w.closed)
	var open [2]*packWriter // data, tree
	for r := range w.frames {
		err := w.err()
		if err == nil {
			err = w.serve(&open, r)
		}
		if err != nil {
			w.fail(err)
		}
		if r.job != nil {
			w.recycle(r.job)
		}
		if r.barrier != nil {
			w.closed <- finishRequest{barrier: r.barrier}
		}
	}
	for _, p := range open {
		if p != nil {
			p.file.Close() // torn, because the writer died; the next one salvages it
		}
	}
}

func (w *writer) serve(open *[2]*packWriter, r writeRequest) error {
	if r.job == nil {
		for i := range open {
			if err := w.endPack(&open[i]); err != nil {
				return err
			}
		}
		return nil
	}
	p := &open[0]
	if r.job.tree {
		p = &open[1]
	}
	if *p != nil && !(*p).hasRoom(r.job, w.s.limits.packBytes) {
		if err := w.endPack(p); err != nil {
			return err
		}
	}
	if *p == nil {
		next, err := w.s.newPack(r.job.tree)
		if err != nil {
			return err
		}
		*p = next
	}
	return (*p).add(r.job)
}

func (w *writer) endPack(p **packWriter) error {
	if *p == nil {
		return nil
	}
	if err := (*p).end(); err != nil {
		return err
	}
	w.closed <- finishRequest{pack: *p}
	*p = nil
	return nil
}

func (w *writer) recycle(job *frameJob) {
	job.reset()
	w.pool.Put(job)
}

// finish is the goroutine that syncs packs and writes index runs.
func (w *writer) finish() {
	defer w.done.Done()
	var synced syncedEntries
	for r := range w.closed {
		err := w.err()
		if err == nil && r.pack != nil {
			err = w.s.syncPack(r.pack, &synced)
		}
		if err == nil && (r.barrier != nil || len(synced.entries) >= w.s.limits.runEntries) {
			err = w.s.commitEntries(&synced)
		}
		if err != nil {
			w.fail(err)
		}
		if err != nil && r.pack != nil {
			r.pack.file.Close()
		}
		if r.barrier != nil {
			r.barrier <- err
		}
	}
}

// syncedEntries are the chunks that are durable but in no run yet.
type syncedEntries struct {
	entries []format.RunEntry
	packs   []uint32
}

// syncPack makes a closed pack durable.
func (s *Store) syncPack(p *packWriter, synced *syncedEntries) error {
	name := packName(p.pack)
	if err := p.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	if err := p.file.Close(); err != nil {
		p.file = nopClose{}
		return fmt.Errorf("close %s: %w", name, err)
	}
	p.file = nopClose{}
	if err := s.syncParity(p); err != nil {
		return err
	}
	if err := s.dir.SyncDir(name[:len("packs/00")]); err != nil {
		return fmt.Errorf("sync the folder of %s: %w", name, err)
	}
	synced.entries = p.appendEntries(synced.entries)
	synced.packs = append(synced.packs, p.number)
	return nil
}

// commitEntries puts what is durable into an index run. Only after that may a
// point refer to it.
func (s *Store) commitEntries(synced *syncedEntries) error {
	if err := s.index.writeRun(synced.entries, synced.packs); err != nil {
		return err
	}
	for _, e := range synced.entries {
		s.index.pending.remove(e.ID)
	}
	synced.entries, synced.packs = synced.entries[:0], synced.packs[:0]
	return s.healIndex()
}

// Reserve is what exports leave free of a drive of that size: a prune needs room to
// work in.
func (s *Store) Reserve(total int64) int64 {
	if !s.limits.reserveFree || s.index.frozen.Load() {
		return 0 // what is kept free is kept for a prune
	}
	return max(total/100, 2*s.limits.packBytes)
}

// checkRoom fails with ErrDriveFull unless a pack more leaves enough free.
func (s *Store) checkRoom() error {
	free, total, err := s.dir.Space()
	if err != nil {
		return fmt.Errorf("ask for the free space: %w", err)
	}
	if keep := s.Reserve(total); free < keep+s.limits.packBytes+parityRoom(s.limits.packBytes) {
		return fmt.Errorf("%w: %d MiB are free, and %d MiB are kept free", lifeboat.ErrDriveFull, free>>20, keep>>20)
	}
	return nil
}

// nopClose stands for a file that was closed, so that nobody closes it twice.
type nopClose struct{}

var errClosed = errors.New("closed already")

func (nopClose) Write([]byte) (int, error) { return 0, errClosed }
func (nopClose) Sync() error               { return errClosed }
func (nopClose) Close() error              { return nil }
