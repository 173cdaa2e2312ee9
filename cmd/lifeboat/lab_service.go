package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/netlab"
)

// A lab is served by a process of its own, which outlives the command that opened
// it. It and its guard start each other again. While both are gone, machines see each
// other and nobody else; the next one enters the same lab by their cables.

func (a *app) labCommand() *cobra.Command {
	return a.serviceCommand("lab", func(ctx context.Context, dir string, _ secretKeys, guard process) error {
		return a.serveLab(ctx, dir, guard)
	})
}

func (a *app) labGuardCommand() *cobra.Command {
	return a.serviceCommand("lab-guard", func(ctx context.Context, dir string, _ secretKeys, lab process) error {
		return a.guardLab(ctx, dir, lab)
	})
}

// guardLab keeps the lab's process alive until the lab has ended.
func (a *app) guardLab(ctx context.Context, dir string, lab process) error {
	self, err := thisProcess()
	if err != nil {
		return err
	}
	lock, err := present(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	for {
		if f, err := readLab(dir); err != nil || f.Ended {
			return nil
		}
		if !lab.alive() {
			if lab, err = a.startService("lab", dir, secretKeys{}, self); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(guardEvery):
		}
	}
}

// labAlone is how long a lab waits without its command and without a machine.
const labAlone = 10 * time.Second

// labWatch is how often a lab looks whether it is needed.
const labWatch = 500 * time.Millisecond

// serveLab is the lab's process.
func (a *app) serveLab(ctx context.Context, dir string, guard process) error {
	self, err := thisProcess()
	if err != nil {
		return err
	}
	lock, err := present(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	f, err := readLab(dir)
	if err != nil || f.Ended {
		return err
	}
	s := labServing{Process: self, Guard: guard}
	say := func() error { return saveJSON(filepath.Join(dir, "serving.json"), s) }
	lab, err := netlab.Open(f.Config)
	if err != nil {
		return a.labRefused(ctx, s, dir, err)
	}
	defer lab.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var unsaid error
	err = lab.Serve(ctx, dir, func() {
		s.Ready = true
		if unsaid = say(); unsaid != nil {
			cancel() // nobody would ever learn that it serves
			return
		}
		go a.watchLab(ctx, dir, lab, &s, cancel)
	})
	if err = errors.Join(err, unsaid); err != nil {
		return a.labRefused(ctx, s, dir, err)
	}
	if f, err := readLab(dir); err == nil && f.Ended {
		return forgetLab(dir)
	}
	return nil
}

// labRefused says why there is no lab, and stays until somebody has read it: a guard
// would start it again at once.
func (a *app) labRefused(ctx context.Context, s labServing, dir string, why error) error {
	s.Why = why.Error()
	if err := saveJSON(filepath.Join(dir, "serving.json"), s); err != nil {
		return errors.Join(why, err)
	}
	for {
		f, err := readLab(dir)
		if err != nil || f.Ended || !f.Owner.alive() {
			endLab(dir)
			return why
		}
		select {
		case <-ctx.Done():
			return why
		case <-time.After(labWatch):
		}
	}
}

// watchLab ends the lab when it is not needed any more, and keeps its guard alive.
func (a *app) watchLab(ctx context.Context, dir string, lab *netlab.Lab, s *labServing, end func()) {
	needed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(labWatch):
		}
		f, err := readLab(dir)
		if errors.Is(err, os.ErrNotExist) || err == nil && f.Ended {
			end()
			return
		}
		if cables, err := lab.Cables(); err != nil || cables > 0 || f.Stays || f.Owner.alive() {
			needed = time.Now()
		}
		if time.Since(needed) > labAlone {
			endLab(dir)
			end()
			return
		}
		if !s.Guard.alive() {
			if s.Guard, err = a.startService("lab-guard", dir, secretKeys{}, s.Process); err == nil {
				saveJSON(filepath.Join(dir, "serving.json"), *s)
			}
		}
	}
}

// endLab writes down that a lab is over, so that its guard does not start it again.
func endLab(dir string) {
	if f, err := readLab(dir); err == nil {
		f.Ended = true
		saveJSON(filepath.Join(dir, "lab.json"), f)
	}
}

// ownUsers gives a process a user namespace of its own, in which it may make networks
// although its user is not root. Some systems forbid that.
func ownUsers(cmd *exec.Cmd) {
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
}
