package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lifeboat/hypervisor"
)

// servedDrive is a drive that machines run from, there or away.
type servedDrive struct {
	server *diskServer
	bootedDrive
	// gone wakes up whoever looks for the drive.
	gone chan *openedDrive
	// tried is closed when it was looked for once, found or not.
	tried chan struct{}
	once  sync.Once
	reads readCounter

	// What follows is under the server's mu. store is nil while the drive is away.
	store *openedDrive
	// waitingSince is when it stopped answering, or zero.
	waitingSince time.Time
	// opening is closed when the attempt to find the drive again succeeded.
	opening chan struct{}
	// readBytes were read from it, of which said are told already.
	readBytes, said int64
}

func newServedDrive(s *diskServer, of bootedDrive) *servedDrive {
	d := &servedDrive{server: s, bootedDrive: of, gone: make(chan *openedDrive, 1), tried: make(chan struct{})}
	for _, before := range s.serving.Drives {
		if before.DriveID == of.Drive.ID {
			d.waitingSince, d.readBytes, d.said = before.WaitingSince, before.ReadBytes, before.ReadBytes
		}
	}
	return d
}

// state is what disks.json says of the drive; the server's mu is held.
func (d *servedDrive) state() driveServing {
	d.readBytes += d.reads.take()
	return driveServing{DriveID: d.Drive.ID, WaitingSince: d.waitingSince, ReadBytes: d.readBytes}
}

func (d *servedDrive) current() *openedDrive {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return d.store
}

func (d *servedDrive) close() {
	d.server.mu.Lock()
	store := d.store
	d.store = nil
	d.server.mu.Unlock()
	if store != nil {
		store.Close()
	}
}

// refuse notes that a machine was told that the drive of this store is away.
func (d *servedDrive) refuse(broken *openedDrive) {
	d.server.mu.Lock()
	d.server.refused = time.Now()
	d.server.mu.Unlock()
	select {
	case d.gone <- broken:
	default: // somebody said so already
	}
}

// keep opens the drive, and looks for it whenever it is gone.
func (d *servedDrive) keep(ctx context.Context) {
	d.reopen(ctx, d.current())
	for {
		select {
		case <-ctx.Done():
			return
		case broken := <-d.gone:
			d.reopen(ctx, broken)
		}
	}
}

// reopen waits until the drive answers again. Only one of the readers that find
// it gone looks for it.
func (d *servedDrive) reopen(ctx context.Context, broken *openedDrive) error {
	s := d.server
	s.mu.Lock()
	if d.store != broken {
		s.mu.Unlock()
		return nil
	}
	if d.opening != nil {
		wait := d.opening
		s.mu.Unlock()
		select {
		case <-wait:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.opening = make(chan struct{})
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		close(d.opening)
		d.opening = nil
		s.mu.Unlock()
	}()
	return d.find(ctx, broken)
}

func (d *servedDrive) find(ctx context.Context, broken *openedDrive) error {
	s := d.server
	for {
		store, err := s.a.openServedDrive(ctx, d.bootedDrive, s.keys, &d.reads)
		if err == nil {
			d.isBack(ctx, broken, store)
			d.once.Do(func() { close(d.tried) })
			return nil
		}
		d.once.Do(func() { close(d.tried) })
		s.mu.Lock()
		first := d.waitingSince.IsZero()
		if first {
			d.waitingSince = time.Now().UTC()
		}
		s.mu.Unlock()
		if first {
			s.log.log(event{Event: "drive-gone", Text: fmt.Sprintf("drive %s does not answer: %v; the machines wait for it", d.Drive.Label, err)})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(driveRetry):
		}
	}
}

func (d *servedDrive) isBack(ctx context.Context, broken, store *openedDrive) {
	s := d.server
	s.mu.Lock()
	d.store = store
	waited := !d.waitingSince.IsZero()
	d.waitingSince = time.Time{}
	if waited {
		s.refused = time.Now()
	}
	s.mu.Unlock()
	if broken != nil {
		broken.Close()
	}
	if waited {
		s.log.log(event{Event: "drive-back", Text: fmt.Sprintf("drive %s is back; the machines go on", d.Drive.Label)})
		s.letGoOn(ctx)
	}
}

// retryFor is how long after the last refusal machines are let go on: a machine
// may stop only a moment after its drive is back.
const retryFor = 30 * time.Second

// retryLimit bounds letting one machine go on: the others wait for it.
const retryLimit = 5 * time.Second

// letGoOn lets the machines go on that stopped because a drive was away and whose
// drives are all there now.
func (s *diskServer) letGoOn(ctx context.Context) {
	s.mu.Lock()
	b := s.booted
	owed := time.Since(s.refused) < retryFor
	away := map[string]bool{}
	for _, d := range s.drives {
		away[d.Drive.ID] = d.store == nil || !d.waitingSince.IsZero()
	}
	s.mu.Unlock()
	if !owed {
		return
	}
	for _, m := range b.Machines {
		if b.waits(m, away) {
			continue
		}
		h, err := s.a.openHostOf(b, b.hostOf(m))
		if err != nil {
			continue
		}
		host, ok := h.(hypervisor.Retrier)
		if !ok {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, retryLimit)
		err = host.Retry(limited, m.Name)
		cancel()
		if err != nil && !errors.Is(err, hypervisor.ErrNoMachine) && ctx.Err() == nil {
			s.log.log(event{Event: "warning", Machine: m.Name, Text: err.Error()})
		}
	}
}

// waits says that a machine has a disk on a drive that is away.
func (b *bootedRun) waits(m bootedMachine, away map[string]bool) bool {
	for key := range m.Exports {
		if drive, _ := b.source(m, key); away[drive] {
			return true
		}
	}
	return false
}
