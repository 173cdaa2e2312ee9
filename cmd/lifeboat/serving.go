package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// servingPoll is how often a command looks at disks.json.
const servingPoll = 20 * time.Millisecond

// startServing starts guard and server and waits until the disks can be read, or
// a drive was looked for and is away: then its machines wait.
func (a *app) startServing(ctx context.Context, dir string, keys secretKeys) error {
	guard, err := a.startService("guard", dir, keys, process{})
	if err != nil {
		return err
	}
	for {
		if s, err := readServing(dir); err == nil && s.Process.alive() && (s.Ready || !s.WaitingSince.IsZero()) && s.GatewayTried {
			if s.Gateway != "" {
				return errors.New(s.Gateway)
			}
			return nil
		}
		if !guard.alive() {
			return fmt.Errorf("the guard of the disks ended at once; see %s", filepath.Join(dir, "guard.log"))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(servingPoll):
		}
	}
}

// stopPatience bounds how long the services of a run may take to end.
const stopPatience = 10 * time.Second

// stopServing ends guard and server of a run, and returns when both are gone:
// then nobody holds the drive, nor its secret.
func (a *app) stopServing(b *bootedRun, dir string) error {
	b.Ended = true
	if err := b.save(dir); err != nil {
		return err
	}
	for deadline := time.Now().Add(stopPatience); ; time.Sleep(servingPoll) {
		// The guard may have started another server meanwhile.
		if s, err := readServing(dir); err == nil {
			s.Guard.signal(syscall.SIGTERM)
			s.Process.signal(syscall.SIGTERM)
		}
		alone, err := lockPresence(dir, unix.LOCK_EX)
		if err == nil {
			alone.Close()
			return os.RemoveAll(filepath.Dir(b.Socket))
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server of the disks of run %s does not end; see %s", short(b.Run), dir)
		}
	}
}
