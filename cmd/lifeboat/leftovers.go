package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"lifeboat/hypervisor"
)

// leftover is one thing on this computer, or on one of its hosts, that belongs to
// a run: a process, a namespace, a link, a mount, a socket, a folder, a machine.
type leftover struct {
	// Kind is one of those words, and Name what the system calls it.
	Kind, Name string
	// process is set for processes: it is what may be ended.
	process process
}

func (l leftover) String() string { return l.Kind + " " + oneLine(plainText(l.Name)) }

// leftovers looks for everything of a run on this computer. It goes by what bears
// the run's id, its folder or its sockets, so that what other work does at the same
// time is never taken for it. Nothing is changed.
func leftovers(run, dir string) []leftover {
	traces := traces(run, dir)
	all := processesOf(traces, run)
	for _, in := range []struct{ kind, folder string }{
		{"network namespace", "/run/netns"}, {"network link", "/sys/class/net"},
	} {
		for _, name := range namesIn(in.folder) {
			if strings.Contains(name, short(run)) {
				all = append(all, leftover{Kind: in.kind, Name: name})
			}
		}
	}
	for _, point := range mountPoints() {
		if strings.Contains(point, run) || strings.Contains(point, short(run)) {
			all = append(all, leftover{Kind: "mount", Name: point})
		}
	}
	for _, folder := range traces[1:] {
		if _, err := os.Lstat(folder); err == nil {
			all = append(all, leftover{Kind: "folder", Name: folder})
		}
	}
	return all
}

// traces are the paths that the processes of a run bear in their arguments: its
// own folder first, then those of its sockets, which are gone when it is.
func traces(run, dir string) []string {
	all := []string{dir, socketFolderPath(run)}
	if found, err := filepath.Glob("/run/lifeboat-*-" + short(run)); err == nil {
		all = append(all, found...)
	}
	slices.Sort(all[1:])
	return slices.Compact(all)
}

// processesOf finds the processes that bear a trace of a run, without a terminal:
// whoever looks at its files is none of them. Neither is this process or one that
// it was started by.
func processesOf(traces []string, run string) []leftover {
	own := ancestors()
	var all []leftover
	for _, name := range namesIn("/proc") {
		pid, err := strconv.Atoi(name)
		if err != nil || own[pid] || hasTerminal(pid) {
			continue
		}
		args, _ := os.ReadFile("/proc/" + name + "/cmdline")
		env, _ := os.ReadFile("/proc/" + name + "/environ")
		if !bears(args, traces) && !slices.Contains(strings.Split(string(env), "\x00"), "LIFEBOAT_RUN="+run) {
			continue
		}
		p, err := processOf(pid)
		if err != nil {
			continue // it has ended
		}
		program, _, _ := bytes.Cut(args, []byte{0})
		all = append(all, leftover{Kind: "process", Name: fmt.Sprintf("%d (%s)", pid, filepath.Base(string(program))), process: p})
	}
	return all
}

func bears(args []byte, traces []string) bool {
	return slices.ContainsFunc(traces, func(t string) bool { return bytes.Contains(args, []byte(t)) })
}

// ancestors are this process and those that it was started by.
func ancestors() map[int]bool {
	all := map[int]bool{}
	for pid := os.Getpid(); pid > 1 && !all[pid]; {
		all[pid] = true
		fields, err := statFields(pid)
		if err != nil {
			break
		}
		pid, _ = strconv.Atoi(fields[1])
	}
	return all
}

// hasTerminal says that a process has a controlling terminal.
func hasTerminal(pid int) bool {
	fields, err := statFields(pid)
	return err == nil && fields[4] != "0"
}

func namesIn(folder string) []string {
	entries, _ := os.ReadDir(folder)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// mountPoints are those of this process, as /proc/self/mountinfo has them.
func mountPoints() []string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var points []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			points = append(points, fields[4])
		}
	}
	return points
}

// machinesLeft are the machines that a run defined on its hosts. Hosts that do not
// answer are in the error, beside what the others have.
func (a *app) machinesLeft(ctx context.Context, run string, hosts []string) ([]hostedMachine, error) {
	s, err := a.siteOrNone()
	if err != nil {
		a.warn("%v", err)
	}
	var all []hostedMachine
	var failed []error
	for _, name := range hosts {
		file, err := findHost(a.hostFiles(s), name)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		host, err := a.openHost(file)
		if err != nil {
			failed = append(failed, fmt.Errorf("host %s: %w", name, err))
			continue
		}
		listed, err := answer(ctx, cleanHostPatience, host.List)
		if err != nil {
			failed = append(failed, fmt.Errorf("host %s: %w", name, err))
		}
		for _, l := range listed {
			if l.Recovery == run {
				all = append(all, hostedMachine{host, l})
			}
		}
	}
	return all, errors.Join(failed...)
}

// hostedMachine is a machine on its host.
type hostedMachine struct {
	host hypervisor.Host
	hypervisor.Listed
}
