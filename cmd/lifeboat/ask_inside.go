package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// hiddenInside are the folders of this computer that a command of a drill does not
// see: the sockets there lead to services of this computer past every network, such
// as libvirt's or a container engine's, and those run production.
var hiddenInside = []string{"/run", "/var/run"}

// resolvConf is a resolv.conf that leads to the lab's DNS, or empty.
func (k *asker) resolvConf() string {
	if k.lab == nil || !k.lab.Resolver().IsValid() {
		return ""
	}
	path := filepath.Join(k.run.dir, "resolv.conf")
	if err := writeFile(path, []byte("nameserver "+k.lab.Resolver().String()+"\n"), 0o600); err != nil {
		return ""
	}
	return path
}

// start starts a command; in a lab, if one is given: with no network but the lab's,
// and with a view of this computer's files that lacks the sockets of its services.
func start(cmd *exec.Cmd, lab *os.File, resolv string) error {
	if lab == nil {
		return cmd.Start()
	}
	started := make(chan error, 1)
	go func() {
		// A child is born on the thread that starts it, with what that thread sees.
		// The thread ends with this goroutine, since it is never unlocked.
		runtime.LockOSThread()
		err := enter(lab, resolv)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// enter moves the calling thread into a lab.
func enter(lab *os.File, resolv string) error {
	if err := unix.Setns(int(lab.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network of the lab: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWIPC); err != nil {
		return fmt.Errorf("hide the services of this computer: %w", err)
	}
	// Nothing that is mounted from now on is seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("hide the services of this computer: %w", err)
	}
	if resolv != "" {
		// The file may be a link into a folder that is hidden: the end of it counts.
		err := unix.Mount(resolv, "/etc/resolv.conf", "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("lead names to the lab: %w", err)
		}
	}
	for _, dir := range hiddenInside {
		if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
			continue // a link into another of them
		}
		if err := unix.Mount("lifeboat-drill", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=16m,mode=755"); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	return nil
}
