package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// guardEvery is how often the guard looks whether the server of the disks is
// alive: a guest that reads waits that long at the most before its server is
// started again.
const guardEvery = 200 * time.Millisecond

func (a *app) superviseCommand() *cobra.Command {
	return a.serviceCommand("guard", a.guard)
}

// guard keeps the server of the disks alive until the run has ended.
func (a *app) guard(ctx context.Context, dir string, keys secretKeys, server process) error {
	self, err := thisProcess()
	if err != nil {
		return err
	}
	lock, err := present(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	log := a.openRunLog(dir)
	starts := 0
	var looked time.Time
	for {
		b, err := readBooted(dir)
		if err == nil && b.Ended {
			return nil
		}
		if err == nil && time.Since(looked) > abandonedEvery {
			looked = time.Now()
			if a.abandoned(ctx, b, dir) {
				b.Ended = true
				return errors.Join(b.save(dir), os.RemoveAll(filepath.Dir(b.Socket)))
			}
		}
		if !server.alive() {
			if starts > 0 {
				log.log(event{Event: "warning", Text: "the server of the disks was gone and is started again"})
			}
			starts++
			if server, err = a.startService("disk-server", dir, keys, self); err != nil {
				log.log(event{Event: "warning", Text: err.Error()})
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(guardEvery):
		}
	}
}

// abandonedEvery is how often the guard looks whether anybody needs the disks.
const abandonedEvery = 5 * time.Second

// abandoned says that the command that began the run is gone and left no
// machine: it was killed before its first one.
func (a *app) abandoned(ctx context.Context, b *bootedRun, dir string) bool {
	f, err := readRun(dir)
	if err != nil || f.Process.alive() || b.Worker.alive() {
		return false
	}
	there, err := a.machinesOf(ctx, b)
	return err == nil && len(there) == 0
}
