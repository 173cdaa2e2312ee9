package lifeboat

import (
	"encoding/json"
	"time"
)

// MachineVersion is the version of the JSON form of [Machine] that this program
// writes. Readers accept every version up to it.
const MachineVersion = 1

// Machine is a virtual (or physical) server as it has to be built again on any
// host: everything that its guest could notice, and nothing about where it ran.
type Machine struct {
	Version int `json:"version"`
	// ID is Lifeboat's own id, 32 lower-case hex digits. Hosts' ids are mapped
	// to it and it is written into every definition that Lifeboat makes, so
	// history and change tracking follow the machine from host to host.
	ID string `json:"id"`
	// Name is what the operator calls it. It may hold spaces and any letters;
	// it is never used as a file name unescaped.
	Name string `json:"name"`
	// UUID is the SMBIOS UUID, kept in a recovery because licences hang on it.
	UUID string `json:"uuid,omitempty"`
	// SMBIOS is what else the guest reads about its computer; licences hang on
	// the serial number.
	SMBIOS SMBIOS `json:"smbios,omitzero"`
	// GenerationID says that the guest has a VM generation id. Each boot from a
	// restore point gives it a new one, or a domain controller would not notice
	// that it went back in time. It is never the source's.
	GenerationID bool `json:"generationId,omitempty"`

	Firmware Firmware `json:"firmware"`
	TPM      *TPM     `json:"tpm,omitempty"`
	Chipset  Chipset  `json:"chipset,omitempty"`
	// CPUs is the number of processors that the guest sees.
	CPUs int `json:"cpus"`
	// Topology is how they are arranged; nil means one socket each.
	Topology *Topology `json:"topology,omitempty"`
	CPUModel string    `json:"cpuModel,omitempty"`
	// HyperV are the enlightenments of Windows guests, by libvirt's names
	// ("relaxed", "vapic", "spinlocks=8191"), ascending.
	HyperV      []string `json:"hyperv,omitempty"`
	MemoryBytes int64    `json:"memoryBytes"`
	// ClockLocal says that the guest expects local time in its hardware clock.
	ClockLocal bool `json:"clockLocal,omitempty"`
	// GuestFamily is "linux", "windows", "bsd" or empty when nobody knows.
	GuestFamily string `json:"guestFamily,omitempty"`
	// GuestSystem is the guest's system in the source's own words, for example
	// VMware's "debian12_64Guest" or a libosinfo id. It chooses nothing but what
	// the same kind of host is told again.
	GuestSystem string `json:"guestSystem,omitempty"`
	// HostName is the name that the guest gave itself, as its agent told it.
	HostName string `json:"hostName,omitempty"`
	// Agent says that the machine has a channel for a guest agent.
	Agent bool `json:"agent,omitempty"`

	Disks []Disk `json:"disks"`
	NICs  []NIC  `json:"nics,omitempty"`

	// Native is the hypervisor's own description, word for word.
	Native *NativeDescription `json:"native,omitempty"`
}

// SMBIOS is what a guest reads about its computer beside the UUID.
type SMBIOS struct {
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`
	Serial       string `json:"serial,omitempty"`
}

// TPM is a trusted platform module. A guest that sealed its disk's key to one
// does not start without its state.
type TPM struct {
	// Version is "1.2" or "2.0", Model "tis" or "crb".
	Version string `json:"version"`
	Model   string `json:"model,omitempty"`
	// State is what an emulated module kept, as the files of swtpm in a tar
	// archive; empty where the host does not give it out. It opens disks: JSON of
	// a TPM is without it, but for [RestorePoint.Record].
	State []byte `json:"state,omitempty"`
}

// MarshalJSON leaves the state out: what is printed, logged or handed on holds no
// secret. Reading takes a state where there is one.
func (t TPM) MarshalJSON() ([]byte, error) {
	t.State = nil
	return json.Marshal(keptTPM(t))
}

// keptTPM is a TPM as it lies on a drive, state included.
type keptTPM TPM

// Topology is an arrangement of processors: Sockets x Cores x Threads of them.
type Topology struct {
	Sockets int `json:"sockets"`
	Cores   int `json:"cores"`
	Threads int `json:"threads"`
}

// Chipset names the family of the virtual main board.
type Chipset string

// The chipsets that machines are known to have.
const (
	ChipsetQ35    Chipset = "q35"
	ChipsetI440FX Chipset = "i440fx"
)

// FirmwareKind is how a machine starts. BIOS and UEFI are never converted into
// each other.
type FirmwareKind string

// The two kinds of firmware.
const (
	FirmwareBIOS FirmwareKind = "bios"
	FirmwareUEFI FirmwareKind = "uefi"
)

// Firmware is the kind of firmware and, for UEFI, the variables that travel
// with the disks: without them a machine may not find its boot loader.
type Firmware struct {
	Kind       FirmwareKind `json:"kind"`
	SecureBoot bool         `json:"secureBoot,omitempty"`
	// NVRAM is the variable store as the firmware wrote it.
	NVRAM []byte `json:"nvram,omitempty"`
}

// NativeDescription is a machine in the words of the hypervisor it came from.
type NativeDescription struct {
	// Format names the words: "lifeboat-qemu/1", "libvirt-xml", "vmx", or
	// "vsphere-json" where the vmx could not be read.
	Format string `json:"format"`
	Text   string `json:"text"`
	// Files are what stands beside the words and only that hypervisor
	// understands, by name: "nvram" for VMware's firmware.
	Files map[string][]byte `json:"files,omitempty"`
}

// Bus is the kind of controller that the guest sees a disk behind. It is kept
// in a recovery: a guest that never used virtio-scsi has no driver for it.
type Bus string

// The buses that Lifeboat can give a machine.
const (
	BusVirtio     Bus = "virtio"
	BusVirtioSCSI Bus = "virtio-scsi"
	BusSATA       Bus = "sata"
	BusIDE        Bus = "ide"
	BusNVMe       Bus = "nvme"
	// VMware's and LSI Logic's SCSI controllers. QEMU has the paravirtual one
	// and the SAS one, and nothing that a driver for the parallel one knows.
	BusPVSCSI Bus = "pvscsi"
	BusLSI    Bus = "lsi"
	BusLSISAS Bus = "lsi-sas"
)

// Disk is one disk of a machine.
type Disk struct {
	// Key names the disk inside its machine: lower-case ASCII letters, digits,
	// '-' and '_', at most 32 bytes. It stays the same over the machine's life.
	Key string `json:"key"`
	// SizeBytes is the exact size, which need not be a multiple of a block.
	SizeBytes int64 `json:"sizeBytes"`
	// LogicalSectorBytes is 512 unless the guest sees something else.
	LogicalSectorBytes  int    `json:"logicalSectorBytes,omitempty"`
	PhysicalSectorBytes int    `json:"physicalSectorBytes,omitempty"`
	Bus                 Bus    `json:"bus"`
	Serial              string `json:"serial,omitempty"`
	// WWN is the world wide name, 16 lower-case hex digits.
	WWN string `json:"wwn,omitempty"`
	// Place is where on its bus the guest sees the disk, as CONTROLLER:UNIT,
	// for example "0:1"; on IDE the controller is the channel. Empty when nobody
	// knows.
	Place string `json:"place,omitempty"`
	// PCISlot is the slot of the disk or of its controller, as the guest saw it
	// ("0000:03:00.0").
	PCISlot string `json:"pciSlot,omitempty"`
	// BootIndex orders the disks that firmware tries; 0 means "not said".
	BootIndex int `json:"bootIndex,omitempty"`
	// Excluded is the reason why this disk is not exported (swap, dump target),
	// or empty. An excluded disk is shown as excluded everywhere and comes back
	// as an empty disk of the same size.
	Excluded string `json:"excluded,omitempty"`
}

// NIC is one network card of a machine.
type NIC struct {
	MAC string `json:"mac"`
	// Model is the card that the guest has a driver for: "virtio", "e1000",
	// "e1000e", "rtl8139" or "vmxnet3".
	Model string `json:"model"`
	// Network is the name of the network at the source. Where it leads at the
	// target is decided by whoever boots the machine.
	Network string `json:"network,omitempty"`
	// PCISlot is the slot that the guest saw, so that it finds its name again.
	PCISlot string `json:"pciSlot,omitempty"`
	// Addresses are those that the guest had when it was exported, in CIDR
	// notation, as its agent told them; SeenAt is when.
	Addresses []string  `json:"addresses,omitempty"`
	Gateway   string    `json:"gateway,omitempty"`
	DNS       []string  `json:"dns,omitempty"`
	Interface string    `json:"interface,omitempty"`
	SeenAt    time.Time `json:"seenAt,omitzero"`
}

// Disk returns the disk with that key.
func (m *Machine) Disk(key string) (Disk, bool) {
	for _, d := range m.Disks {
		if d.Key == key {
			return d, true
		}
	}
	return Disk{}, false
}

// Extent is a run of bytes of a disk: Length bytes from Offset on.
type Extent struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// End is the offset of the first byte after the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }
