package vsphere

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestALookIsBegunAfterWhatItVouchesFor(t *testing.T) {
	var gone atomic.Bool
	var looks atomic.Int64
	errGone := errors.New("gone")
	w := &watch{ctx: t.Context(), look: func(context.Context) error {
		was := gone.Load()
		looks.Add(1)
		time.Sleep(2 * time.Millisecond)
		if was {
			return errGone
		}
		return nil
	}}
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for range 20 {
				before := gone.Load()
				if err := w.stands(t.Context()); before && !errors.Is(err, errGone) {
					t.Errorf("it was gone before, and the look says %v", err)
				}
			}
		})
	}
	time.Sleep(10 * time.Millisecond)
	gone.Store(true)
	readers.Wait()
	if n := looks.Load(); n > 100 {
		t.Errorf("%d looks for 160 questions of 8 readers", n)
	}
}

func TestALookEndsWithItsContext(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	w := &watch{ctx: t.Context(), look: func(context.Context) error { <-hang; return nil }}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := w.stands(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
}
