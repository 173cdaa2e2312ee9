package qemu

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"lifeboat"
	"lifeboat/hypervisor"
)

// longestIdentity bounds what a guest reads about its computer.
const longestIdentity = 256

var wwnForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// identityWord says that a word may stand in a guest's SMBIOS tables.
func identityWord(s string) bool {
	return len(s) <= longestIdentity && hypervisor.Printable(s) == s
}

// checkIdentity refuses words of the processor, the computer and its TPM that
// are none.
func (d *definition) checkIdentity() error {
	m := &d.Machine
	switch {
	case !identityWord(m.SMBIOS.Manufacturer), !identityWord(m.SMBIOS.Product), !identityWord(m.SMBIOS.Serial):
		return errors.New("manufacturer, product and serial are short words without control characters")
	case m.Topology != nil && !fits(*m.Topology, m.CPUs):
		return fmt.Errorf("%d sockets of %d cores with %d threads are not %d CPUs", m.Topology.Sockets, m.Topology.Cores, m.Topology.Threads, m.CPUs)
	case m.TPM != nil && m.TPM.Version != "1.2" && m.TPM.Version != "2.0":
		return fmt.Errorf("TPM version %q is neither 1.2 nor 2.0", m.TPM.Version)
	case m.TPM != nil && m.TPM.Model != "" && m.TPM.Model != "tis" && m.TPM.Model != "crb",
		m.TPM != nil && m.TPM.Model == "crb" && m.TPM.Version == "1.2":
		return fmt.Errorf("TPM %s of model %q is not known: it is tis, or crb for version 2.0", m.TPM.Version, m.TPM.Model)
	case d.Generation != "" && !uuidForm.MatchString(d.Generation):
		return fmt.Errorf("generation %q is not a UUID", d.Generation)
	}
	for _, word := range m.HyperV {
		if !enlightenmentForm.MatchString(word) {
			return fmt.Errorf("%q is not a Hyper-V flag", word)
		}
	}
	return nil
}

// fits says that an arrangement has that many processors.
func fits(t lifeboat.Topology, cpus int) bool {
	return t.Sockets > 0 && t.Cores > 0 && t.Threads > 0 &&
		t.Sockets <= cpus && t.Cores <= cpus && t.Threads <= cpus && t.Sockets*t.Cores*t.Threads == cpus
}

// checkSeat refuses a bus that QEMU does not have, and words about a disk's place
// that are none.
func checkSeat(d lifeboat.Disk) error {
	_, ok := controllers[d.Bus]
	switch {
	case !ok && d.Bus != lifeboat.BusVirtio && d.Bus != lifeboat.BusNVMe:
		return fmt.Errorf("bus %q is not one that QEMU has", d.Bus)
	case d.WWN != "" && !wwnForm.MatchString(d.WWN):
		return fmt.Errorf("%q is not a world wide name of 16 hex digits", d.WWN)
	case d.Place != "" && !placeForm.MatchString(d.Place):
		return fmt.Errorf("place %q is not CONTROLLER:UNIT", d.Place)
	}
	return nil
}

// tidy leaves out what another host told of a machine and QEMU could not build:
// a recovery must not fail because of a word that changes little. What a person
// writes is refused instead.
func tidy(m *lifeboat.Machine) {
	for _, word := range []*string{&m.SMBIOS.Manufacturer, &m.SMBIOS.Product, &m.SMBIOS.Serial} {
		if !identityWord(*word) {
			*word = ""
		}
	}
	if m.Topology != nil && !fits(*m.Topology, m.CPUs) {
		m.Topology = nil
	}
	if !plainWord.MatchString(m.CPUModel) {
		m.CPUModel = ""
	}
	m.MemoryBytes = (m.MemoryBytes + 1<<20 - 1) &^ (1<<20 - 1)
	if m.TPM != nil {
		switch {
		case m.TPM.Version != "1.2":
			m.TPM.Version = "2.0"
		case m.TPM.Model != "tis":
			m.TPM.Model = "tis"
		}
		if m.TPM.Model != "tis" && m.TPM.Model != "crb" {
			m.TPM.Model = ""
		}
	}
	m.HyperV = slices.DeleteFunc(slices.Clone(m.HyperV), func(w string) bool { return !enlightenmentForm.MatchString(w) })
	for i := range m.Disks {
		d := &m.Disks[i]
		if d.WWN != "" && !wwnForm.MatchString(d.WWN) {
			d.WWN = ""
		}
		if d.Place != "" && !placeForm.MatchString(d.Place) {
			d.Place = ""
		}
	}
}
