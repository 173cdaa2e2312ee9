package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/hypervisor"
)

// description collects lines of a name and a value. Many values were said by a
// guest or a host: what a terminal could take for a command is left out.
type description struct{ out strings.Builder }

func (d *description) line(name, value string) {
	if value != "" {
		fmt.Fprintf(&d.out, "  %-10s %s\n", name, hypervisor.Printable(value))
	}
}

// words joins what is there.
func words(parts ...string) string {
	var there []string
	for _, p := range parts {
		if p != "" {
			there = append(there, p)
		}
	}
	return strings.Join(there, ", ")
}

// with puts a word before a value that is there.
func with(before, value string) string {
	if value == "" {
		return ""
	}
	return before + " " + value
}

// when is a word that holds under a condition.
func when(holds bool, word string) string {
	if !holds {
		return ""
	}
	return word
}

// describeMachine writes a machine's description for people: all that is needed
// to build it again.
func describeMachine(m lifeboat.Machine) string {
	var d description
	d.line("id", m.ID)
	d.line("system", words(m.GuestFamily, m.GuestSystem, with("calls itself", m.HostName), when(m.Agent, "has a line to an agent")))
	d.line("firmware", firmwareWords(m.Firmware))
	if m.TPM != nil {
		d.line("tpm", words(m.TPM.Version, m.TPM.Model, tpmWords(m.TPM)))
	}
	d.line("chipset", string(m.Chipset))
	d.line("cpu", processorWords(m))
	d.line("hyper-v", strings.Join(m.HyperV, " "))
	d.line("memory", humanBytes(m.MemoryBytes))
	d.line("clock", when(m.ClockLocal, "local time"))
	d.line("uuid", m.UUID)
	d.line("computer", words(m.SMBIOS.Manufacturer, m.SMBIOS.Product, with("serial", m.SMBIOS.Serial)))
	d.line("generation", when(m.GenerationID, "a new one at each boot from a point"))
	for _, disk := range m.Disks {
		d.line("disk", diskLine(disk))
	}
	for _, n := range m.NICs {
		d.line("nic", nicLine(n))
		d.line("", guestSideOf(n))
	}
	if n := m.Native; n != nil {
		d.line("original", words(n.Format, humanBytes(int64(len(n.Text)))+", word for word",
			with("with", strings.Join(slices.Sorted(maps.Keys(n.Files)), " "))))
	}
	return d.out.String()
}

func firmwareWords(f lifeboat.Firmware) string {
	return words(string(f.Kind), when(f.SecureBoot, "Secure Boot"),
		when(len(f.NVRAM) > 0, fmt.Sprintf("%d bytes of variables", len(f.NVRAM))))
}

func tpmWords(t *lifeboat.TPM) string {
	if len(t.State) > 0 {
		return "with what it keeps"
	}
	return "without what it keeps: a disk that is sealed to it needs its recovery key"
}

func processorWords(m lifeboat.Machine) string {
	arranged := ""
	if t := m.Topology; t != nil {
		arranged = fmt.Sprintf("%s of %s", count(t.Sockets, "socket"), count(t.Cores, "core"))
		if t.Threads > 1 {
			arranged += " with " + count(t.Threads, "thread")
		}
	}
	return words(fmt.Sprint(m.CPUs), arranged, m.CPUModel)
}

func diskLine(d lifeboat.Disk) string {
	sectors := ""
	if d.LogicalSectorBytes > 512 {
		sectors = fmt.Sprintf("sectors of %d", d.LogicalSectorBytes)
	}
	boot := ""
	if d.BootIndex > 0 {
		boot = fmt.Sprintf("boots as %d", d.BootIndex)
	}
	return words(d.Key, string(d.Bus), fmt.Sprintf("%d bytes", d.SizeBytes), with("at", d.Place), with("slot", d.PCISlot), sectors,
		with("serial", d.Serial), with("wwn", d.WWN), boot, with("excluded:", d.Excluded))
}

// nicLine is the card, guestSideOf what the guest made of it.
func nicLine(n lifeboat.NIC) string {
	return words(n.MAC, n.Model, with("slot", n.PCISlot), with("on", n.Network), strings.Join(n.Addresses, " "))
}

func guestSideOf(n lifeboat.NIC) string {
	seen := ""
	if !n.SeenAt.IsZero() {
		seen = "seen " + stamp(n.SeenAt)
	}
	said := words(with("is", n.Interface), with("gateway", n.Gateway), with("name servers", strings.Join(n.DNS, " ")))
	if said == "" {
		return ""
	}
	return words(said, seen)
}
