//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnExportEndsWhenItsScratchSpaceIsShortOrUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		free func(ctx context.Context, asked int) (int64, error)
		want string
		min  time.Duration
		max  time.Duration
	}{
		"too little": {func(_ context.Context, asked int) (int64, error) { return int64(1000 - 100*asked), nil }, "is down to", 0, time.Second},
		"no answer": {func(context.Context, int) (int64, error) { return 0, errors.New("no pool") }, "no pool",
			spacePatience, spacePatience + time.Second},
		"a question that hangs": {func(ctx context.Context, _ int) (int64, error) { time.Sleep(time.Hour); return 1 << 40, nil }, "nobody knows",
			spacePatience, spacePatience + time.Second},
		"an answer now and then": {func(_ context.Context, asked int) (int64, error) {
			if asked%500 == 0 {
				return 1 << 40, nil
			}
			return 0, errors.New("busy")
		}, "", time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				asked := 0
				w := spaceWatch{where: "/pool", reserve: 200, interval: spaceInterval, patience: spacePatience,
					free: func(ctx context.Context) (int64, error) { asked++; return c.free(ctx, asked) }}
				began := time.Now()
				err := w.run(ctx)
				took := time.Since(began)
				time.Sleep(2 * time.Hour) // until the question that hung has ended
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("it ends with %v, not %q", err, c.want)
				}
				if took < c.min || took > c.max {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestAnotherComputersPoolIsReadMoreOftenTheLessIsLeft(t *testing.T) {
	w := spaceWatch{reserve: 1 << 30, interval: spaceIntervalRemote, most: spaceIntervalMost}
	for free, want := range map[int64]time.Duration{
		0: spaceIntervalRemote, 1 << 30: spaceIntervalRemote, 3 << 30: spaceIntervalRemote,
		11 << 30: 10 * time.Second, 1 << 40: spaceIntervalMost, 1 << 62: spaceIntervalMost,
	} {
		if got := w.after(free); got != want {
			t.Errorf("with %d MiB free it waits %v, want %v", free>>20, got, want)
		}
	}
	here := spaceWatch{reserve: 1 << 30, interval: spaceInterval}
	if got := here.after(1 << 40); got != spaceInterval {
		t.Errorf("here it waits %v", got)
	}
}
