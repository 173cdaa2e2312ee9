package libvirt

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
)

// nativeFormat is what Machine.Native calls libvirt's own words.
const nativeFormat = "libvirt-xml"

// description is a domain in the terms of Lifeboat.
type description struct {
	// machine has no sizes of disks, no NVRAM and no state of a TPM: these do
	// not stand in the XML.
	machine lifeboat.Machine
	// recovery is the run that booted it from a drive, or empty.
	recovery string
	// disks say where the bytes are, one for each of machine.Disks, in order.
	disks []diskSource
	// agentConnected: a guest agent has its channel open. Known of what runs.
	agentConnected bool
	// left is what the machine has and Lifeboat does not keep, a sentence each.
	left []string
	// nvramPath is the file of the firmware's variables on the host, or empty.
	nvramPath string
	// tpmState is the folder on the host where the emulator of a TPM keeps what a
	// guest sealed, or empty.
	tpmState string
	// hostSMBIOS: the guest sees the host's own maker and serial number.
	hostSMBIOS bool
}

// describe reads a domain. Config is its definition (the inactive XML), live is
// what runs, or empty. What runs decides about devices; the definition about the
// rest, because libvirt replaces in the live XML what was left to it, for example
// a CPU model by that of the host.
func describe(config, live string) (description, error) {
	doc, err := parseDomain(config)
	if err != nil {
		return description{}, err
	}
	if live != "" {
		running, err := parseDomain(live)
		if err != nil {
			return description{}, err
		}
		doc.Devices = running.Devices
		adoptFirmware(doc.OS, running.OS)
	}
	own, found, err := oursIn(doc)
	if err != nil {
		return description{}, err
	}
	if !found {
		own = ours{ID: hypervisor.DerivedID(Kind, doc.UUID)}
	}
	if uuidForm.MatchString(own.UUID) {
		doc.HWUUID = own.UUID
	}
	m := lifeboat.Machine{
		Version: lifeboat.MachineVersion, ID: own.ID, Name: doc.Name, UUID: smbiosUUID(doc),
		GenerationID: doc.GenID != nil, Firmware: firmware(doc.OS), Chipset: chipset(doc.OS),
		ClockLocal: clockLocal(doc.Clock), HyperV: hyperV(doc.Features), Agent: hasAgent(doc.Devices),
		Native: &lifeboat.NativeDescription{Format: nativeFormat, Text: config},
	}
	if own.Name != "" && libvirtName(own.Name) == doc.Name {
		m.Name = own.Name
	}
	m.GuestSystem, m.GuestFamily = guestSystem(metadata(doc))
	setProcessors(&m, doc)
	own.adopt(&m)
	if m.MemoryBytes, err = memoryBytes(doc.Memory); err != nil {
		return description{}, fmt.Errorf("%s: %w", doc.Name, err)
	}
	d := description{machine: m, recovery: own.Recovery, nvramPath: nvramPath(doc.OS)}
	d.agentConnected = slices.ContainsFunc(doc.Devices.Channels, func(c libvirtxml.DomainChannel) bool {
		return isAgent(c) && c.Target.VirtIO.State == "connected"
	})
	d.setSMBIOS(doc)
	d.setTPM(doc)
	if err := d.setDisks(doc); err != nil {
		return description{}, fmt.Errorf("%s: %w", doc.Name, err)
	}
	d.setNICs(doc.Devices)
	d.setLeft(doc)
	return d, nil
}

// parseDomain reads the XML of a domain that Lifeboat can describe at all.
func parseDomain(text string) (*libvirtxml.Domain, error) {
	var doc libvirtxml.Domain
	if err := doc.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("read libvirt's description: %w", err)
	}
	switch {
	case doc.Name == "" || doc.Name != hypervisor.Printable(doc.Name):
		return nil, fmt.Errorf("the name %q holds characters that cannot be shown", doc.Name)
	case doc.UUID == "":
		return nil, fmt.Errorf("%s has no UUID", doc.Name)
	case doc.OS == nil || doc.OS.Type == nil || doc.OS.Type.Type != "hvm":
		return nil, fmt.Errorf("%s is no virtual machine with firmware", doc.Name)
	case doc.Memory == nil:
		return nil, fmt.Errorf("%s has no memory", doc.Name)
	}
	if doc.Devices == nil {
		doc.Devices = &libvirtxml.DomainDeviceList{}
	}
	return &doc, nil
}

func metadata(doc *libvirtxml.Domain) string {
	if doc.Metadata == nil {
		return ""
	}
	return doc.Metadata.XML
}

// smbiosUUID is the UUID that the guest reads.
func smbiosUUID(doc *libvirtxml.Domain) string {
	if doc.HWUUID != "" {
		return strings.ToLower(doc.HWUUID)
	}
	return strings.ToLower(doc.UUID)
}

func chipset(os *libvirtxml.DomainOS) lifeboat.Chipset {
	switch board := os.Type.Machine; {
	case board == "q35" || strings.HasPrefix(board, "pc-q35"):
		return lifeboat.ChipsetQ35
	case board == "pc" || strings.HasPrefix(board, "pc-i440fx"):
		return lifeboat.ChipsetI440FX
	}
	return ""
}

func clockLocal(c *libvirtxml.DomainClock) bool {
	return c != nil && (c.Offset == "localtime" || c.Offset == "timezone" || c.Offset == "variable" && c.Basis == "localtime")
}

// setProcessors takes the number that the machine starts with, and its topology
// where it fits that number: with processors that are plugged in later it does
// not.
func setProcessors(m *lifeboat.Machine, doc *libvirtxml.Domain) {
	m.CPUs = 1
	if doc.VCPU != nil {
		m.CPUs = max(1, int(doc.VCPU.Value))
		if doc.VCPU.Current > 0 {
			m.CPUs = int(doc.VCPU.Current)
		}
	}
	if doc.CPU == nil {
		return
	}
	m.CPUModel = doc.CPU.Mode
	if doc.CPU.Model != nil && doc.CPU.Model.Value != "" {
		m.CPUModel = doc.CPU.Model.Value
	}
	if m.CPUModel == "custom" {
		m.CPUModel = ""
	}
	if t := doc.CPU.Topology; t != nil {
		cores := t.Cores * max(1, t.Dies) * max(1, t.Clusters)
		if t.Sockets > 0 && cores > 0 && t.Threads > 0 && t.Sockets*cores*t.Threads == m.CPUs {
			m.Topology = &lifeboat.Topology{Sockets: t.Sockets, Cores: cores, Threads: t.Threads}
		}
	}
}

// memoryUnits are those of libvirt, in bytes.
var memoryUnits = map[string]int64{
	"": 1 << 10, "b": 1, "bytes": 1,
	"KB": 1e3, "k": 1 << 10, "KiB": 1 << 10, "MB": 1e6, "M": 1 << 20, "MiB": 1 << 20,
	"GB": 1e9, "G": 1 << 30, "GiB": 1 << 30, "TB": 1e12, "T": 1 << 40, "TiB": 1 << 40,
}

func memoryBytes(m *libvirtxml.DomainMemory) (int64, error) {
	unit, known := memoryUnits[m.Unit]
	const most = 1 << 50 // a thousand times what any machine has
	if !known || m.Value == 0 || int64(m.Value) > most/unit {
		return 0, fmt.Errorf("memory of %d %q is not an amount that can be", m.Value, m.Unit)
	}
	return int64(m.Value) * unit, nil
}

// setSMBIOS takes what the guest is told about its computer.
func (d *description) setSMBIOS(doc *libvirtxml.Domain) {
	if doc.OS.SMBios == nil {
		return
	}
	d.hostSMBIOS = doc.OS.SMBios.Mode == "host"
	if doc.OS.SMBios.Mode != "sysinfo" {
		return
	}
	for _, info := range doc.SysInfo {
		if info.SMBIOS != nil && info.SMBIOS.System != nil {
			d.machine.SMBIOS = smbios(info.SMBIOS.System.Entry)
		}
	}
}

func smbios(entries []libvirtxml.DomainSysInfoEntry) (s lifeboat.SMBIOS) {
	for _, e := range entries {
		switch e.Name {
		case "manufacturer":
			s.Manufacturer = hypervisor.GuestWords(e.Value)
		case "product":
			s.Product = hypervisor.GuestWords(e.Value)
		case "serial":
			s.Serial = hypervisor.GuestWords(e.Value)
		}
	}
	return s
}

// systemTPMs is where libvirt keeps the emulated modules of a system's machines,
// each in a folder with the UUID.
const systemTPMs = "/var/lib/libvirt/swtpm"

func (d *description) setTPM(doc *libvirtxml.Domain) {
	for _, t := range doc.Devices.TPMs {
		tpm := &lifeboat.TPM{Version: "2.0", Model: strings.TrimPrefix(t.Model, "tpm-")}
		d.machine.TPM = tpm
		if t.Backend == nil || t.Backend.Emulator == nil {
			d.left = append(d.left, "its TPM is not an emulated one: what a guest sealed to it cannot be taken along")
			continue
		}
		emulator := t.Backend.Emulator
		if emulator.Version != "" {
			tpm.Version = emulator.Version
		}
		switch {
		case emulator.Encryption != nil:
			d.left = append(d.left, "the state of its TPM is encrypted with a secret of its host: what a guest sealed to it cannot be taken along")
		case emulator.Source != nil && emulator.Source.Dir != nil:
			d.tpmState = emulator.Source.Dir.Path
		case emulator.Source == nil && tpm.Version == "1.2":
			d.tpmState = systemTPMs + "/" + strings.ToLower(doc.UUID) + "/tpm1.2"
		case emulator.Source == nil:
			d.tpmState = systemTPMs + "/" + strings.ToLower(doc.UUID) + "/tpm2"
		}
	}
}

func hasAgent(devices *libvirtxml.DomainDeviceList) bool {
	return slices.ContainsFunc(devices.Channels, isAgent)
}

func isAgent(c libvirtxml.DomainChannel) bool {
	return c.Target != nil && c.Target.VirtIO != nil && c.Target.VirtIO.Name == "org.qemu.guest_agent.0"
}

func (d *description) setNICs(devices *libvirtxml.DomainDeviceList) {
	for _, i := range devices.Interfaces {
		n := lifeboat.NIC{Model: "rtl8139", PCISlot: pciSlot(i.Address)} // libvirt's own default on a PC
		if i.MAC != nil {
			n.MAC = strings.ToLower(i.MAC.Address)
		}
		if i.Model != nil && i.Model.Type != "" {
			n.Model = cardModel(i.Model.Type)
		}
		if i.Source != nil {
			n.Network = networkName(i.Source)
			if i.Source.Hostdev != nil {
				n.Model = "virtio"
				d.left = append(d.left, fmt.Sprintf("network card %s is a device of the host that was passed through: it comes back as a virtio card", n.MAC))
			}
		}
		d.machine.NICs = append(d.machine.NICs, n)
	}
}

// cardModel drops what kind of virtio it is: every guest of one drives the other.
func cardModel(model string) string {
	if strings.HasPrefix(model, "virtio") {
		return "virtio"
	}
	return model
}

func networkName(s *libvirtxml.DomainInterfaceSource) string {
	switch {
	case s.Network != nil:
		return s.Network.Network
	case s.Bridge != nil:
		return s.Bridge.Bridge
	case s.Direct != nil:
		return s.Direct.Dev
	}
	return ""
}

// setLeft says what else the machine has that a point does not hold.
func (d *description) setLeft(doc *libvirtxml.Domain) {
	if arch := doc.OS.Type.Arch; arch != "" && arch != "x86_64" && arch != "i686" {
		d.left = append(d.left, "it is a machine for "+hypervisor.GuestWords(arch)+": Lifeboat keeps its disks, and boots PCs only")
	}
	if doc.OS.Kernel != "" {
		d.left = append(d.left, "it starts a kernel that lies on the host and not on its disks: that file is not kept")
	}
	for _, dev := range doc.Devices.Hostdevs {
		if what := passedThrough(dev); what != "" {
			d.left = append(d.left, what+" of the host was passed through: neither it nor what it stores is kept")
		}
	}
	for range doc.Devices.Filesystems {
		d.left = append(d.left, "it shares a folder of the host: what lies there is not kept")
	}
}

func passedThrough(dev libvirtxml.DomainHostdev) string {
	switch {
	case dev.SubsysPCI != nil:
		return "a PCI device"
	case dev.SubsysSCSI != nil, dev.SubsysSCSIHost != nil, dev.CapsStorage != nil:
		return "a storage device"
	case dev.SubsysMDev != nil:
		return "a part of a device"
	case dev.SubsysUSB != nil:
		return "a USB device"
	}
	return ""
}

// pciSlot is the form of a PCI address that lspci has, or "".
func pciSlot(a *libvirtxml.DomainAddress) string {
	if a == nil || a.PCI == nil || a.PCI.Bus == nil || a.PCI.Slot == nil {
		return ""
	}
	var domain, function uint
	if a.PCI.Domain != nil {
		domain = *a.PCI.Domain
	}
	if a.PCI.Function != nil {
		function = *a.PCI.Function
	}
	return fmt.Sprintf("%04x:%02x:%02x.%x", domain, *a.PCI.Bus, *a.PCI.Slot, function)
}

// diskKey is the form of a disk's key.
var diskKey = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)

// sight is a domain as it was found at one moment.
type sight struct {
	description
	power hypervisor.PowerState
	// byHand: it stands still because somebody asked libvirt for it, as a start
	// does at first.
	byHand bool
	// way is how its host is reached: "unix", "ssh", "tls".
	way string
	// transient: libvirt forgets the domain when it is switched off.
	transient bool
	// saved: it is off, and libvirt keeps its memory for the next start.
	saved bool
	// snapshots is how many internal snapshots it has.
	snapshots int
	// config is the definition and live, if it runs, what runs.
	config, live string
}
