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
// the kernel. Elsewhere the host's libvirt reads the whole pool, so it is asked
// again when a guest that writes as fast as it can may have used what was left,
// and at the latest after half a minute.
const (
	spaceInterval       = 20 * time.Millisecond
	spaceIntervalRemote = 2 * time.Second
	spaceIntervalMost   = 30 * time.Second
	// guestSpeed is how many bytes a second guests write at most.
	guestSpeed = 1 << 30
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
		w.interval, w.most = spaceIntervalRemote, spaceIntervalMost
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
	most               time.Duration // of an interval, where it may grow; or 0
	free               func(context.Context) (int64, error)
}

// run returns why an export cannot go on, or nil when ctx ends: too little space
// is left, or nobody could say for too long how much it is.
func (w spaceWatch) run(ctx context.Context) error {
	var since time.Time // when the first of the questions without an answer was asked
	var why error       // what the host said last instead of an answer
	for next := w.interval; pause(ctx, next) == nil; {
		if why == nil {
			since = time.Now()
		}
		limited, cancel := context.WithDeadline(ctx, since.Add(w.patience))
		// A file system that hangs holds whoever asks it.
		free, err := blocking(limited, func() (int64, error) { return w.free(limited) }, nil)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && free < w.reserve:
			return fmt.Errorf("scratch space in %s is down to %d MiB", w.where, free>>20)
		case err == nil:
			why, next = nil, w.after(free)
		case time.Since(since) >= w.patience:
			return fmt.Errorf("nobody knows how much scratch space is left in %s: %w", w.where, cmp.Or(why, err))
		default:
			why, next = err, w.interval
		}
	}
	return nil
}

// after is how long to wait when so much is free.
func (w spaceWatch) after(free int64) time.Duration {
	left := time.Duration(min((free-w.reserve)/guestSpeed, 3600)) * time.Second
	return max(w.interval, min(w.most, left))
}
