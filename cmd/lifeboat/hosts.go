package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/libvirt"
	"lifeboat/hypervisor/qemu"
	"lifeboat/hypervisor/vsphere"
)

// localHost is the name of the host that needs no setting up: plain QEMU on
// this computer, its machines in the state folder. Recoveries land there.
const localHost = "local"

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

// openRunHost connects to the first host of a boot run.
func (a *app) openRunHost(b *bootedRun) (hypervisor.Host, error) { return a.openHostOf(b, b.Host) }

// openHostOf connects to a host of a boot run: as site.yaml has it now, with its
// new certificate or address. What the run kept of it counts where the site has
// no such host any more.
func (a *app) openHostOf(b *bootedRun, then hostFile) (hypervisor.Host, error) {
	s, err := a.siteOrNone()
	if err != nil {
		a.warn("%v; host %s is taken as it was when run %s booted", err, then.Name, short(b.Run))
	}
	file := then
	if now, err := findHost(a.hostFiles(s), then.Name); err == nil && now.Kind == then.Kind {
		file = now
	}
	return a.openHost(file)
}

func (a *app) connect(h hostFile) (hypervisor.Host, error) {
	note := a.noteOf(h)
	notes := hostNotes{a, h.Name}
	switch h.Kind {
	case kindLibvirt:
		return asHost(libvirt.Open(libvirt.Options{Name: h.Name, URI: h.URI, Pool: h.Pool, ScratchDir: h.Scratch, NoTracking: h.NoTracking,
			Notes: notes, Note: note, KVM: qemu.ProbeKVM}))
	case kindVSphere:
		password, err := a.hostPassword(h.Name)
		if err != nil {
			return nil, err
		}
		return a.connectVSphere(h, password)
	default:
		return asHost(qemu.Open(qemu.Options{Name: h.Name, Dir: h.Dir, ScratchDir: h.Scratch, Note: note}))
	}
}

func (a *app) connectVSphere(h hostFile, password string) (hypervisor.Host, error) {
	return asHost(vsphere.Open(vsphere.Options{Name: h.Name, URL: h.URL, User: h.User, Password: password, Thumbprint: h.Thumbprint,
		Datacenter: h.Datacenter, Cluster: h.Cluster, Pool: h.Pool, Datastore: h.Datastore, Folder: h.Folder,
		StreamsPerDatastore: h.Streams, Notes: hostNotes{a, h.Name}, Note: a.noteOf(h)}))
}

// noteOf tells what a host has to say of a machine, or with an empty name of
// itself.
func (a *app) noteOf(h hostFile) func(machine, text string) {
	return func(machine, text string) {
		if machine == "" {
			machine = "host " + h.Name
		}
		a.note("%s: %s", machine, text)
	}
}

// asHost keeps a host that could not be opened from being a host all the same.
func asHost[H hypervisor.Host](h H, err error) (hypervisor.Host, error) {
	if err != nil {
		return nil, err
	}
	return h, nil
}

// closePatience bounds signing out at a host that does not answer any more.
const closePatience = 15 * time.Second

// closeHosts signs out wherever this command signed in.
func (a *app) closeHosts() {
	a.hostsMu.Lock()
	defer a.hostsMu.Unlock()
	closed := make(chan error, len(a.hosts))
	for file, open := range a.hosts {
		go func() {
			err := open.Close()
			if err != nil {
				err = fmt.Errorf("host %s: the connection did not end in order: %w", file.Name, err)
			}
			closed <- err
		}()
	}
	late := time.After(closePatience)
	for range a.hosts {
		select {
		case err := <-closed:
			if err != nil {
				a.warn("%v", err)
			}
		case <-late:
			a.warn("a host does not answer any more: the connection to it ends with this program")
			a.hosts = nil
			return
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
// rented host is, it returns nil, or a file with hosts alone, without an error.
func (a *app) siteOrNone() (*siteFile, error) {
	s, err := a.readSite()
	if errors.Is(err, errNoSite) {
		return nil, nil
	}
	return s, err
}

// siteOfHosts is the file that hosts are added to and taken out of. A computer
// without a site may have one: it needs to know where to recover.
func (a *app) siteOfHosts() (*siteFile, error) {
	s, err := a.readSite()
	if errors.Is(err, errNoSite) && !a.hasSiteSecrets() {
		return &siteFile{Version: siteVersion}, nil
	}
	return s, err
}

// machineOn is a machine and the host that it lives on.
type machineOn struct {
	hypervisor.Listed
	host hypervisor.Host
}

// listPatience is how long a host may take to list its machines.
const listPatience = 2 * time.Minute

// errSlow: a host did not answer in the time that it is given.
var errSlow = errors.New("it did not answer in time")

// answer asks a host something, and does not wait for longer than patience: the
// other hosts are there too. What answers later is left alone.
func answer[T any](ctx context.Context, patience time.Duration, ask func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w (%s)", errSlow, humanDuration(patience)))
	type answered struct {
		value T
		err   error
	}
	got := make(chan answered, 1)
	go func() {
		defer cancel()
		value, err := ask(ctx)
		got <- answered{value, err}
	}()
	select {
	case r := <-got:
		return r.value, r.err
	case <-ctx.Done():
	}
	// It may have answered at that very moment, and knows best what it was doing.
	select {
	case r := <-got:
		return r.value, r.err
	case <-time.After(time.Second):
		var none T
		return none, context.Cause(ctx)
	}
}

// machines lists the machines of all hosts, which are asked at the same time.
// Hosts that do not answer are reported beside the machines of those that do.
func (a *app) machines(ctx context.Context, s *siteFile) ([]machineOn, error) {
	return a.listHosts(ctx, a.hostFiles(s), s, func(hostFile) time.Duration { return listPatience })
}

// machinesNamed lists the machines of the hosts that the words speak of: if each
// is HOST/NAME, no other host is asked.
func (a *app) machinesNamed(ctx context.Context, s *siteFile, words []string) ([]machineOn, error) {
	files, named := a.hostFiles(s), a.namedHosts(s, words)
	if named != nil {
		files = slices.DeleteFunc(files, func(h hostFile) bool { return !named[h.Name] })
	}
	return a.listHosts(ctx, files, s, func(hostFile) time.Duration { return listPatience })
}

// otherPatience is how long a host that no word speaks of is waited for.
const otherPatience = 10 * time.Second

// machinesBeside lists the machines of all hosts, because a machine may be a copy
// of another host's; but if each word is HOST/NAME, the other hosts are not waited
// for as long as those.
func (a *app) machinesBeside(ctx context.Context, s *siteFile, words []string) ([]machineOn, error) {
	named := a.namedHosts(s, words)
	return a.listHosts(ctx, a.hostFiles(s), s, func(h hostFile) time.Duration {
		if named != nil && !named[h.Name] {
			return otherPatience
		}
		return listPatience
	})
}

// namedHosts are the hosts of words that all say HOST/NAME, or nil where one does
// not. A machine whose own name begins with a host's and a slash is to be given by
// its id.
func (a *app) namedHosts(s *siteFile, words []string) map[string]bool {
	named := map[string]bool{}
	for _, word := range words {
		host, _, ok := strings.Cut(word, "/")
		if !ok || !slices.ContainsFunc(a.hostFiles(s), func(h hostFile) bool { return h.Name == host }) {
			return nil
		}
		named[host] = true
	}
	if len(named) == 0 {
		return nil
	}
	return named
}

// listHosts lists the machines of some hosts, each of which has its time to answer.
func (a *app) listHosts(ctx context.Context, files []hostFile, s *siteFile, patience func(hostFile) time.Duration) ([]machineOn, error) {
	listed := make([][]machineOn, len(files))
	failed := make([]error, len(files))
	var work sync.WaitGroup
	for i, hf := range files {
		work.Go(func() {
			listed[i], failed[i] = answer(ctx, patience(hf), func(ctx context.Context) ([]machineOn, error) { return a.machinesOn(ctx, s, hf) })
			if failed[i] != nil {
				failed[i] = silentHost{hf.Name, onHost(hf.Name, failed[i])}
			}
		})
	}
	work.Wait()
	return slices.Concat(listed...), errors.Join(failed...)
}

// machinesOn lists the machines of one host.
func (a *app) machinesOn(ctx context.Context, s *siteFile, hf hostFile) ([]machineOn, error) {
	h, err := a.openHost(hf)
	if err != nil {
		return nil, err
	}
	all, err := h.List(ctx)
	var machines []machineOn
	for _, l := range all {
		l.Machine.ID = a.linkedID(ctx, hf.Name, l.HostID, l.Machine.ID)
		a.markExcluded(s, &l.Machine)
		machines = append(machines, machineOn{l, h})
	}
	return machines, err
}

// silentHost is the error of a host that did not tell all that it has.
type silentHost struct {
	name string
	error
}

func (e silentHost) Unwrap() error { return e.error }

// silentHosts names the hosts that an error of listing is of.
func silentHosts(err error) map[string]bool {
	all := map[string]bool{}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return all
	}
	for _, e := range joined.Unwrap() {
		if h, ok := e.(silentHost); ok {
			all[h.name] = true
		}
	}
	return all
}

// onHost says which host an error is of. A problem says it already.
func onHost(name string, err error) error {
	var p *lifeboat.Problem
	if err == nil || errors.As(err, &p) {
		return err
	}
	return fmt.Errorf("host %s: %w", name, err)
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

// findMachines picks machines by name, by "host/name", by the beginning of their
// id or by the id that their host knows them by.
func findMachines(all []machineOn, names []string) ([]machineOn, error) {
	var picked []machineOn
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, usagef("%q is named twice", name)
		}
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
			if slices.ContainsFunc(picked, func(m machineOn) bool { return m.host == found[0].host && m.HostID == found[0].HostID }) {
				return nil, usagef("%q is named twice", name)
			}
			picked = append(picked, found[0])
		default:
			return nil, usagef("%d machines are called %q: say which as HOST/NAME, or by its hostId or the beginning of its id (machine list --json)", len(found), name)
		}
	}
	return picked, nil
}

// is says whether a word means the machine: its name, the beginning of its id, or
// the id that its host knows it by, with or without "HOST/" before it.
func (m machineOn) is(name string) bool {
	word := strings.TrimPrefix(name, m.host.Name()+"/")
	return m.Machine.Name == name || m.Machine.Name == word ||
		m.HostID != "" && strings.EqualFold(m.HostID, word) ||
		(len(word) >= 6 && strings.HasPrefix(m.Machine.ID, word))
}
