package libvirt

import (
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
)

// reconnectSeconds is how long a guest waits for a disk server that is gone
// before it sees an error: longer than any recovery.
const reconnectSeconds = 30 * 24 * 3600

// build is everything that a domain's XML depends on beside the definition.
type build struct {
	name string
	// uuid is the domain's. The guest sees the machine's own, which is another
	// one where production runs on the same host.
	uuid string
	kvm  bool
	// disks are the files of the disks, by key.
	disks map[string]diskFile
	// nvram is the file of the firmware variables, for UEFI.
	nvram string
	// serialLog keeps what the guest prints.
	serialLog string
	// unconfined are the security models that a machine is freed of while it
	// reads from a disk server.
	unconfined []string
	ours       ours
}

// diskFile is where the bytes of a disk are: a file, and for an overlay what is
// under it.
type diskFile struct {
	path, format string
	base         *hypervisor.NBDBacking
}

// domainXML is the description of a machine in libvirt's words. It is a pure
// function of the definition and b.
func domainXML(d hypervisor.Definition, b build) (string, error) {
	m := &d.Machine
	pci := newSlots(board(m))
	disks, controllers, err := diskXML(d, b, pci)
	if err != nil {
		return "", err
	}
	interfaces, err := interfaceXML(d, pci)
	if err != nil {
		return "", err
	}
	domain := &libvirtxml.Domain{
		Type: "qemu", Name: b.name, UUID: b.uuid,
		Metadata: &libvirtxml.DomainMetadata{XML: b.ours.text() + systemXML(m.GuestSystem)},
		Memory:   &libvirtxml.DomainMemory{Value: uint(m.MemoryBytes >> 10), Unit: "KiB"},
		VCPU:     &libvirtxml.DomainVCPU{Value: uint(max(m.CPUs, 1))},
		OS:       osXML(m, b),
		SysInfo:  sysinfoXML(m.SMBIOS),
		Features: featuresXML(m, b.kvm),
		CPU:      cpuXML(m, b.kvm),
		Clock:    clockXML(m, b.kvm),
		Devices: &libvirtxml.DomainDeviceList{
			Disks: disks, Controllers: controllers, Interfaces: interfaces,
			Serials:    serialXML(b.serialLog),
			Channels:   agentXML(m.Agent),
			Graphics:   []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{Listeners: []libvirtxml.DomainGraphicListener{{Socket: &libvirtxml.DomainGraphicListenerSocket{}}}}}},
			Videos:     []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga"}}},
			TPMs:       tpmXML(m.TPM),
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
			RNGs: []libvirtxml.DomainRNG{{Model: "virtio", Backend: &libvirtxml.DomainRNGBackend{
				Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}}}},
		},
		QEMUOverride: overrides(d, b),
	}
	if b.kvm {
		domain.Type = "kvm"
	}
	for _, model := range b.unconfined {
		domain.SecLabel = append(domain.SecLabel, libvirtxml.DomainSecLabel{Type: "none", Model: model})
	}
	if m.GenerationID {
		// Without a value libvirt makes one now: the disks went back in time.
		domain.GenID = &libvirtxml.DomainGenID{}
	}
	if m.UUID != "" && !strings.EqualFold(m.UUID, b.uuid) {
		if !uuidForm.MatchString(m.UUID) {
			return "", fmt.Errorf("the machine's UUID %q is not one", hypervisor.GuestWords(m.UUID))
		}
		// libvirt refuses a <sysinfo> whose UUID is not the domain's.
		domain.QEMUCommandline = &libvirtxml.DomainQEMUCommandline{Args: []libvirtxml.DomainQEMUCommandlineArg{
			{Value: "-smbios"}, {Value: "type=1,uuid=" + strings.ToLower(m.UUID)}}}
	}
	return domain.Marshal()
}

// systemXML is libosinfo's word for the guest's system, which tools of libvirt
// show. Other hosts have other words.
func systemXML(system string) string {
	if !strings.HasPrefix(system, "http://") {
		return ""
	}
	var id strings.Builder
	_ = xml.EscapeText(&id, []byte(system)) // a Builder takes everything
	return `<libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0"><libosinfo:os id="` +
		id.String() + `"/></libosinfo:libosinfo>`
}

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// board is the family of the main board. libvirt gives IDE to one of them only,
// and a guest that used IDE, of which no more is known, had that one.
func board(m *lifeboat.Machine) lifeboat.Chipset {
	for _, d := range m.Disks {
		if d.Bus == lifeboat.BusIDE {
			return lifeboat.ChipsetI440FX
		}
	}
	if m.Chipset == lifeboat.ChipsetI440FX {
		return lifeboat.ChipsetI440FX
	}
	return lifeboat.ChipsetQ35
}

func osXML(m *lifeboat.Machine, b build) *libvirtxml.DomainOS {
	machine := "q35"
	if board(m) == lifeboat.ChipsetI440FX {
		machine = "pc"
	}
	os := &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: machine, Type: "hvm"}}
	if m.SMBIOS != (lifeboat.SMBIOS{}) {
		os.SMBios = &libvirtxml.DomainSMBios{Mode: "sysinfo"}
	}
	if m.Firmware.Kind != lifeboat.FirmwareUEFI {
		return os
	}
	// By itself libvirt may take firmware with Secure Boot and enrolled keys,
	// which refuses the boot loader of a guest that had none.
	enabled := "no"
	if m.Firmware.SecureBoot {
		enabled = "yes"
	}
	os.Firmware = "efi"
	os.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{Features: []libvirtxml.DomainOSFirmwareFeature{
		{Name: "secure-boot", Enabled: enabled}, {Name: "enrolled-keys", Enabled: enabled}}}
	os.NVRam = &libvirtxml.DomainNVRam{NVRam: b.nvram}
	return os
}

// sysinfoXML is what the guest reads about its computer.
func sysinfoXML(s lifeboat.SMBIOS) []libvirtxml.DomainSysInfo {
	var entries []libvirtxml.DomainSysInfoEntry
	for _, e := range []libvirtxml.DomainSysInfoEntry{
		{Name: "manufacturer", Value: s.Manufacturer}, {Name: "product", Value: s.Product}, {Name: "serial", Value: s.Serial},
	} {
		if e.Value = hypervisor.Printable(e.Value); e.Value != "" {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return []libvirtxml.DomainSysInfo{{SMBIOS: &libvirtxml.DomainSysInfoSMBIOS{System: &libvirtxml.DomainSysInfoSystem{Entry: entries}}}}
}

var (
	hostModel = regexp.MustCompile(`^(host|max|host-passthrough|host-model|maximum)?$`)
	modelName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// cpuXML chooses the processor. Without KVM "the host's" is slower than the
// oldest model that today's distributions start on.
func cpuXML(m *lifeboat.Machine, kvm bool) *libvirtxml.DomainCPU {
	cpu := &libvirtxml.DomainCPU{}
	switch {
	case !hostModel.MatchString(m.CPUModel) && modelName.MatchString(m.CPUModel):
		// Not checked: a host that lacks a feature still has to boot the guest.
		cpu.Mode, cpu.Match, cpu.Check = "custom", "exact", "none"
		cpu.Model = &libvirtxml.DomainCPUModel{Fallback: "allow", Value: m.CPUModel}
	case kvm:
		cpu.Mode, cpu.Check = "host-passthrough", "none"
	default:
		cpu.Mode, cpu.Match, cpu.Check = "custom", "exact", "none"
		cpu.Model = &libvirtxml.DomainCPUModel{Fallback: "allow", Value: "qemu64"}
		for _, name := range []string{"ssse3", "sse4.1", "sse4.2", "popcnt"} {
			cpu.Features = append(cpu.Features, libvirtxml.DomainCPUFeature{Policy: "force", Name: name})
		}
	}
	if t := m.Topology; t != nil && t.Sockets > 0 && t.Cores > 0 && t.Threads > 0 && t.Sockets*t.Cores*t.Threads == m.CPUs {
		cpu.Topology = &libvirtxml.DomainCPUTopology{Sockets: t.Sockets, Cores: t.Cores, Threads: t.Threads}
	}
	return cpu
}

func clockXML(m *lifeboat.Machine, kvm bool) *libvirtxml.DomainClock {
	clock := &libvirtxml.DomainClock{Offset: "utc"}
	if m.ClockLocal {
		clock.Offset = "localtime"
	}
	if kvm && len(m.HyperV) > 0 {
		// What Windows guests under KVM are given everywhere.
		clock.Timer = []libvirtxml.DomainTimer{{Name: "rtc", TickPolicy: "catchup"}, {Name: "pit", TickPolicy: "delay"},
			{Name: "hpet", Present: "no"}, {Name: "hypervclock", Present: "yes"}}
	}
	return clock
}

func serialXML(log string) []libvirtxml.DomainSerial {
	return []libvirtxml.DomainSerial{{
		Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
		Log:    &libvirtxml.DomainChardevLog{File: log, Append: "on"},
	}}
}

func agentXML(agent bool) []libvirtxml.DomainChannel {
	if !agent {
		return nil
	}
	return []libvirtxml.DomainChannel{{
		Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
		Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"}},
	}}
}

func tpmXML(t *lifeboat.TPM) []libvirtxml.DomainTPM {
	if t == nil {
		return nil
	}
	model, version := "tpm-tis", "2.0"
	if t.Version == "1.2" {
		version = "1.2"
	} else if t.Model == "crb" {
		model = "tpm-crb"
	}
	return []libvirtxml.DomainTPM{{Model: model, Backend: &libvirtxml.DomainTPMBackend{
		Emulator: &libvirtxml.DomainTPMBackendEmulator{Version: version}}}}
}
