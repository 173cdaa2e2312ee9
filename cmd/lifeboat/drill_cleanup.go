package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/runbook"
)

// planFile keeps the plan of a run of a runbook in its folder.
const planFile = "plan.json"

// cleanedFile says, in the folder of a drill's run, that everything that it made
// was taken away, or what was left.
const cleanedFile = "cleaned.json"

// cleanedDrill is that file.
type cleanedDrill struct {
	At   time.Time `json:"at"`
	Left []string  `json:"left,omitempty"`
}

// cleanPatience is how long processes may take to end before they are killed.
const cleanPatience = 10 * time.Second

// cleanHostPatience is how long a host may take to say what it has, or to take a
// machine away. It only bounds a host that never answers.
const cleanHostPatience = 2 * time.Minute

// cleanDrill takes everything away that a drill made: machines with what they
// wrote, the server of its disks, its network, processes, sockets. It is done
// again as often as needed, also for a drill whose program died. left is what is
// still there afterwards; the drive was only ever read.
func (a *app) cleanDrill(ctx context.Context, id string) (left []string, err error) {
	dir := filepath.Join(a.runsDir(), id)
	hosts, err := hostsOfRun(dir)
	if err != nil {
		return nil, err
	}
	machines, err := a.machinesLeft(ctx, id, hosts)
	failed := []error{err}
	for _, m := range machines {
		_, err := answer(ctx, cleanHostPatience, func(ctx context.Context) (bool, error) { return true, m.takeAway(ctx) })
		failed = append(failed, err)
	}
	failed = append(failed, a.stopServers(dir), a.closeLab(dir), endProcesses(ctx, id, dir))
	for _, folder := range traces(id, dir)[1:] {
		failed = append(failed, os.RemoveAll(folder))
	}
	left = a.leftOf(ctx, id, dir, hosts)
	if err := errors.Join(failed...); err != nil && len(left) == 0 {
		// A host that does not answer may still have something.
		left = append(left, oneLine(plainText(err.Error())))
	}
	return left, saveJSON(filepath.Join(dir, cleanedFile), cleanedDrill{a.now().UTC(), left})
}

// leftOf says in words what of a run is there.
func (a *app) leftOf(ctx context.Context, id, dir string, hosts []string) []string {
	var left []string
	machines, err := a.machinesLeft(ctx, id, hosts)
	for _, m := range machines {
		left = append(left, leftover{Kind: "machine", Name: m.Machine.Name + " on host " + m.host.Name()}.String())
	}
	for _, l := range leftovers(id, dir) {
		left = append(left, l.String())
	}
	if err != nil {
		left = append(left, oneLine(plainText(err.Error())))
	}
	return left
}

// takeAway ends a machine of a drill and removes what it wrote. Nobody wants it.
func (m hostedMachine) takeAway(ctx context.Context) error {
	name := m.HostID
	if name == "" {
		name = m.Machine.Name
	}
	err := m.host.PowerOff(ctx, name, 0)
	if err == nil {
		err = m.host.Remove(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("%s on host %s: %w", m.Machine.Name, m.host.Name(), err)
	}
	return nil
}

// stopServers ends the servers of the disks of a run, one for each of its hosts.
func (a *app) stopServers(dir string) error {
	var failed []error
	for _, folder := range bootFolders(dir) {
		b, err := readBooted(folder)
		if err == nil {
			err = a.stopServing(b, folder)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// bootFolders are the folders of a run that hold a boot.json: its own, and one for
// each further host.
func bootFolders(dir string) []string {
	var folders []string
	for _, pattern := range []string{"boot.json", "*/boot.json"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are good ones
		for _, f := range found {
			folders = append(folders, filepath.Dir(f))
		}
	}
	return folders
}

// endProcesses ends what still runs of a run: politely first.
func endProcesses(ctx context.Context, id, dir string) error {
	for began := time.Now(); ; {
		running := processesOf(traces(id, dir), id)
		if len(running) == 0 {
			return nil
		}
		signal := syscall.SIGTERM
		switch waited := time.Since(began); {
		case waited > 2*cleanPatience:
			return fmt.Errorf("%s does not end", running[0])
		case waited > cleanPatience:
			signal = syscall.SIGKILL
		}
		for _, l := range running {
			if err := l.process.signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end %s: %w", l, err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// hostsOfRun are the hosts that the plan of a run names, and those that it may
// have turned to when one died.
func hostsOfRun(dir string) ([]string, error) {
	var plan runbook.Plan
	err := loadJSON(filepath.Join(dir, planFile), &plan)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it ended before it had one, and made nothing
	}
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var hosts []string
	add := func(name string) {
		if name != "" && !seen[name] {
			seen[name], hosts = true, append(hosts, name)
		}
	}
	for _, m := range plan.Machines {
		add(m.Host)
		for _, h := range m.MayRunOn {
			add(h)
		}
	}
	return hosts, nil
}

// needsCleaning says that a run is a drill that was not cleaned, or not wholly.
func needsCleaning(dir string, f runFile) bool {
	if f.Kind != string(runbook.Drill) {
		return false
	}
	var c cleanedDrill
	err := loadJSON(filepath.Join(dir, cleanedFile), &c)
	return err != nil || len(c.Left) > 0
}
