package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hiddenInside are the folders of this computer that a command of a drill does not
// see: the sockets there lead to services of this computer past every network, such
// as libvirt's or a container engine's, and those run production.
var hiddenInside = []string{"/run", "/var/run"}

// resolvConf is a resolv.conf that leads to the lab's DNS, or empty.
func (k *asker) resolvConf() (string, error) {
	if k.lab == nil || !k.lab.Resolver().IsValid() {
		return "", nil
	}
	path := filepath.Join(k.run.dir, "resolv.conf")
	// A command may become another user, who has to read it.
	return path, writeFile(path, []byte("nameserver "+k.lab.Resolver().String()+"\n"), 0o644)
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
	sockets := boundSockets()
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
	for _, path := range sockets {
		err := unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) { // it ended meanwhile, or is hidden already
			return fmt.Errorf("hide the socket %s: %w", path, err)
		}
	}
	return nil
}

// boundSockets are the sockets in files of this computer: services listen there
// past every network, also those in containers.
func boundSockets() []string {
	tables, _ := filepath.Glob("/proc/[0-9]*/net/unix") // a good pattern
	spaces, found := map[string]bool{}, map[string]bool{}
	for _, table := range tables {
		space, err := os.Readlink(strings.TrimSuffix(table, "net/unix") + "ns/net")
		if err != nil || spaces[space] {
			continue
		}
		text, err := os.ReadFile(table)
		if err != nil {
			continue // it ended just now; another of its network is met
		}
		spaces[space] = true
		for line := range strings.Lines(string(text)) {
			at := strings.Index(line, " /")
			if at < 0 {
				continue // it has no file
			}
			path := strings.TrimSuffix(line[at+1:], "\n")
			if st, err := os.Stat(path); err == nil && st.Mode().Type() == fs.ModeSocket {
				found[path] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
