package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
	"gopkg.in/yaml.v3"

	"lifeboat"
	"lifeboat/internal/durable"
)

// siteVersion is the version of site.yaml that this program writes.
const siteVersion = 1

// siteFile is site.yaml: what people decide about their site. It is written by
// people and by `host add`, and never holds a secret.
type siteFile struct {
	Version int `yaml:"version"`
	// Site is empty on a computer without a site, which knows hosts to recover on.
	Site  siteNames  `yaml:"site,omitempty"`
	Hosts []hostFile `yaml:"hosts,omitempty"`
	// Drives are folders that are drives although nothing is mounted there:
	// network shares, trials.
	Drives []string `yaml:"drives,omitempty"`
	// Exclude names disks and machines that are not exported.
	Exclude []excludeFile `yaml:"exclude,omitempty"`
	Limits  limitsFile    `yaml:"limits,omitempty"`
	// Rotation is the section that [readRotation] reads, for the commands that go
	// by it: a slip in it keeps nobody from a recovery. It is kept as it was
	// written, with its comments, when the file is written again.
	Rotation yaml.Node `yaml:"rotation,omitempty"`
}

type siteNames struct {
	ID   string `yaml:"id"`
	Name string `yaml:"name"`
	// Contact is the phone number on every drive.
	Contact string `yaml:"contact,omitempty"`
	// NameOnDrives puts the site's name on every drive, for a finder to read.
	NameOnDrives bool `yaml:"nameOnDrives,omitempty"`
	// Trial says that the site is a trial, whose clock may be set. Its id says so
	// as well.
	Trial bool `yaml:"trial,omitempty"`
}

type excludeFile struct {
	Machine string `yaml:"machine"`
	// Disks are keys of disks. Without any the whole machine is left out.
	Disks  []string `yaml:"disks,omitempty"`
	Reason string   `yaml:"reason"`
}

type limitsFile struct {
	// Machines is how many machines are exported at the same time, Disks how many
	// disks of each. Zero means 2.
	Machines int `yaml:"machines,omitempty"`
	Disks    int `yaml:"disks,omitempty"`
	// CheckEvery says with every how many exports of a disk a sample of what its
	// host calls unchanged is read and compared. Zero means 10.
	CheckEvery int `yaml:"checkEvery,omitempty"`
}

const siteHeader = "# Lifeboat's site file: hosts, disks to leave out, limits. People write it; `lifeboat host add` adds to it.\n" +
	"# It holds no secret. docs/reference/site.md explains every field.\n"

func (a *app) sitePath() string { return filepath.Join(a.stateDir, "site.yaml") }

// errNoSite: this state folder has not been initialised.
var errNoSite = errors.New("this machine has no site")

// loadSite reads site.yaml of a control machine.
func (a *app) loadSite() (*siteFile, error) {
	s, err := a.readSite()
	if err == nil && s.Site.ID == "" {
		return nil, a.noSite()
	}
	return s, err
}

// readSite reads site.yaml, of a computer without a site as well, strictly: an
// unknown field is a mistake that is named with its line.
func (a *app) readSite() (*siteFile, error) {
	data, err := os.ReadFile(a.sitePath())
	if errors.Is(err, fs.ErrNotExist) && a.hasSiteSecrets() {
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("%s is not there, but the secrets of a site are, in %s", a.sitePath(), a.secretsDir()),
			Safe: "nothing was done; the drives of the site open as before",
			Next: "put the file back from a copy, take it from a drive: lifeboat init --from-drive PATH; or write it anew with the same secrets: lifeboat init --site NAME",
			Err:  errNoSite,
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, a.noSite()
	}
	if err != nil {
		return nil, fmt.Errorf("read the site file: %w", err)
	}
	s, err := parseSite(data)
	if err == nil && s.Site.ID == "" && (s.Site != siteNames{} || a.hasSiteSecrets()) {
		err = errors.New("site.id is missing")
	}
	if err != nil {
		return nil, badSite(a.sitePath(), err.Error())
	}
	return s, nil
}

// parseSite reads the text of a site.yaml, strictly.
func parseSite(text []byte) (*siteFile, error) {
	var s siteFile
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if s.Version != siteVersion {
		return nil, fmt.Errorf("version %d is not one that this program knows (%d)", s.Version, siteVersion)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return &s, nil
}

func (a *app) noSite() error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("no site in %s", a.stateDir),
		Safe: "nothing was done",
		Next: "run: lifeboat init --site NAME   (or give --state DIR)",
		Err:  errNoSite,
	}
}

func badSite(path, why string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: %s", path, why),
		Safe: "nothing was done; drives and restore points are untouched",
		Next: "correct that line in the file",
	}
}

func (s *siteFile) check() error {
	if s.Site.ID != "" && s.Site.Trial != lifeboat.IsTrial(s.Site.ID) {
		return errors.New("site.trial and site.id contradict each other: a trial is made by init --trial, and a real site never becomes one")
	}
	seen := map[string]bool{}
	for i, h := range s.Hosts {
		if err := h.check(); err != nil {
			return fmt.Errorf("hosts[%d]: %w", i, err)
		}
		if seen[h.Name] {
			return fmt.Errorf("hosts[%d]: the name %q stands twice", i, h.Name)
		}
		seen[h.Name] = true
	}
	for i, e := range s.Exclude {
		if e.Machine == "" {
			return fmt.Errorf("exclude[%d]: machine is missing", i)
		}
	}
	if s.Limits.Machines < 0 || s.Limits.Disks < 0 || s.Limits.CheckEvery < 0 {
		return errors.New("limits: machines, disks and checkEvery must not be negative")
	}
	return nil
}

// lockState waits until no other command changes site.yaml or the passwords of
// hosts, each of which is read, changed and written as a whole. The lock is on the
// state folder itself, and goes with the process.
func (a *app) lockState() (unlock func(), err error) {
	dir, err := os.Open(a.stateDir)
	if err != nil {
		return nil, fmt.Errorf("lock the state folder: %w", err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock the state folder: %w", err)
	}
	return func() { dir.Close() }, nil
}

// changeSite changes site.yaml as it is now, which may not be as this command
// read it before.
func (a *app) changeSite(change func(s *siteFile) error) error {
	unlock, err := a.lockState()
	if err != nil {
		return err
	}
	defer unlock()
	s, err := a.siteOfHosts()
	if err != nil {
		return err
	}
	if err := change(s); err != nil {
		return err
	}
	return a.saveSite(s)
}

// saveSite writes site.yaml whole or not at all.
func (a *app) saveSite(s *siteFile) error {
	var buf bytes.Buffer
	buf.WriteString(siteHeader)
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(s); err != nil {
		return err
	}
	return writeFile(a.sitePath(), buf.Bytes(), 0o644)
}

// excluded gives the reason why a disk is not exported, or "".
func (s *siteFile) excluded(machine, disk string) string {
	for _, e := range s.Exclude {
		if e.Machine == machine && slices.Contains(e.Disks, disk) {
			if e.Reason == "" {
				return "left out in site.yaml"
			}
			return e.Reason
		}
	}
	return ""
}

// machinesPerHost are the hosts' own limits, by name.
func (s *siteFile) machinesPerHost() map[string]int {
	limits := map[string]int{}
	for _, h := range s.Hosts {
		limits[h.Name] = h.Machines
	}
	return limits
}

// leftOut gives the reason why a machine is not exported at all, or "". The
// machine may be named with its host.
func (s *siteFile) leftOut(host, machine string) string {
	if s == nil {
		return ""
	}
	for _, e := range s.Exclude {
		if len(e.Disks) == 0 && (e.Machine == machine || e.Machine == host+"/"+machine) {
			if e.Reason == "" {
				return "left out in site.yaml"
			}
			return "left out in site.yaml: " + e.Reason
		}
	}
	return ""
}

// writeFile replaces a file so that a power cut leaves the old or the new one.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	open := func(dir string) (durable.Dir, error) { return durable.OpenOS(dir, false) }
	if mode&0o077 == 0 {
		open = durable.OpenPrivate
	}
	dir, err := open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer closeDir(dir)
	if err := durable.WriteFileAtomic(dir, filepath.Base(path), data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Chmod(path, mode)
}
