package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/internal/durable"
)

// guardEvery is how often the guard looks whether the server of the disks is
// alive: a guest that reads waits that long at the most before its server is
// started again.
const guardEvery = 200 * time.Millisecond

func (a *app) superviseCommand() *cobra.Command {
	return a.serviceCommand("guard", a.guard)
}

// serviceCommand is a hidden command that lifeboat starts for itself.
func (a *app) serviceCommand(name string, do func(ctx context.Context, dir string, keys secretKeys, peer process) error) *cobra.Command {
	return &cobra.Command{
		Use: name + " RUN-FOLDER", Hidden: true, Args: exactArgs("the folder of a run"),
		RunE: func(c *cobra.Command, args []string) error {
			in, err := readServiceKeys(a.stdin)
			if err != nil {
				return err
			}
			return do(c.Context(), args[0], in.Keys, in.Peer)
		},
	}
}

// guard keeps the server of the disks alive until the run has ended.
func (a *app) guard(ctx context.Context, dir string, keys secretKeys, server process) error {
	self, err := thisProcess()
	if err != nil {
		return err
	}
	log := openRunLog(dir)
	starts := 0
	for {
		if b, err := readBooted(dir); err == nil && b.Ended {
			return nil
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

// startService starts the guard or the server of the disks, detached from this
// process and its terminal. Its secrets go through a pipe.
func (a *app) startService(name, dir string, keys secretKeys, peer process) (process, error) {
	in, err := json.Marshal(serviceKeys{keys, peer})
	if err != nil {
		return process{}, err
	}
	out, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return process{}, err
	}
	defer out.Close()
	// The program may have been started from a folder that is gone by now.
	cmd := exec.Command("/proc/self/exe", "--state", a.stateDir, name, dir)
	cmd.Args[0] = "lifeboat"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), out, out
	detached(cmd)
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start the %s: %w", name, err)
	}
	started, err := processOf(cmd.Process.Pid)
	// Somebody has to collect it when it ends before we do.
	go cmd.Wait()
	return started, err
}

// startServing starts guard and server and waits until the disks can be read.
func (a *app) startServing(ctx context.Context, b *bootedRun, dir string, keys secretKeys) error {
	guard, err := a.startService("guard", dir, keys, process{})
	if err != nil {
		return err
	}
	for {
		if s, err := readServing(dir); err == nil && s.Process.alive() && s.Ready && s.GatewayTried {
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
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stopServing ends guard and server.
func (a *app) stopServing(b *bootedRun, dir string) error {
	b.Ended = true
	if err := b.save(dir); err != nil {
		return err
	}
	s, err := readServing(dir)
	if err != nil {
		return nil
	}
	s.Guard.signal(syscall.SIGTERM)
	s.Process.signal(syscall.SIGTERM)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if !s.Guard.alive() && !s.Process.alive() {
			break
		}
	}
	os.RemoveAll(filepath.Dir(b.Socket))
	return nil
}

// readCounter counts what is read from a drive.
type readCounter struct{ n atomic.Int64 }

func (c *readCounter) take() int64 { return c.n.Swap(0) }

// countedDir is a folder that counts what is read from its files.
type countedDir struct {
	durable.Dir
	count *readCounter
}

func (d countedDir) Open(name string) (durable.ReadFile, error) {
	f, err := d.Dir.Open(name)
	if err != nil {
		return nil, err
	}
	return countedFile{f, d.count}, nil
}

func (d countedDir) Sub(name string) (durable.Dir, error) {
	sub, err := d.Dir.Sub(name)
	if err != nil {
		return nil, err
	}
	return countedDir{sub, d.count}, nil
}

type countedFile struct {
	durable.ReadFile
	count *readCounter
}

func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReadFile.ReadAt(p, off)
	f.count.n.Add(int64(n))
	return n, err
}
