package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/imagestore"
	"lifeboat/nbd"
)

// A drive may vanish under the machines that run from it. Their reads are then
// answered with "no space", on which QEMU stops a machine with nothing in
// flight: its guest sees no error, its clocks stand, and it can still be looked
// at and ended. When the same drive is back, wherever it is attached by then,
// the machines are told to try again.

// servedDisk is a stored disk that survives the going and coming of its drive.
type servedDisk struct {
	server *diskServer
	point  string
	key    string
	size   int64
	// waits says that reads wait for a drive that is away, because the guest's
	// controller cannot stop its machine.
	waits bool

	mu    sync.Mutex
	drive *openedDrive
	disk  *imagestore.Disk
}

// SizeBytes is the size of the disk, known while the drive is away as well.
func (d *servedDisk) SizeBytes() int64 { return d.size }

func (d *servedDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	return d.with(ctx, func(disk *imagestore.Disk) error {
		n, err := disk.ReadAtContext(ctx, p, offset)
		if n == len(p) && errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}

func (d *servedDisk) Extents(ctx context.Context, within lifeboat.Extent) (runs []lifeboat.Extent, err error) {
	err = d.with(ctx, func(disk *imagestore.Disk) error {
		runs, err = disk.Extents(ctx, within)
		return err
	})
	return runs, err
}

// with does something with the disk. While the drive is away it waits and does
// it again, or says at once that the drive is away.
func (d *servedDisk) with(ctx context.Context, do func(*imagestore.Disk) error) error {
	for {
		disk, drive, err := d.open(ctx)
		if err == nil {
			err = do(disk)
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case drive != d.server.current():
			continue // it was closed under us: the drive is back already
		case !errors.Is(err, lifeboat.ErrDriveGone):
			return err
		case !d.waits:
			d.server.refuse(drive)
			return fmt.Errorf("%w (%w)", err, nbd.ENOSPC)
		}
		if err := d.server.reopen(ctx, drive); err != nil {
			return err
		}
	}
}

// open returns the disk from the store that is open now.
func (d *servedDisk) open(ctx context.Context) (*imagestore.Disk, *openedDrive, error) {
	drive := d.server.current()
	if drive == nil {
		return nil, nil, lifeboat.ErrDriveGone
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drive == drive {
		return d.disk, drive, nil
	}
	disk, err := drive.store.Disk(ctx, d.point, d.key)
	if err != nil {
		return nil, drive, err
	}
	d.drive, d.disk = drive, disk
	return disk, drive, nil
}

func (s *diskServer) current() *openedDrive {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store
}

// refuse notes that a machine was told that the drive of this store is away.
func (s *diskServer) refuse(broken *openedDrive) {
	s.mu.Lock()
	s.refused = time.Now()
	s.mu.Unlock()
	select {
	case s.gone <- broken:
	default: // somebody said so already
	}
}

// keepDrive looks for the drive whenever it is gone.
func (s *diskServer) keepDrive(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case broken := <-s.gone:
			s.reopen(ctx, broken)
		}
	}
}

// retryFor is how long after the last refusal machines are let go on: a machine
// may stop only a moment after its drive is back.
const retryFor = 30 * time.Second

// retryLimit bounds letting one machine go on: the others wait for it.
const retryLimit = 5 * time.Second

// letGoOn lets the machines go on that stopped because their drive was away.
func (s *diskServer) letGoOn(ctx context.Context) {
	s.mu.Lock()
	owed := s.store != nil && time.Since(s.refused) < retryFor
	s.mu.Unlock()
	if !owed {
		return
	}
	h, err := s.a.openRunHost(s.booted)
	if err != nil {
		return
	}
	host, ok := h.(hypervisor.Retrier)
	if !ok {
		return
	}
	for _, m := range s.booted.Machines {
		limited, cancel := context.WithTimeout(ctx, retryLimit)
		err := host.Retry(limited, m.Name)
		cancel()
		if err != nil && !errors.Is(err, hypervisor.ErrNoMachine) && ctx.Err() == nil {
			s.log.log(event{Event: "warning", Machine: m.Name, Text: err.Error()})
		}
	}
}

// reopen waits until the drive answers again. Only one of the readers that find
// it gone looks for it.
func (s *diskServer) reopen(ctx context.Context, broken *openedDrive) error {
	s.mu.Lock()
	if s.store != broken {
		s.mu.Unlock()
		return nil
	}
	if s.opening != nil {
		wait := s.opening
		s.mu.Unlock()
		select {
		case <-wait:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.opening = make(chan struct{})
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		close(s.opening)
		s.opening = nil
		s.mu.Unlock()
	}()
	return s.findDrive(ctx, broken)
}

func (s *diskServer) findDrive(ctx context.Context, broken *openedDrive) error {
	for {
		store, err := s.a.openServedDrive(ctx, s.booted, s.keys, s.reads)
		if err == nil {
			s.driveIsBack(ctx, broken, store)
			return nil
		}
		s.mu.Lock()
		first := s.serving.WaitingSince.IsZero()
		if first {
			s.serving.WaitingSince = time.Now().UTC()
		}
		s.mu.Unlock()
		if first {
			s.log.log(event{Event: "drive-gone", Text: fmt.Sprintf("drive %s does not answer: %v; the machines wait for it", s.booted.Drive.Label, err)})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(driveRetry):
		}
	}
}

func (s *diskServer) driveIsBack(ctx context.Context, broken, store *openedDrive) {
	s.mu.Lock()
	s.store = store
	waited := !s.serving.WaitingSince.IsZero()
	s.serving.WaitingSince = time.Time{}
	if waited {
		s.refused = time.Now()
	}
	s.mu.Unlock()
	if broken != nil {
		broken.Close()
	}
	if waited {
		s.log.log(event{Event: "drive-back", Text: fmt.Sprintf("drive %s is back; the machines go on", s.booted.Drive.Label)})
		s.letGoOn(ctx)
	}
}
