// Package qemu runs machines on plain QEMU: no daemon, one folder of machine
// definitions, and the machine protocol of QEMU on Unix sockets.
//
// It owns what lies in its folder and the QEMU processes that run from it. It
// promises what hypervisor.Host promises, and that a machine outlives the
// command and the session that started it. It never touches a disk image that
// somebody else made, except to mark in it what the guest changes, and it never
// takes a process for a machine because of its number alone.
package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"lifeboat/hypervisor"
)

// Accelerator is what executes a guest's instructions.
type Accelerator string

// The accelerators. Auto asks [ProbeKVM].
const (
	AcceleratorAuto Accelerator = ""
	AcceleratorKVM  Accelerator = "kvm"
	AcceleratorTCG  Accelerator = "tcg"
)

// Options say where a host's machines are and how they are run.
type Options struct {
	// Name is what the operator calls the host.
	Name string
	// Dir holds one folder for each machine. It is made if it is missing.
	Dir string
	// RunDir holds sockets. Empty means a folder that this user can write and
	// that goes away when the computer stops.
	RunDir string
	// ScratchDir keeps, while a machine is exported, what its guest overwrites.
	// Empty means the folder of the machine.
	ScratchDir string
	// ScratchReserveBytes of ScratchDir's file system are left alone: a still
	// that would need them breaks instead. Zero means 1 GiB, or a twentieth of a
	// small file system.
	ScratchReserveBytes int64
	// Binary is the QEMU to run. Empty means what [Program] finds.
	Binary string
	// Accelerator is used for machines whose definition names none.
	Accelerator Accelerator
	// Note receives what an operator should know though nothing failed, for
	// example that a machine runs without KVM. It may be nil.
	Note func(machine, text string)
}

// Host is the machines of one folder.
type Host struct {
	o Options
	// devices are the names of what QEMU can build, asked for once.
	devices func() map[string]bool
}

var _ hypervisor.Host = (*Host)(nil)

// Open returns the host whose machines are in o.Dir. It looks for QEMU only when
// QEMU is needed, so that a host can be listed where none is installed.
func Open(o Options) (*Host, error) {
	if o.Dir == "" {
		return nil, errors.New("a qemu host needs the folder of its machines")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the folder of host %q: %w", o.Name, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of host %q: %w", o.Name, err)
	}
	o.Dir = dir
	if o.RunDir == "" {
		o.RunDir = defaultRunDir()
	}
	if o.RunDir, err = filepath.Abs(o.RunDir); err != nil {
		return nil, fmt.Errorf("find the socket folder of host %q: %w", o.Name, err)
	}
	o.RunDir = shortRunDir(o.RunDir)
	if o.ScratchDir != "" {
		if o.ScratchDir, err = filepath.Abs(o.ScratchDir); err != nil {
			return nil, fmt.Errorf("find the scratch folder of host %q: %w", o.Name, err)
		}
	}
	if o.Note == nil {
		o.Note = func(string, string) {}
	}
	h := &Host{o: o}
	h.devices = sync.OnceValue(h.listDevices)
	return h, nil
}

// Name is what the operator called the host.
func (h *Host) Name() string { return h.o.Name }

// tool returns the path of a program of QEMU.
func (h *Host) tool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", missingTool(name, err)
	}
	return path, nil
}

// defaultRunDir is a folder for sockets that this user can write. Where a
// running machine has its sockets is recorded with the machine, so it does not
// matter if a later command would have chosen another.
func defaultRunDir() string {
	if os.Geteuid() == 0 {
		return "/run/lifeboat"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "lifeboat")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("lifeboat-%d", os.Getuid()))
}

// longestRunDir leaves room for a folder and a name in the 107 bytes that the
// path of a Unix socket may have.
const longestRunDir = 107 - len("/0123456789ab/command.sock")

// shortRunDir replaces a folder that is too long for sockets by one that stands
// for it.
func shortRunDir(dir string) string {
	if len(dir) <= longestRunDir {
		return dir
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), fmt.Sprintf("lifeboat-%d-%s", os.Getuid(), hex.EncodeToString(sum[:6])))
}

// socketDir is the folder of the sockets that belong to something with a name
// that may be long: the name becomes a hash.
func (h *Host) socketDir(kind, name string) string {
	sum := sha256.Sum256([]byte(h.o.Dir + "\x00" + kind + "\x00" + name))
	return filepath.Join(h.o.RunDir, hex.EncodeToString(sum[:6]))
}

// makeSocketDir makes a folder for sockets. Whoever could put sockets there
// would speak for our machines, so it has to be ours alone.
func (h *Host) makeSocketDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder for sockets: %w", err)
	}
	return oursAlone(h.o.RunDir)
}

// oursAlone refuses a folder that somebody else made or where others can write.
func oursAlone(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("see whose folder it is: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("the folder %s belongs to somebody else, or others can write there", dir)
	}
	return nil
}
