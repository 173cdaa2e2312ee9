package imagestore

import (
	"sync"

	"lifeboat/imagestore/format"
)

// pending holds the chunks that this process writes and that are in no run yet.
// Whoever claims an id first writes it; everybody else refers to it.
type pending struct {
	shards [64]pendingShard
}

type pendingShard struct {
	mu sync.Mutex
	// A place without an offset is a chunk that the writer has not reached yet.
	places map[format.ID]format.Place
}

func newPending() *pending {
	p := &pending{}
	for i := range p.shards {
		p.shards[i].places = map[format.ID]format.Place{}
	}
	return p
}

func (p *pending) shard(id format.ID) *pendingShard { return &p.shards[id[31]&63] }

// claim says whether the caller is the one who writes the chunk.
func (p *pending) claim(id format.ID) bool {
	s := p.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.places[id]; ok {
		return false
	}
	s.places[id] = format.Place{}
	return true
}

func (p *pending) has(id format.ID) bool {
	s := p.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.places[id]
	return ok
}

// place returns where a chunk was written to.
func (p *pending) place(id format.ID) (format.Place, bool) {
	s := p.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	place, ok := s.places[id]
	return place, ok && place.Offset != 0
}

func (p *pending) set(id format.ID, place format.Place) {
	s := p.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places[id] = place
}

func (p *pending) remove(id format.ID) {
	s := p.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.places, id)
}
