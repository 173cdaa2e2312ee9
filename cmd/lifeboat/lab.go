package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/netlab"
	"lifeboat/runbook"
)

// labFolder is where a run keeps its lab: lab.json (what it is to be), serving.json
// (what its process does), the control socket, and the files of the VPN.
const labFolder = "lab"

// labFile is lab.json. It holds no secret.
type labFile struct {
	Config netlab.Config `json:"config"`
	// Owner is the command that uses the lab. When it is gone and no machine is
	// plugged in, the lab ends by itself.
	Owner process `json:"owner"`
	// Ended says that the lab is not needed any more.
	Ended bool `json:"ended,omitempty"`
	// Stays says that the lab goes on without its command and without a machine: a
	// machine of a recovery that is shut down for an hour finds its network again.
	Stays bool `json:"stays,omitempty"`
}

// labServing is serving.json, which the lab's process writes.
type labServing struct {
	Process process `json:"process"`
	Guard   process `json:"guard"`
	Ready   bool    `json:"ready"`
	// Why it does not serve.
	Why string `json:"why,omitempty"`
}

func labDir(run string) string { return filepath.Join(run, labFolder) }

func readLab(dir string) (labFile, error) {
	var f labFile
	return f, loadJSON(filepath.Join(dir, "lab.json"), &f)
}

func readLabServing(dir string) (labServing, error) {
	var s labServing
	return s, loadJSON(filepath.Join(dir, "serving.json"), &s)
}

// labClient is the lab of a run, seen from a command.
type labClient struct {
	a      *app
	dir    string
	client netlab.Client
	config netlab.Config
	// starting keeps two steps from starting the lab again at the same time.
	starting sync.Mutex
}

// openLab opens the lab of a run for the networks of a plan that are isolated or
// behind NAT, or goes on with the one that is there. Dir is the run's folder. A
// process of its own serves it from then on. It returns nil if no network of the plan
// needs a lab. The lab goes on when this command ends; [app.closeLab] ends it.
func (a *app) openLab(ctx context.Context, dir string, plan *runbook.Plan) (*labClient, error) {
	config, err := labConfig(filepath.Base(dir), plan)
	if err != nil || len(config.Networks) == 0 {
		return nil, err
	}
	if err := config.Check(); err != nil {
		return nil, &lifeboat.Problem{
			What: "the networks of the plan cannot be: " + err.Error(),
			Safe: "no machine was started",
			Next: "correct them in the runbook: lifeboat runbook check " + shellWord(plan.Book),
			Err:  err,
		}
	}
	folder := labDir(dir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	self, err := thisProcess()
	if err != nil {
		return nil, err
	}
	before, err := readLab(folder)
	goesOn := err == nil && !before.Ended
	if err := saveJSON(filepath.Join(folder, "lab.json"), labFile{Config: config, Owner: self, Stays: plan.Mode == runbook.Recover}); err != nil {
		return nil, err
	}
	l := &labClient{a: a, dir: folder, client: netlab.Client{Dir: folder}, config: config}
	if err := a.startLab(ctx, folder); err != nil {
		err = cannotOpenLab(folder, err, goesOn)
		if !goesOn { // machines may use one that was there before
			err = errors.Join(err, a.endLabOf(dir))
		}
		return nil, err
	}
	return l, nil
}

// cannotOpenLab is the problem of a lab that does not come about.
func cannotOpenLab(folder string, err error, goesOn bool) error {
	p := &lifeboat.Problem{
		What: "the isolated network of the run cannot be opened: " + err.Error(),
		Safe: "no machine was started, and nothing of this computer's networks was changed",
		Next: "run it as root on a Linux host; what its process said is in " + filepath.Join(folder, "lab.log"),
		Err:  err,
	}
	if goesOn {
		p.Safe = "what runs goes on running; the network of the run was left as it is"
		p.Next = "run the command again; what the process of the network said is in " + filepath.Join(folder, "lab.log")
	}
	return p
}

// labPatience is how long a lab may take to begin to serve. It only bounds one that
// never will.
const labPatience = 2 * time.Minute

// startLab starts guard and lab, those that do not live, and waits until it answers.
func (a *app) startLab(ctx context.Context, dir string) error {
	s, err := readLabServing(dir)
	if err == nil && s.Process.alive() {
		_, err := netlab.Client{Dir: dir}.Status(ctx)
		return err
	}
	os.Remove(filepath.Join(dir, "serving.json"))
	guard := s.Guard
	if err != nil || !guard.alive() {
		if guard, err = a.startService("lab-guard", dir, secretKeys{}, process{}); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(labPatience); ; {
		if s, err := readLabServing(dir); err == nil && s.Process.alive() {
			switch {
			case s.Ready:
				return nil
			case s.Why != "":
				return errors.New(s.Why)
			}
		}
		if !guard.alive() {
			return errors.New("its guard ended at once")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it did not begin to serve within %s", humanDuration(labPatience))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(servingPoll):
		}
	}
}

// closeLab ends the lab of a run for good, if it has one: the keys of its VPN go too,
// and with them the files that the staff have.
func (a *app) closeLab(run string) error {
	if err := a.endLabOf(run); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(labDir(run), netlab.VPNFolder))
}

// endLabOf ends the lab of a run, if it has one, and returns when nothing of it is
// left but its files. Machines that are still plugged in lose their network.
func (a *app) endLabOf(run string) error {
	dir := labDir(run)
	f, err := readLab(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f.Ended = true
	if err := saveJSON(filepath.Join(dir, "lab.json"), f); err != nil {
		return err
	}
	for deadline := time.Now().Add(stopPatience); ; time.Sleep(servingPoll) {
		// The guard may have started another one meanwhile.
		if s, err := readLabServing(dir); err == nil {
			s.Guard.signal(syscall.SIGTERM)
			s.Process.signal(syscall.SIGTERM)
		}
		alone, err := lockPresence(dir, unix.LOCK_EX)
		if err == nil {
			alone.Close()
			return forgetLab(dir)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the lab of run %s does not end; see %s", short(filepath.Base(run)), dir)
		}
	}
}

// forgetLab removes what only a living lab needs. The keys of its VPN stay: a lab that
// is opened again is the one that the staff's files lead to.
func forgetLab(dir string) error {
	for _, name := range []string{netlab.ControlFile, "serving.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// cable is where a card of a machine on a network of the plan goes. It is false for a
// network that is not of the lab.
func (l *labClient) cable(network string) (hypervisor.Network, bool) {
	for _, n := range l.config.Networks {
		if n.Name == network {
			return hypervisor.Network{Kind: hypervisor.NetworkLab, Name: network, Lab: l.dir}, true
		}
	}
	return hypervisor.Network{}, false
}

// again runs f, and once more when the lab's process was gone: its guard starts it
// again, and this command does if the guard is gone as well.
func (l *labClient) again(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, netlab.ErrNoLab) {
			return err
		}
		if f, rerr := readLab(l.dir); rerr != nil || f.Ended {
			return err
		}
		if err := l.revive(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(guardEvery):
		}
	}
}

// revive starts the lab whose process and guard are both gone.
func (l *labClient) revive(ctx context.Context) error {
	l.starting.Lock()
	defer l.starting.Unlock()
	s, err := readLabServing(l.dir)
	if err != nil || s.Process.alive() || s.Guard.alive() {
		return nil
	}
	if err := l.a.startLab(ctx, l.dir); err != nil {
		return fmt.Errorf("the network of the run ended and cannot be opened again: %w", err)
	}
	return nil
}

// Namespace is the lab's network namespace, for a program that is to run inside. The
// caller closes it.
func (l *labClient) Namespace(ctx context.Context) (ns *os.File, err error) {
	err = l.again(ctx, func() error {
		ns, err = l.client.Namespace(ctx)
		return err
	})
	return ns, err
}

// staffFiles are the files for the WireGuard programs of the staff.
func (l *labClient) staffFiles() []string {
	files, _ := filepath.Glob(filepath.Join(l.dir, netlab.VPNFolder, "staff-*.conf")) // a good pattern
	return files
}

// Dial connects from inside the lab to a machine: "tcp" or "udp", with its address in
// production. It fits http.Transport.DialContext.
func (l *labClient) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = l.again(ctx, func() error {
		conn, err = l.client.Dial(ctx, network, address)
		return err
	})
	return conn, err
}

// Ping sends echoes to a machine until one comes back, and returns how long it took.
func (l *labClient) Ping(ctx context.Context, address string) (took time.Duration, err error) {
	err = l.again(ctx, func() error {
		took, err = l.client.Ping(ctx, address)
		return err
	})
	return took, err
}

// Resolve asks the DNS server of a machine, ADDRESS or ADDRESS:PORT, for the IPv4
// addresses of a name. An empty server is the lab's own. A name that is not there is
// [netlab.ErrNoName].
func (l *labClient) Resolve(ctx context.Context, server, name string) (found []netip.Addr, err error) {
	err = l.again(ctx, func() error {
		found, err = l.client.Lookup(ctx, server, name)
		return err
	})
	return found, err
}

// Status is what the lab saw so far.
func (l *labClient) Status(ctx context.Context) (s netlab.Status, err error) {
	err = l.again(ctx, func() error {
		s, err = l.client.Status(ctx)
		return err
	})
	return s, err
}

// probeBridge asks on a bridge of this host whether anybody has an address or a MAC
// already. Nil means that nobody answered. It needs no lab.
func probeBridge(ctx context.Context, bridge, address, mac string) (*netlab.Occupant, error) {
	var ip netip.Addr
	var hardware net.HardwareAddr
	var err error
	if address != "" {
		if ip, err = bareAddress(address); err != nil {
			return nil, err
		}
	}
	if mac != "" {
		if hardware, err = net.ParseMAC(mac); err != nil {
			return nil, err
		}
	}
	return netlab.Probe(ctx, bridge, ip, hardware)
}
