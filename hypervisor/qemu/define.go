package qemu

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/hypervisor"
)

// leastSpace is what has to be free for the overlay of a machine that is booted
// from a drive: without it the guest would stop within seconds.
const leastSpace = 64 << 20

// Define builds a machine from its description and leaves it off. A name that
// exists is refused. Until it returns nil there is no such machine: its folder
// gets its name last.
func (h *Host) Define(ctx context.Context, d hypervisor.Definition) error {
	name := d.Name
	if name == "" {
		name = d.Machine.Name
	}
	m := &machine{host: h, folder: folderName(name)}
	m.dir = filepath.Join(h.o.Dir, m.folder)
	if err := h.refuseExisting(name, m.folder); err != nil {
		return err
	}
	if err := checkBackings(d); err != nil {
		return fmt.Errorf("define %s: %w", name, err)
	}
	half, err := os.MkdirTemp(h.o.Dir, ".new-*")
	if err != nil {
		return fmt.Errorf("define %s: %w", name, err)
	}
	defer os.RemoveAll(half)
	m.def = definitionOf(name, d)
	if err := h.makeDisks(ctx, half, d, &m.def); err != nil {
		return h.noSpace(name, err)
	}
	if err := restoreTPM(half, &d.Machine); err != nil {
		return h.noSpace(name, err)
	}
	switch nvram := d.Machine.Firmware.NVRAM; {
	case len(nvram) == 0:
	case !hypervisor.IsVariableStore(nvram):
		h.o.Note(name, "its firmware variables are another hypervisor's, so it starts with new ones: it boots if its loader is where every firmware looks")
	default:
		if err := writeFile(half, nvramFile, nvram); err != nil {
			return h.noSpace(name, err)
		}
	}
	if err := saveDefinition(half, &m.def); err != nil {
		return h.noSpace(name, err)
	}
	if err := os.Rename(half, m.dir); err != nil {
		return fmt.Errorf("define %s: %w", name, err)
	}
	return syncFolder(h.o.Dir)
}

// refuseExisting refuses a name that a machine has already, and one whose folder
// would be called as another machine is: with both, nobody could say which of
// them a word means.
func (h *Host) refuseExisting(name, folder string) error {
	_, err := h.find(name)
	if errors.Is(err, hypervisor.ErrNoMachine) {
		_, err = h.find(folder)
	}
	if errors.Is(err, hypervisor.ErrNoMachine) {
		if _, statErr := os.Lstat(filepath.Join(h.o.Dir, folder)); errors.Is(statErr, fs.ErrNotExist) {
			return nil
		}
		err = nil
	}
	if err != nil {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: host %q has a machine of that name or folder already", name, h.o.Name),
		Safe: "nothing was changed",
		Next: "choose another name, or remove the one that is there",
		Err:  fs.ErrExist,
	}
}

func checkBackings(d hypervisor.Definition) error {
	for key, b := range d.Disks {
		if _, ok := d.Machine.Disk(key); !ok {
			return fmt.Errorf("there is a source for a disk %q that the machine does not have", key)
		}
		if (b.NBD == nil) == (b.File == nil) {
			return fmt.Errorf("disk %s needs exactly one source", key)
		}
	}
	return nil
}

// definitionOf is the definition of a machine without its disks' files.
func definitionOf(name string, d hypervisor.Definition) definition {
	def := definition{
		Version: definitionVersion, Machine: d.Machine, Disks: map[string]diskFile{},
		Networks: d.Networks, Recovery: d.Recovery, Throwaway: d.Throwaway,
	}
	def.Machine.Version = lifeboat.MachineVersion
	def.Machine.Name = name
	if def.Machine.ID == "" {
		def.Machine.ID = newID()
	}
	// They are kept in files of their own, or have been of use already.
	def.Machine.Firmware.NVRAM = nil
	def.Machine.Native = nil
	if d.Machine.TPM != nil {
		def.Machine.TPM = &lifeboat.TPM{Version: d.Machine.TPM.Version, Model: d.Machine.TPM.Model}
	}
	// Its disks are those of another moment, so its generation is a new one. It
	// stays over all starts of this machine.
	if def.Machine.GenerationID {
		def.Generation = newGeneration()
	}
	def.Machine.Disks = append([]lifeboat.Disk(nil), d.Machine.Disks...)
	tidy(&def.Machine)
	def.Machine.NICs = append([]lifeboat.NIC(nil), d.Machine.NICs...)
	for i := range def.Machine.NICs {
		switch nic := &def.Machine.NICs[i]; {
		case d.NewMACs:
			nic.MAC = newMAC()
		case nic.MAC == "":
			// A machine of disk files: nobody ever saw its card.
			nic.MAC = stableMAC(def.Machine.ID, i)
		}
	}
	return def
}

// makeDisks gives every disk its file, in the folder that will become the
// machine's.
func (h *Host) makeDisks(ctx context.Context, dir string, d hypervisor.Definition, def *definition) error {
	for _, disk := range d.Machine.Disks {
		if !diskKey.MatchString(disk.Key) {
			return fmt.Errorf("disk key %q is not usable", disk.Key)
		}
		backing := d.Disks[disk.Key]
		if backing.File != nil {
			path, err := filepath.Abs(backing.File.Path)
			if err != nil {
				return err
			}
			def.Disks[disk.Key] = diskFile{File: path, Format: backing.File.Format}
			continue
		}
		if disk.SizeBytes < 1 {
			return fmt.Errorf("disk %s has no size", disk.Key)
		}
		if free, _, err := freeSpace(dir); err == nil && free < leastSpace {
			return fmt.Errorf("%d MiB are free: %w", free>>20, unix.ENOSPC)
		}
		file := diskFile{File: disk.Key + ".qcow2", Format: "qcow2", Made: true, Base: backing.NBD}
		if err := h.makeImage(ctx, filepath.Join(dir, file.File), disk.SizeBytes); err != nil {
			return fmt.Errorf("make disk %s: %w", disk.Key, err)
		}
		def.Disks[disk.Key] = file
	}
	return nil
}

// noSpace turns a full file system into words; other errors are wrapped.
func (h *Host) noSpace(name string, err error) error {
	var problem *lifeboat.Problem
	if errors.As(err, &problem) {
		return err
	}
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("define %s: %w", name, err)
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: no space for its disks in %s", name, h.o.Dir),
		Safe: "the drive was not written, and nothing was left in that folder",
		Next: "free some space there, or choose another folder for the machines",
		Err:  err,
	}
}

// Remove deletes a machine that is off: its folder with everything that Lifeboat
// put there. Disk images that it did not make stay where they are.
func (h *Host) Remove(ctx context.Context, name string) error {
	m, err := h.find(name)
	if err != nil {
		return err
	}
	lock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	power, err := m.power(ctx)
	if err != nil {
		return err
	}
	if power != hypervisor.PowerOff {
		return fmt.Errorf("%w: %s", hypervisor.ErrMachineRunning, m.name())
	}
	return m.remove()
}

func (m *machine) remove() error {
	if err := m.removeScratch(); err != nil {
		return err
	}
	// The definition goes first: a machine half removed is no machine.
	names := []string{definitionFile, runningFile, nvramFile, linksFile, serialLogFile, qemuLogFile, tpmLogFile}
	for _, n := range m.def.Networks {
		if n.Kind == hypervisor.NetworkBridge {
			names = append(names, "plug-"+n.Name)
		}
	}
	for _, file := range m.def.Disks {
		if file.Made {
			names = append(names, file.File)
		}
	}
	sockets := m.sockets()
	for _, name := range append(names, lockFile) {
		if err := os.Remove(m.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", m.name(), err)
		}
	}
	if err := os.RemoveAll(m.path(tpmFolder)); err != nil {
		return fmt.Errorf("remove the TPM of %s: %w", m.name(), err)
	}
	if err := removeSockets(sockets); err != nil {
		return fmt.Errorf("remove the sockets of %s: %w", m.name(), err)
	}
	// Somebody's own files keep the folder, but not the machine.
	if err := os.Remove(m.dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("remove %s: %w", m.name(), err)
	}
	return syncFolder(m.host.o.Dir)
}

// removeSockets deletes what QEMU left in a folder for sockets, and the folder if
// nothing else is in it. Its path comes from a file, so nothing is deleted by
// pattern.
func removeSockets(dir string) error {
	for _, name := range []string{commandSocket, workSocket, guardSocket, agentSocket, serialSocket, vncSocket, nbdSocket} {
		if err := removeFile(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// newMAC is a random address from the range that nobody owns.
func newMAC() string {
	var b [3]byte
	rand.Read(b[:])
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", b[0], b[1], b[2])
}

// stableMAC is an address from the same range that follows from the machine and
// the place of the card: a guest names its card after it, so the second boot has
// to give what the first one gave.
func stableMAC(id string, card int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "mac\x00%s\x00%d", id, card))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}
