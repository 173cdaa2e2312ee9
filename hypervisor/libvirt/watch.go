//go:build libvirt_dlopen && cgo

package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// How often the scratch space is looked at: on this computer that is one call of
// the kernel; elsewhere the host's libvirt reads the whole pool.
const (
	spaceInterval       = 20 * time.Millisecond
	spaceIntervalRemote = 2 * time.Second
	// spacePatience is how long nobody may know how much space is left.
	spacePatience = 15 * time.Second
	// stateInterval is how often it is asked whether the guest still runs.
	stateInterval = 250 * time.Millisecond
)

// watch breaks the still before its scratch files fill the file system that
// production may live on, and when QEMU stopped the guest because they could not
// be written after all. Neither question waits for the other's answer.
func (s *still) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stopWatch = cancel
	w := spaceWatch{where: s.folder.parent, reserve: s.reserve, interval: spaceInterval, patience: spacePatience,
		free: func(ctx context.Context) (int64, error) {
			free, _, err := s.folder.free(ctx)
			return free, err
		}}
	if !s.domain.h.local() {
		w.interval = spaceIntervalRemote
	}
	go func() {
		if err := w.run(ctx); err != nil {
			s.breakNow(err)
		}
	}()
	go func() {
		for pause(ctx, stateInterval) == nil {
			if s.domain.stoppedByDisk(ctx) {
				s.breakNow(errors.New("a disk of its host did not take the guest's writes"))
				return
			}
		}
	}()
}

// spaceWatch looks at the space for scratch files.
type spaceWatch struct {
	where              string
	reserve            int64
	interval, patience time.Duration
	free               func(context.Context) (int64, error)
}

// run returns why an export cannot go on, or nil when ctx ends: too little space
// is left, or nobody could say for too long how much it is.
func (w spaceWatch) run(ctx context.Context) error {
	known := time.Now()
	var why error // what the host said last, while it said no number
	for pause(ctx, w.interval) == nil {
		limited, cancel := context.WithDeadline(ctx, known.Add(w.patience))
		// A file system that hangs holds whoever asks it.
		free, err := blocking(limited, func() (int64, error) { return w.free(limited) }, nil)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && free < w.reserve:
			return fmt.Errorf("scratch space in %s is down to %d MiB", w.where, free>>20)
		case err == nil:
			known, why = time.Now(), nil
		case time.Since(known) >= w.patience:
			return fmt.Errorf("nobody knows how much scratch space is left in %s: %w", w.where, cmp.Or(why, err))
		default:
			why = err
		}
	}
	return nil
}
