package vsphere

import (
	"context"
	"sync"
)

// turns bound how many disks of one datastore are read at the same time, by all
// exports of this process together.
type turns struct {
	mu   sync.Mutex
	free map[string]chan struct{}
}

// everyTurn is of the process and not of a host: two hosts of the configuration
// may lead to the same datastore.
var everyTurn = turns{free: map[string]chan struct{}{}}

// of returns what a disk on that datastore takes its turns from.
func (t *turns) of(datastore string, most int) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	places, ok := t.free[datastore]
	if !ok {
		places = make(chan struct{}, most)
		t.free[datastore] = places
	}
	return &turn{places: places, entry: make(chan struct{}, 1)}
}

// turn is one disk's place among those that are read. It is held while anything
// of the disk is under way, and never while the disk waits for its reader: a
// disk that nobody reads keeps no other one waiting.
type turn struct {
	places chan struct{}

	entry chan struct{} // taken by the one that waits for a place
	mu    sync.Mutex
	busy  int
}

// take waits for the disk's place, which it may have already.
func (t *turn) take(ctx context.Context) error {
	select {
	case t.entry <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-t.entry }()
	t.mu.Lock()
	if t.busy > 0 {
		t.busy++
		t.mu.Unlock()
		return nil
	}
	t.mu.Unlock()
	select {
	case t.places <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	t.mu.Lock()
	t.busy++
	t.mu.Unlock()
	return nil
}

// give ends one use.
func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy--; t.busy == 0 {
		<-t.places
	}
}
