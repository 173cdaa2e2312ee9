package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/vsphere"
)

// hostAddFlags are the answers that `host add` takes.
type hostAddFlags struct {
	host         hostFile
	passwordFile string
	noCheck      bool
	dryRun       bool
}

func (a *app) hostAddCommand() *cobra.Command {
	var f hostAddFlags
	c := &cobra.Command{
		Use: "add NAME --kind KIND ...", Short: "Add a host",
		Long: "Adds a host to the site, after trying it. A computer without a site may know hosts too: machines\n" +
			"are recovered there from a drive and its secret.\n\n" +
			"A qemu host is a folder with one folder for each machine (docs/reference/qemu-host.md); its\n" +
			"machines run on this computer. A libvirt host is a libvirtd with QEMU, here or elsewhere; its\n" +
			"credentials are libvirt's own (SSH keys, certificates). A vsphere host is a vCenter or one ESXi;\n" +
			"its password is asked, or read from --password-file, and kept in the secrets of the state folder.\n" +
			"A certificate that nobody vouches for is shown, and believed from then on if you say so.",
		Example: "  lifeboat host add kvm1 --kind libvirt --uri qemu+ssh://root@kvm1/system\n" +
			"  lifeboat host add vc --kind vsphere --url https://vc.example.com --user lifeboat@vsphere.local\n" +
			"  lifeboat host add lab --dir /srv/machines --scratch /var/tmp",
		Annotations: exits(exitPerson, exitStopped), Args: exactArgs("a name for the host"),
		RunE: func(c *cobra.Command, args []string) error {
			f.host.Name = args[0]
			return a.addHost(c.Context(), f)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.host.Kind, "kind", kindQEMU, "kind of host: "+strings.Join(kindNames, ", "))
	flags.StringVar(&f.host.Dir, "dir", "", "qemu: folder with one folder for each machine")
	flags.StringVar(&f.host.Scratch, "scratch", "", "qemu, libvirt: folder on the host that keeps what guests overwrite while they are exported")
	flags.StringVar(&f.host.URI, "uri", "", "libvirt: its address, for example qemu:///system or qemu+ssh://root@kvm1/system")
	flags.StringVar(&f.host.Pool, "pool", "", "libvirt: storage pool for new disks; vsphere: resource pool for new machines")
	flags.BoolVar(&f.host.NoTracking, "no-tracking", false, "libvirt: keep no checkpoints on its machines; every export reads all of their disks")
	flags.StringVar(&f.host.URL, "url", "", "vsphere: address of the vCenter or the ESXi, for example https://vc.example.com")
	flags.StringVar(&f.host.User, "user", "", "vsphere: who signs in")
	flags.StringVar(&f.host.Thumbprint, "thumbprint", "", "vsphere: SHA-256 (or SHA-1) of the certificate to believe")
	flags.StringVar(&f.passwordFile, "password-file", "", "vsphere: file that holds the password, on one line")
	flags.StringVar(&f.host.Datacenter, "datacenter", "", "vsphere: look for machines in this data centre only, and put new ones there")
	flags.StringVar(&f.host.Cluster, "cluster", "", "vsphere: cluster or host that new machines run on")
	flags.StringVar(&f.host.Datastore, "datastore", "", "vsphere: datastore for new machines")
	flags.StringVar(&f.host.Folder, "folder", "", "vsphere: folder for new machines")
	flags.IntVar(&f.host.Machines, "machines", 0, "export at most so many machines of this host at the same time; 0: as many as limits.machines")
	flags.IntVar(&f.host.Streams, "streams", 0, "vsphere: read at most so many disks of one datastore at the same time; 0: 2")
	flags.BoolVar(&f.noCheck, "no-check", false, "add it without trying the connection")
	flags.BoolVar(&f.dryRun, "dry-run", false, "try it, and say what would be added")
	c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) addHost(ctx context.Context, f hostAddFlags) error {
	s, err := a.siteOfHosts()
	if err != nil {
		return err
	}
	h := f.host
	if err := h.complete(); err != nil {
		return err
	}
	if err := a.isNew(s, h); err != nil {
		return err
	}
	password := ""
	if h.Kind == kindVSphere {
		if h.Thumbprint == "" && !f.noCheck {
			if h.Thumbprint, err = a.believed(ctx, h, "lifeboat host add "+h.addWords(f.passwordFile)); err != nil {
				return err
			}
		}
		if password, err = a.newHostPassword(ctx, h, f.passwordFile); err != nil {
			return err
		}
	} else if f.passwordFile != "" {
		return usagef("--password-file goes with --kind vsphere")
	}
	tried := ""
	// The folder of a qemu host was looked at already.
	if !f.noCheck && h.Kind != kindQEMU {
		if tried, err = a.tryHost(ctx, h, password); err != nil {
			return beforeAdding(err)
		}
	}
	if f.dryRun {
		a.note("host %s would be added%s", h.Name, tried)
		return nil
	}
	if err := a.keepHost(h, password); err != nil {
		return err
	}
	a.note("host %s added%s; what works on it: lifeboat host check %s", h.Name, tried, shellWord(h.Name))
	if a.json {
		a.printJSON(h)
	}
	return nil
}

// keepHost writes a host down. On a computer without a site, which recovers and
// exports nothing, it makes the state folder first.
func (a *app) keepHost(h hostFile, password string) error {
	if s, err := a.siteOfHosts(); err != nil {
		return err
	} else if s.Site.ID == "" {
		if err := a.makeRecoveryState(); err != nil {
			return err
		}
	}
	unlock, err := a.lockState()
	if err != nil {
		return err
	}
	defer unlock()
	// Another command may have added hosts while this one tried its own.
	s, err := a.siteOfHosts()
	if err != nil {
		return err
	}
	if err := a.isNew(s, h); err != nil {
		return err
	}
	// The password first: a host in the file without one could not be used.
	if password != "" {
		if err := a.writeHostPassword(h.Name, password); err != nil {
			return err
		}
	}
	s.Hosts = append(s.Hosts, h)
	return a.saveSite(s)
}

// makeRecoveryState makes the state folder of a computer without a site, with an
// identity that passwords of hosts are sealed to. It opens no drive.
func (a *app) makeRecoveryState() error {
	if err := a.makeStateFolders(); err != nil {
		return err
	}
	id, err := a.identity()
	if err == nil && id == nil {
		_, err = a.newIdentity()
		a.note("this computer has no site: it can recover, and export nothing (lifeboat init makes one)")
	}
	return err
}

// isNew refuses a host whose name or machines are in the site already.
func (a *app) isNew(s *siteFile, h hostFile) error {
	all := a.hostFiles(s)
	if slices.ContainsFunc(all, func(other hostFile) bool { return other.Name == h.Name }) {
		return usagef("there is a host %q already; to change it edit %s, or first: lifeboat host remove %s", h.Name, a.sitePath(), shellWord(h.Name))
	}
	if i := slices.IndexFunc(all, h.samePlace); i >= 0 {
		return usagef("host %q is the same one: its machines would be there twice", all[i].Name)
	}
	return nil
}

// complete makes paths whole, and finds what was forgotten.
func (h *hostFile) complete() error {
	switch {
	case h.Kind != kindQEMU || h.Dir != "":
	case h.URI != "":
		return usagef("--uri is the address of a libvirt host: say --kind libvirt")
	case h.URL != "":
		return usagef("--url is the address of a vCenter or an ESXi: say --kind vsphere")
	default:
		return usagef("a qemu host needs the folder of its machines: --dir DIR")
	}
	if err := h.check(); err != nil {
		return usagef("%v", err)
	}
	// Folders of a libvirt host are on that host.
	if h.Kind != kindQEMU {
		return nil
	}
	for _, path := range []*string{&h.Dir, &h.Scratch} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if _, err := os.Stat(h.Dir); err != nil {
		return usagef("--dir: %v", err)
	}
	return nil
}

// addWords are the words of a `host add` that makes a vsphere host.
func (h hostFile) addWords(passwordFile string) string {
	words := shellWord(h.Name) + " --kind " + h.Kind
	for _, f := range h.fields() {
		if f.value != "" && f.name != "thumbprint" {
			words += " --" + f.name + " " + shellWord(f.value)
		}
	}
	if passwordFile != "" {
		words += " --password-file " + shellWord(passwordFile)
	}
	return words
}

// tryPatience is how long a host may take to answer when it is added.
const tryPatience = time.Minute

// tryHost signs in at a host and asks for its machines, and says in a few words
// what came of it.
func (a *app) tryHost(ctx context.Context, h hostFile, password string) (string, error) {
	listed, err := answer(ctx, tryPatience, func(ctx context.Context) ([]hypervisor.Listed, error) {
		open, err := a.connectWith(h, password)
		if err != nil {
			return nil, err
		}
		listed, err := open.List(ctx)
		if cerr := open.Close(); cerr != nil {
			a.warn("host %s: %v", h.Name, cerr)
		}
		if err != nil && len(listed) > 0 {
			a.warn("host %s: %v", h.Name, err)
			err = nil
		}
		return listed, err
	})
	if err == nil {
		return ": " + count(len(listed), "machine"), nil
	}
	p := problemOf(onHost(h.Name, err))
	// A vsphere host speaks of commands for hosts that are in the site already.
	next := "correct what is wrong, and run the command again"
	_, doubted := vsphere.Distrusted(err)
	switch {
	case errors.Is(err, hypervisor.ErrUnsupported) || doubted:
		next = p.Next
	case h.Kind == kindVSphere:
		next += "; a few wrong passwords lock an account for some minutes"
	case p.Next != "":
		next = p.Next + "; then run the command again"
	}
	return "", &lifeboat.Problem{What: p.What, Safe: "nothing was added or changed", Next: next, Err: err}
}

// beforeAdding words what to do about a certificate for a host that is not in
// the site yet: `host trust` does not know it.
func beforeAdding(err error) error {
	var p *lifeboat.Problem
	if shown, doubted := vsphere.Distrusted(err); doubted && errors.As(err, &p) {
		p.Next = "compare the thumbprint on the server itself; if it is the same, run the command again with --thumbprint " + shown
	}
	return err
}

// connectWith opens a host that need not be in site.yaml yet.
func (a *app) connectWith(h hostFile, password string) (hypervisor.Host, error) {
	if h.Kind == kindVSphere {
		return a.connectVSphere(h, password)
	}
	return a.connect(h)
}

// believed returns the thumbprint to pin, or "" if the server's certificate is
// vouched for. A doubtful one is shown to the person, who compares it; again is
// the command that says yes without being asked.
func (a *app) believed(ctx context.Context, h hostFile, again string) (string, error) {
	shown, err := vsphere.Certificate(ctx, h.URL)
	if err != nil {
		return "", &lifeboat.Problem{
			What: fmt.Sprintf("host %s: %v", h.Name, err),
			Safe: "nothing was added or changed; no password was sent",
			Next: "check the address and the network, then run the command again",
			Err:  err,
		}
	}
	if shown.Doubt == nil {
		return "", nil
	}
	text := fmt.Sprintf("The certificate of %s cannot be verified: %v.\nIts thumbprint (SHA-256) is\n  %s\n"+
		"Compare it with what the server itself shows at its console or in its settings.\n", h.URL, shown.Doubt, shown.Thumbprint)
	if !isTerminal(a.stdin) {
		return "", &lifeboat.Problem{
			What: fmt.Sprintf("host %s: the certificate of %s cannot be verified (%v); its thumbprint is %s", h.Name, h.URL, shown.Doubt, shown.Thumbprint),
			Safe: "nothing was added or changed; no password was sent",
			Next: "compare the thumbprint on the server itself; if it is the same, run: " + again + " --thumbprint " + shown.Thumbprint,
			Err:  errNeedsPerson,
		}
	}
	return shown.Thumbprint, a.confirm(ctx, false, text)
}
