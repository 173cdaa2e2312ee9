package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// bootedRun is boot.json in the folder of a boot run: which machines run from
// which drive, and where the server of their disks listens. It holds no secret.
// It is enough to start that server again.
type bootedRun struct {
	Run   string         `json:"run"`
	Began time.Time      `json:"began"`
	Drive lifeboat.Drive `json:"drive"`
	// DrivePath is where the drive was attached; after a reattach it may be
	// elsewhere, and is found by its id.
	DrivePath string   `json:"drivePath"`
	Host      hostFile `json:"host"`
	Socket    string   `json:"socket"`
	// Beside are the other drives of the machines whose disks lie on several.
	Beside []bootedDrive `json:"beside,omitempty"`
	// Segment is the private network of the machines, if they are on one that
	// something leads into.
	Segment  *hypervisor.Segment `json:"segment,omitempty"`
	Machines []bootedMachine     `json:"machines"`
	// Others are the hosts of machines that are on another than Host.
	Others []hostFile `json:"others,omitempty"`
	// Mode says that a drill or a recovery booted the machines; empty: `boot` did.
	Mode runbook.Mode `json:"mode,omitempty"`
	// Worker is the program that works on the run now, if it is not the one that
	// began it: a recovery is resumed by another.
	Worker process `json:"worker,omitzero"`
	// Ended says that the disks are not needed any more: their server stops.
	Ended bool `json:"ended,omitempty"`

	// mu is held by whoever changes or reads the machines of a run that begins
	// several at the same time.
	mu sync.Mutex
}

// bootedDrive is a drive that machines run from, and where it was attached.
type bootedDrive struct {
	Drive lifeboat.Drive `json:"drive"`
	Path  string         `json:"path"`
}

// drives are all drives that the machines run from.
func (b *bootedRun) drives() []bootedDrive {
	return append([]bootedDrive{{b.Drive, b.DrivePath}}, b.Beside...)
}

// reads says that machines of the run are read from a drive.
func (b *bootedRun) reads(driveID string) bool {
	return slices.ContainsFunc(b.drives(), func(d bootedDrive) bool { return d.Drive.ID == driveID })
}

// source is the drive and the point that a disk of a machine is read from.
func (b *bootedRun) source(m bootedMachine, key string) (driveID, point string) {
	if part, ok := m.Parts[key]; ok {
		return part.DriveID, part.Point
	}
	return b.Drive.ID, m.Point
}

// readsPoint says that a machine of the run is read from a point on a drive.
func (b *bootedRun) readsPoint(m bootedMachine, driveID, point string) bool {
	for key := range m.Exports {
		if d, p := b.source(m, key); d == driveID && p == point {
			return true
		}
	}
	return false
}

// bootedMachine is one machine of a boot run.
type bootedMachine struct {
	// Name is its name on the host, Machine the id of the machine that it is.
	Name    string `json:"name"`
	Machine string `json:"machine"`
	// HostID is what the host called it when it had been defined; empty before.
	HostID  string    `json:"hostId,omitempty"`
	Point   string    `json:"point"`
	TakenAt time.Time `json:"takenAt"`
	// Parts are, by disk key, where the disks are that are not in Point on the run's
	// first drive.
	Parts map[string]bootedPart `json:"parts,omitempty"`
	// Exports names, by disk key, what the server of the disks calls it.
	Exports map[string]string `json:"exports"`
	// SizeBytes are the sizes of those disks, known while the drive is away.
	SizeBytes map[string]int64 `json:"sizeBytes"`
	// Waiting holds the keys of the disks whose reads wait while the drive is
	// away, because their kind of controller cannot stop the machine.
	Waiting  []string      `json:"waiting,omitempty"`
	Forwards []bootForward `json:"forwards,omitempty"`
	// Host is the name of one of the run's other hosts; empty: its first.
	Host string `json:"host,omitempty"`
	// Planned is what a runbook calls it, and Form which of the forms that its host
	// has for it was built, from 0.
	Planned string `json:"planned,omitempty"`
	Form    int    `json:"form,omitempty"`
	// Stopped says that a step of a runbook shut it down: it does not start again.
	Stopped bool `json:"stopped,omitempty"`
	// Settled says that its disks are on storage of its host: it was moved there,
	// or copied there before it was started.
	Settled bool `json:"settled,omitempty"`
}

// bootedPart is the drive and the point of a disk.
type bootedPart struct {
	DriveID string `json:"driveId"`
	Point   string `json:"point"`
}

// made says that a machine of the host is m, which the run defined there. The
// host names the run as long as the machine reads from the drive. Afterwards it
// is known by the host's own id for it: its name and its Lifeboat id are those of
// the original as well, which may be there again and is not the run's.
func (b *bootedRun) made(m bootedMachine, l hypervisor.Listed) bool {
	switch {
	case l.Machine.Name != m.Name:
		return false
	case l.Recovery != "" || !m.Settled:
		return l.Recovery == b.Run
	case l.Settled != "":
		return l.Settled == b.Run
	case m.HostID != "":
		return l.HostID == m.HostID
	default:
		// Runs of older programs have no HostID, and plain QEMU alone.
		return b.hostOf(m).Kind == kindQEMU && l.Machine.ID == m.Machine
	}
}

// hosts are the hosts of the run's machines.
func (b *bootedRun) hosts() []hostFile { return append([]hostFile{b.Host}, b.Others...) }

// hostOf is the host of a machine of the run.
func (b *bootedRun) hostOf(m bootedMachine) hostFile {
	for _, h := range b.Others {
		if h.Name == m.Host {
			return h
		}
	}
	return b.Host
}

// machine returns what is written down of a machine of the run.
func (b *bootedRun) machine(name string) bootedMachine {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.Machines {
		if m.Name == name {
			return m
		}
	}
	return bootedMachine{}
}

// settled says that no machine of the run reads from the drive any more.
func (b *bootedRun) settled() bool {
	return len(b.Machines) > 0 && !slices.ContainsFunc(b.Machines, func(m bootedMachine) bool { return !m.Settled })
}

// served says that the run needs a server of its disks: for reads from the drive,
// or for ways into a private network.
func (b *bootedRun) served() bool { return !b.settled() || b.Segment != nil }

// bootForward is an open way from this host's loopback into a machine.
type bootForward struct {
	HostPort  int    `json:"hostPort"`
	Address   string `json:"address"`
	GuestPort int    `json:"guestPort"`
}

// diskServing is disks.json: what the server of the disks is doing.
type diskServing struct {
	Process process `json:"process"`
	Guard   process `json:"guard"`
	// Ready says that the disks can be read, GatewayTried that the ways into the
	// private network were opened, or Gateway says why they could not.
	Ready        bool   `json:"ready"`
	GatewayTried bool   `json:"gatewayTried"`
	Gateway      string `json:"gateway,omitempty"`
	// Answers lists the machines' ports that took the last connection, as
	// ADDRESS:PORT.
	Answers []string `json:"answers,omitempty"`
	// WaitingSince is when the drive stopped answering, or zero.
	WaitingSince time.Time `json:"waitingSince,omitzero"`
	// ReadBytes were read from the drive since the run began.
	ReadBytes int64 `json:"readBytes"`
	// Drives are the drives, each for itself.
	Drives []driveServing `json:"drives,omitempty"`
	// Given are the bytes that each export's guest was given since the server began.
	Given map[string]int64 `json:"given,omitempty"`
	// Short are the hosts whose room for overlays is short, Standing the machines
	// that stand for it, and Room says it in a sentence: also that there is room again.
	Short    map[string]bool `json:"short,omitempty"`
	Standing []string        `json:"standing,omitempty"`
	Room     string          `json:"room,omitempty"`
	// Damage holds what could not be read as it was written.
	Damage []string  `json:"damage,omitempty"`
	Seen   time.Time `json:"seen"`
}

// driveServing is what the server of the disks does with one drive.
type driveServing struct {
	DriveID string `json:"driveId"`
	// Away since then, or zero.
	WaitingSince time.Time `json:"waitingSince,omitzero"`
	// ReadBytes were read from it since the run began.
	ReadBytes int64 `json:"readBytes"`
}

func bootFilePath(dir string) string   { return filepath.Join(dir, "boot.json") }
func servingPath(dir string) string    { return filepath.Join(dir, "disks.json") }
func (b *bootedRun) dir(a *app) string { return filepath.Join(a.runsDir(), b.Run) }

func (b *bootedRun) save(dir string) error { return b.change(dir, func() {}) }

// change changes what is written down of the run, and writes it down.
func (b *bootedRun) change(dir string, do func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
	return saveJSON(bootFilePath(dir), b)
}

func readBooted(dir string) (*bootedRun, error) {
	var b bootedRun
	return &b, loadJSON(bootFilePath(dir), &b)
}

func readServing(dir string) (diskServing, error) {
	var s diskServing
	return s, loadJSON(servingPath(dir), &s)
}

func saveJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'), 0o600)
}

func loadJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// bootedRuns lists the boot runs that have not ended, newest first.
func (a *app) bootedRuns() ([]*bootedRun, error) {
	all, err := a.listRuns()
	if err != nil {
		return nil, err
	}
	var booted []*bootedRun
	for _, f := range all {
		b, err := readBooted(filepath.Join(a.runsDir(), f.ID))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !b.Ended {
			booted = append(booted, b)
		}
	}
	return booted, nil
}

// socketFolder makes the folder of a run's sockets.
func socketFolder(run string) (string, error) {
	dir := socketFolderPath(run)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for sockets: %w", err)
	}
	return dir, nil
}

// socketFolderPath is a short path for sockets: those of Unix end at 107 bytes,
// and a state folder may be deep. Root's stands beside /run/lifeboat, not in it:
// a host may let QEMU's user through to it, and that goes with the run.
func socketFolderPath(run string) string {
	base, name := "/run", "lifeboat-disks-"+short(run)
	if os.Geteuid() != 0 {
		name = "disks-" + short(run)
		base = filepath.Join(os.TempDir(), fmt.Sprintf("lifeboat-%d", os.Getuid()))
		if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
			base = filepath.Join(dir, "lifeboat")
		}
	}
	return filepath.Join(base, name)
}
