package libvirt

import (
	"fmt"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat/hypervisor"
)

// abilityFindings reads libvirt's capabilities for PCs.
func abilityFindings(text string) ([]hypervisor.Finding, error) {
	var caps libvirtxml.DomainCaps
	if err := caps.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("read what machines may have: %w", err)
	}
	return []hypervisor.Finding{backupFinding(&caps), firmwareFinding(&caps), tpmFinding(&caps)}, nil
}

func backupFinding(caps *libvirtxml.DomainCaps) hypervisor.Finding {
	f := hypervisor.Finding{What: "backups of running machines"}
	f.OK = caps.Features != nil && caps.Features.Backup != nil && caps.Features.Backup.Supported == "yes"
	if f.Detail = "libvirt and QEMU can, and track what changes on qcow2 disks"; !f.OK {
		f.Detail = "this libvirt or its QEMU is too old: machines are exported while they are off, and read whole"
	}
	return f
}

// firmwareFinding looks for UEFI that starts a loader that nobody signed.
func firmwareFinding(caps *libvirtxml.DomainCaps) hypervisor.Finding {
	f := hypervisor.Finding{What: "UEFI firmware", Detail: "not installed; machines with UEFI need it: apt-get install ovmf, or dnf install edk2-ovmf"}
	if caps.OS == nil || caps.OS.Loader == nil || !slices.Contains(values(caps.OS.Enums, "firmware"), "efi") {
		return f
	}
	secure := values(caps.OS.Loader.Enums, "secure")
	switch {
	case slices.Contains(secure, "no") && slices.Contains(secure, "yes"):
		f.OK, f.Detail = true, "with and without Secure Boot"
	case slices.Contains(secure, "no"):
		f.OK, f.Detail = true, "without Secure Boot alone; machines that had it start without"
	default:
		f.Detail = "with Secure Boot alone; machines that had none do not start on it"
	}
	return f
}

func tpmFinding(caps *libvirtxml.DomainCaps) hypervisor.Finding {
	f := hypervisor.Finding{What: "TPM", Detail: "no emulator; machines with a TPM need it: apt-get install swtpm swtpm-tools"}
	if caps.Devices != nil && caps.Devices.TPM != nil && slices.Contains(values(caps.Devices.TPM.Enums, "backendModel"), "emulator") {
		f.OK, f.Detail = true, "emulated by swtpm"
	}
	return f
}

func values(enums []libvirtxml.DomainCapsEnum, name string) []string {
	for _, e := range enums {
		if e.Name == name {
			return e.Values
		}
	}
	return nil
}

// machineFindings says what of an export of this machine does not work, or works
// less well than it could. Untracked is why its changes are not tracked, or empty.
func machineFindings(s *sight, untracked string) []hypervisor.Finding {
	name := s.machine.Name
	if refused := refusedWords(s.refusals(nil)); refused != "" {
		return []hypervisor.Finding{{What: "export of " + name, Detail: refused}}
	}
	tracking := hypervisor.Finding{What: "change tracking of " + name, OK: true, Detail: "all disks"}
	var raw []string
	for _, d := range s.disks {
		if d.format != "qcow2" && !d.readOnly {
			raw = append(raw, d.key+" ("+hypervisor.GuestWords(d.format)+")")
		}
	}
	switch {
	case untracked != "":
		tracking.OK, tracking.Detail = false, untracked+": read whole each time, though only what is new is stored"
	case len(raw) > 0:
		tracking.OK = false
		tracking.Detail = "not for " + strings.Join(raw, ", ") + ": read whole each time, though only what is new is stored"
	}
	findings := []hypervisor.Finding{tracking}
	if s.power == hypervisor.PowerOff {
		return findings
	}
	agent := hypervisor.Finding{What: "agent of " + name, OK: true, Detail: "connected"}
	switch {
	case !s.machine.Agent:
		agent.OK, agent.Detail = false, "the machine has no channel for one: its file systems are not frozen, and points of it are as after a power cut"
	case !s.agentConnected:
		agent.OK, agent.Detail = false, "nobody answers in the guest: install and start qemu-guest-agent there"
	}
	return append(findings, agent)
}
