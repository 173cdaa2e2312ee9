package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

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

// presenceFile is locked by every service of a run for as long as it lives, so
// that whoever ends them knows when the last one is gone.
const presenceFile = "present"

// present takes part in a run; the system lets go when this process ends.
func present(dir string) (*os.File, error) { return lockPresence(dir, unix.LOCK_SH) }

// lockPresence locks the presence file without waiting.
func lockPresence(dir string, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, presenceFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
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
	cmd := exec.Command("/proc/self/exe", append(a.clockFlags(), "--state", a.stateDir, name, dir)...)
	cmd.Args[0] = "lifeboat"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), out, out
	detached(cmd)
	if name == "lab" && os.Geteuid() != 0 {
		ownUsers(cmd)
	}
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start the %s: %w", name, err)
	}
	started, err := processOf(cmd.Process.Pid)
	// Somebody has to collect it when it ends before we do.
	go cmd.Wait()
	return started, err
}
