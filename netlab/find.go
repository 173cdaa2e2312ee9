package netlab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// isCable says that a link is a cable of a lab.
func isCable(c Config, name string) bool {
	number, ok := strings.CutPrefix(name, c.tag()+"-")
	_, err := strconv.Atoi(number)
	return ok && err == nil
}

// find looks for the namespace of a lab that lost the process that made it: the
// cables of its guests lead there. It returns a closed handle if no process of this
// computer holds such a cable.
func find(c Config) (netns.NsHandle, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return netns.None(), err
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			continue
		}
		number, ok := cableOf(c, p)
		if !ok {
			continue
		}
		ns, err := namespaceOf(pid, number)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EBADF) {
			continue // it ended just now
		}
		return ns, err
	}
	return netns.None(), nil
}

// cableOf finds the descriptor of a process that is a cable of the lab.
func cableOf(c Config, process string) (number int, ok bool) {
	// A process that ended, or is not ours to look at, has none.
	list, err := os.ReadDir(process + "/fd")
	if err != nil {
		return 0, false
	}
	for _, f := range list {
		if to, err := os.Readlink(process + "/fd/" + f.Name()); err != nil || !strings.HasPrefix(to, "/dev/net/tun") {
			continue
		}
		name, err := interfaceOf(process + "/fdinfo/" + f.Name())
		if err != nil || !isCable(c, name) {
			continue
		}
		number, err = strconv.Atoi(f.Name())
		return number, err == nil
	}
	return 0, false
}

// interfaceOf reads which interface an open /dev/net/tun is; "" if none yet.
func interfaceOf(info string) (string, error) {
	f, err := os.Open(info)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "iff:"); ok {
			return strings.TrimSpace(name), nil
		}
	}
	return "", fs.ErrNotExist
}

// namespaceOf returns the namespace that another process's cable leads to.
func namespaceOf(pid, number int) (netns.NsHandle, error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return netns.None(), err
	}
	defer unix.Close(process)
	cable, err := unix.PidfdGetfd(process, number, 0)
	if err != nil {
		return netns.None(), fmt.Errorf("borrow the cable of process %d: %w", pid, err)
	}
	defer unix.Close(cable)
	ns, err := unix.IoctlRetInt(cable, unix.TUNGETDEVNETNS)
	if err != nil {
		return netns.None(), fmt.Errorf("enter the namespace of a cable: %w", err)
	}
	unix.CloseOnExec(ns)
	return netns.NsHandle(ns), nil
}
