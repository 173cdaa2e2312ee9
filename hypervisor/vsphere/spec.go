package vsphere

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// describe is the machine in Lifeboat's words. Portgroups are the names of the
// distributed port groups, by their keys.
//
// What stays empty on purpose: manufacturer and product (a guest that reads
// "VMware" there starts tools that speak to a hypervisor that is not below it),
// the CPU model (vSphere shows the guest the processor that the host has), and
// the variables of UEFI firmware (VMware's file is not the format of any other
// firmware; it is kept beside the native description).
func (f *found) describe(portgroups map[string]string) lifeboat.Machine {
	c := f.vm.Config
	m := lifeboat.Machine{
		Version: lifeboat.MachineVersion, ID: f.id(), Name: hypervisor.Printable(f.name()),
		UUID:         guestUUID(c.Uuid, swapsUUID(c)),
		SMBIOS:       lifeboat.SMBIOS{Serial: serialOf(c.Uuid)},
		GenerationID: f.setting("vm.genid") != "" || f.setting("vm.genidX") != "",
		Firmware:     firmwareOf(c),
		CPUs:         int(c.Hardware.NumCPU), Topology: topologyOf(&c.Hardware),
		MemoryBytes: int64(c.Hardware.MemoryMB) << 20,
		GuestFamily: familyOf(f), GuestSystem: hypervisor.Printable(c.GuestId),
		Disks: f.disks(), NICs: f.cards(portgroups),
	}
	// Windows keeps local time in the hardware clock, on every hypervisor.
	m.ClockLocal = m.GuestFamily == "windows"
	for _, d := range c.Hardware.Device {
		if _, ok := d.(*types.VirtualTPM); ok {
			// Its state is sealed by the key server of vCenter.
			m.TPM = &lifeboat.TPM{Version: "2.0", Model: "crb"}
		}
	}
	for _, d := range m.Disks {
		// Of the boards that Lifeboat builds, the older one alone has IDE.
		if d.Bus == lifeboat.BusIDE && !m.Firmware.SecureBoot {
			m.Chipset = lifeboat.ChipsetI440FX
		}
	}
	if f.vm.Guest != nil {
		f.addGuest(&m)
	}
	return m
}

func firmwareOf(c *types.VirtualMachineConfigInfo) lifeboat.Firmware {
	if c.Firmware != string(types.GuestOsDescriptorFirmwareTypeEfi) {
		return lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}
	}
	secure := c.BootOptions != nil && isTrue(c.BootOptions.EfiSecureBootEnabled)
	return lifeboat.Firmware{Kind: lifeboat.FirmwareUEFI, SecureBoot: secure}
}

func isTrue(b *bool) bool { return b != nil && *b }

// topologyOf is nil where every processor is a socket.
func topologyOf(h *types.VirtualHardware) *lifeboat.Topology {
	if h.NumCoresPerSocket == nil {
		return nil
	}
	cores, cpus := int(*h.NumCoresPerSocket), int(h.NumCPU)
	if cores <= 1 || cpus%cores != 0 {
		return nil
	}
	return &lifeboat.Topology{Sockets: cpus / cores, Cores: cores, Threads: 1}
}

// swapsUUID says whether the guest reads the first three fields of its UUID the
// other way round than vSphere writes them. vSphere writes the bytes as they lie
// in the SMBIOS table, first byte first. Since SMBIOS 2.6 the three fields are
// read last byte first; machines up to hardware version 12 have SMBIOS 2.4,
// where Linux reads them in their order. Windows always reads them last byte
// first. (VMware's KB 53609 says the same of hardware version 13.)
func swapsUUID(c *types.VirtualMachineConfigInfo) bool {
	return familyOfID(c.GuestId) == "windows" || hardwareVersion(c.Version) >= 13
}

// hardwareVersion is the number in "vmx-13"; an unknown one counts as new.
func hardwareVersion(version string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(version, "vmx-"))
	if err != nil {
		return 1 << 16
	}
	return n
}

// guestUUID turns a BIOS UUID of vSphere into the one that the guest reads, and
// back; "" if it is none.
func guestUUID(text string, swap bool) string {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		return ""
	}
	if swap {
		b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
		b[4], b[5] = b[5], b[4]
		b[6], b[7] = b[7], b[6]
	}
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// serialOf is the serial number that VMware's firmware makes of a BIOS UUID:
// "VMware-42 1f 24 5c 7f a8 60 fa-6a f6 a4 63 51 ce d0 eb".
func serialOf(uuid string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	if err != nil || len(b) != 16 {
		return ""
	}
	var s strings.Builder
	s.WriteString("VMware-")
	for i, one := range b {
		switch i {
		case 0:
		case 8:
			s.WriteByte('-')
		default:
			s.WriteByte(' ')
		}
		s.WriteString(hex.EncodeToString([]byte{one}))
	}
	return s.String()
}

// families are the beginnings of vSphere's guest ids.
var families = []struct{ prefix, family string }{
	{"win", "windows"}, {"freebsd", "bsd"},
	{"almalinux", "linux"}, {"amazonlinux", "linux"}, {"asianux", "linux"}, {"centos", "linux"},
	{"coreos", "linux"}, {"crxPod", "linux"}, {"crxSys", "linux"}, {"debian", "linux"}, {"fedora", "linux"},
	{"flatcar", "linux"}, {"genericLinux", "linux"}, {"kylin", "linux"}, {"mandr", "linux"}, {"miracleLinux", "linux"},
	{"nld", "linux"}, {"opensuse", "linux"}, {"oracleLinux", "linux"}, {"other2", "linux"}, {"other3", "linux"},
	{"other4", "linux"}, {"other5", "linux"}, {"other6", "linux"}, {"other7", "linux"}, {"otherLinux", "linux"},
	{"pardus", "linux"}, {"photon", "linux"}, {"redhat", "linux"}, {"rhel", "linux"}, {"rocky", "linux"},
	{"sjds", "linux"}, {"sles", "linux"}, {"suse", "linux"}, {"turboLinux", "linux"}, {"ubuntu", "linux"},
	{"vmwarePhoton", "linux"},
}

// familyOfID is what a guest id ("debian12_64Guest") says; "" where it says
// nothing.
func familyOfID(id string) string {
	for _, known := range families {
		if strings.HasPrefix(id, known.prefix) {
			return known.family
		}
	}
	return ""
}

// familyOf believes the guest's tools before what somebody once chose in a list.
func familyOf(f *found) string {
	if f.vm.Guest != nil {
		switch f.vm.Guest.GuestFamily {
		case string(types.VirtualMachineGuestOsFamilyWindowsGuest):
			return "windows"
		case string(types.VirtualMachineGuestOsFamilyLinuxGuest):
			return "linux"
		}
	}
	return familyOfID(f.vm.Config.GuestId)
}
