package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/qemu"
)

// localHost is the name of the host that needs no setting up: plain QEMU on
// this computer, its machines in the state folder. Recoveries land there.
const localHost = "local"

// kindQEMU is what site.yaml calls plain QEMU.
const kindQEMU = "qemu"

// openHost connects to a host. The connection is the command's: whoever asks for
// the same host again is given the same one, and closeHosts ends it.
func (a *app) openHost(h hostFile) (hypervisor.Host, error) {
	a.hostsMu.Lock()
	defer a.hostsMu.Unlock()
	if open, ok := a.hosts[h]; ok {
		return open, nil
	}
	open, err := a.connect(h)
	if err != nil {
		return nil, err
	}
	if a.hosts == nil {
		a.hosts = map[hostFile]hypervisor.Host{}
	}
	a.hosts[h] = open
	return open, nil
}

func (a *app) connect(h hostFile) (hypervisor.Host, error) {
	return qemu.Open(qemu.Options{Name: h.Name, Dir: h.Dir, ScratchDir: h.Scratch,
		Note: func(machine, text string) { a.note("%s: %s", machine, text) }})
}

// closeHosts signs out wherever this command signed in.
func (a *app) closeHosts() {
	a.hostsMu.Lock()
	defer a.hostsMu.Unlock()
	for file, open := range a.hosts {
		if err := open.Close(); err != nil {
			a.warn("host %s: the connection did not end in order: %v", file.Name, err)
		}
	}
	a.hosts = nil
}

// localHostFile describes the host that is always there.
func (a *app) localHostFile() hostFile {
	return hostFile{Name: localHost, Kind: kindQEMU, Dir: filepath.Join(a.stateDir, "machines")}
}

// hostFiles lists the site's hosts, the local one last.
func (a *app) hostFiles(s *siteFile) []hostFile {
	var all []hostFile
	if s != nil {
		all = slices.Clone(s.Hosts)
	}
	if !slices.ContainsFunc(all, func(h hostFile) bool { return h.Name == localHost }) {
		all = append(all, a.localHostFile())
	}
	return all
}

// siteOrNone loads the site; on a computer that has none, which is what a
// rented host is, it returns nil without an error.
func (a *app) siteOrNone() (*siteFile, error) {
	s, err := a.loadSite()
	if errors.Is(err, errNoSite) {
		return nil, nil
	}
	return s, err
}

// machineOn is a machine and the host that it lives on.
type machineOn struct {
	hypervisor.Listed
	host hypervisor.Host
}

// machines lists the machines of all hosts. Hosts that do not answer are
// reported beside the machines of those that do.
func (a *app) machines(ctx context.Context, s *siteFile) ([]machineOn, error) {
	var all []machineOn
	var failed []error
	for _, hf := range a.hostFiles(s) {
		h, err := a.openHost(hf)
		if err == nil {
			var listed []hypervisor.Listed
			listed, err = h.List(ctx)
			for _, l := range listed {
				a.markExcluded(s, &l.Machine)
				all = append(all, machineOn{l, h})
			}
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("host %s: %w", hf.Name, err))
		}
	}
	return all, errors.Join(failed...)
}

// markExcluded writes into a machine's description which disks the site leaves
// out, so that every listing and every point says it.
func (a *app) markExcluded(s *siteFile, m *lifeboat.Machine) {
	if s == nil {
		return
	}
	for i := range m.Disks {
		if why := s.excluded(m.Name, m.Disks[i].Key); why != "" {
			m.Disks[i].Excluded = why
		}
	}
}

// findMachines picks machines by name, by "host/name" or by the beginning of
// their id.
func findMachines(all []machineOn, names []string) ([]machineOn, error) {
	var picked []machineOn
	for _, name := range names {
		var found []machineOn
		for _, m := range all {
			if m.is(name) {
				found = append(found, m)
			}
		}
		switch len(found) {
		case 0:
			return nil, &lifeboat.Problem{
				What: fmt.Sprintf("no host has a machine %q", name),
				Safe: "nothing was done",
				Next: "see what there is: lifeboat machine list",
				Err:  hypervisor.ErrNoMachine,
			}
		case 1:
			picked = append(picked, found[0])
		default:
			return nil, usagef("%d machines are called %q: say which as HOST/NAME", len(found), name)
		}
	}
	return picked, nil
}

func (m machineOn) is(name string) bool {
	return m.Machine.Name == name || m.host.Name()+"/"+m.Machine.Name == name ||
		(len(name) >= 6 && strings.HasPrefix(m.Machine.ID, name))
}

// completeMachines offers the names of the machines that the hosts have.
func (a *app) completeMachines(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, err := a.siteOrNone()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	all, _ := a.machines(c.Context(), s)
	var names []string
	for _, m := range all {
		names = append(names, m.Machine.Name+"\t"+string(m.Power)+" on "+m.host.Name())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
