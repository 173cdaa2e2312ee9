package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"lifeboat"
	"lifeboat/hypervisor"
)

// machine is one folder with a definition.
type machine struct {
	host   *Host
	folder string
	dir    string
	def    definition
}

// List returns every machine, in the order of their names. A folder whose
// definition cannot be read is named in the error, beside the machines that can:
// it must neither hide the others nor be forgotten.
func (h *Host) List(ctx context.Context) ([]hypervisor.Listed, error) {
	machines, problems := h.machines()
	list := make([]hypervisor.Listed, 0, len(machines))
	for _, m := range machines {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		power, err := m.power(ctx)
		if err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		list = append(list, hypervisor.Listed{
			Machine: m.describe(), HostID: m.folder, Power: power, Recovery: m.def.Recovery, Settled: m.def.Settled,
		})
	}
	return list, problems
}

// describe returns the machine as its definition has it.
func (m *machine) describe() lifeboat.Machine {
	d := m.def.Machine
	d.Version = lifeboat.MachineVersion
	d.UUID = m.uuid()
	d.Chipset = chipset(&m.def.Machine)
	d.Disks = append([]lifeboat.Disk(nil), d.Disks...)
	d.NICs = append([]lifeboat.NIC(nil), d.NICs...)
	return d
}

// machines reads every definition. The error names those that cannot be read.
func (h *Host) machines() ([]*machine, error) {
	entries, err := os.ReadDir(h.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("list the machines of host %q: %w", h.o.Name, err)
	}
	var list []*machine
	var problems error
	for _, e := range entries {
		m, err := h.load(e.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist) || !e.IsDir():
		case err != nil:
			problems = errors.Join(problems, err)
		default:
			list = append(list, m)
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].def.Machine.Name < list[j].def.Machine.Name })
	return list, problems
}

// load reads the machine in one folder and gives it an id and the sizes of its
// disks if a hand-written definition has none.
func (h *Host) load(folder string) (*machine, error) {
	m := &machine{host: h, folder: folder, dir: filepath.Join(h.o.Dir, folder)}
	def, err := loadDefinition(m.dir)
	if err != nil {
		return nil, fmt.Errorf("read the machine in %s: %w", m.dir, err)
	}
	m.def = def
	complete, err := m.complete()
	if err != nil {
		return nil, fmt.Errorf("complete the machine in %s: %w", m.dir, err)
	}
	if complete {
		return m, nil
	}
	if err := saveDefinition(m.dir, &m.def); err != nil {
		return nil, fmt.Errorf("give the machine in %s its id: %w", m.dir, err)
	}
	return m, nil
}

// complete fills in what a person need not write, and says whether all of it was
// there.
func (m *machine) complete() (bool, error) {
	was := true
	if m.def.Machine.ID == "" {
		m.def.Machine.ID, was = newID(), false
	}
	if m.def.Machine.GenerationID && m.def.Generation == "" {
		m.def.Generation, was = newGeneration(), false
	}
	for i := range m.def.Machine.Disks {
		disk := &m.def.Machine.Disks[i]
		if disk.SizeBytes > 0 {
			continue
		}
		file := m.def.Disks[disk.Key]
		info, err := m.host.imageInfo(context.Background(), m.path(file.File), file.Format)
		if err != nil {
			return false, err
		}
		disk.SizeBytes, was = info.VirtualSize, false
	}
	return was, nil
}

// find returns the machine of that name, Lifeboat id or folder. The folder is the
// HostID that List gives out, and tells copies of one definition apart. A word
// that is one machine's name and another's folder is refused: nobody can say
// which was meant.
func (h *Host) find(name string) (*machine, error) {
	machines, problems := h.machines()
	var found []*machine
	for _, m := range machines {
		if m.def.Machine.Name == name || m.def.Machine.ID == name || m.folder == name {
			found = append(found, m)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%q is %d machines of host %q: %s and %s", name, len(found), h.o.Name, found[0].dir, found[1].dir)
	case problems != nil:
		return nil, fmt.Errorf("%w: %q on host %q, where not all can be read: %w", hypervisor.ErrNoMachine, name, h.o.Name, problems)
	}
	return nil, fmt.Errorf("%w: %q on host %q", hypervisor.ErrNoMachine, name, h.o.Name)
}

// name is what the operator calls the machine.
func (m *machine) name() string { return m.def.Machine.Name }

// uuid is the SMBIOS UUID; a machine without one has its Lifeboat id.
func (m *machine) uuid() string {
	if m.def.Machine.UUID != "" {
		return m.def.Machine.UUID
	}
	id := m.def.Machine.ID
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
}

// path is where a file of the definition is.
func (m *machine) path(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(m.dir, file)
}
