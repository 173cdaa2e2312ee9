package libvirt

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
)

// libvirtName is what libvirt calls a machine. It takes every name without a
// slash; another character stands for that, which looks like one.
func libvirtName(name string) string { return strings.ReplaceAll(name, "/", "\u2215") }

// checkDefinition says why a machine cannot be defined, whatever the host.
func checkDefinition(d hypervisor.Definition) error {
	if d.Name != hypervisor.Printable(d.Name) || strings.TrimSpace(d.Name) == "" {
		return fmt.Errorf("libvirt takes no name such as %q: choose another: --rename MACHINE=NAME", hypervisor.GuestWords(d.Name))
	}
	if d.Machine.MemoryBytes < 1<<20 {
		return errors.New("it has no memory")
	}
	seen := map[string]bool{}
	for _, disk := range d.Machine.Disks {
		switch {
		case !diskKey.MatchString(disk.Key) || seen[disk.Key]:
			return fmt.Errorf("disk key %q is not usable", disk.Key)
		case busKinds[disk.Bus].target == "":
			return fmt.Errorf("disk %s is on bus %q: %w", disk.Key, disk.Bus, hypervisor.ErrUnsupported)
		case disk.SizeBytes < 1 && d.Disks[disk.Key].File == nil:
			return fmt.Errorf("disk %s has no size", disk.Key)
		case disk.WWN != "" && !wwnForm.MatchString(disk.WWN):
			return fmt.Errorf("disk %s has the world wide name %q, which is not one", disk.Key, hypervisor.GuestWords(disk.WWN))
		}
		seen[disk.Key] = true
	}
	for key, b := range d.Disks {
		if !seen[key] {
			return fmt.Errorf("there is a source for a disk %q that the machine does not have", key)
		}
		count := 0
		for _, given := range []bool{b.Copy != nil, b.NBD != nil, b.File != nil} {
			if given {
				count++
			}
		}
		if count != 1 {
			return fmt.Errorf("disk %s needs exactly one source", key)
		}
		if b.File != nil && b.File.Format != "raw" && b.File.Format != "qcow2" {
			return fmt.Errorf("disk %s is of format %q; there are raw and qcow2", key, b.File.Format)
		}
	}
	return checkNICs(d)
}

func checkNICs(d hypervisor.Definition) error {
	for _, nic := range d.Machine.NICs {
		if nic.Model != "" && !slices.Contains(cards, nic.Model) {
			return fmt.Errorf("network card model %q: %w", hypervisor.GuestWords(nic.Model), hypervisor.ErrUnsupported)
		}
		if nic.MAC != "" && !macForm.MatchString(nic.MAC) {
			return fmt.Errorf("%q is not an Ethernet address", hypervisor.GuestWords(nic.MAC))
		}
	}
	for _, n := range d.Networks {
		if n.Kind == hypervisor.NetworkUser && len(n.Forwards) > 0 {
			return fmt.Errorf("libvirt forwards no ports to a machine behind address translation: put it on a private network (--network segment): %w", hypervisor.ErrUnsupported)
		}
	}
	return nil
}

var (
	wwnForm = regexp.MustCompile(`^[0-9a-f]{16}$`)
	macForm = regexp.MustCompile(`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$`)
)

// withMACs gives every card an address: its own, a fresh one if that is asked
// for, or one that follows from the machine and the place of the card, because a
// guest names its card after it and the next boot has to give the same.
func withMACs(id string, nics []lifeboat.NIC, fresh bool) []lifeboat.NIC {
	all := slices.Clone(nics)
	for i := range all {
		switch {
		case fresh:
			b := make([]byte, 3)
			rand.Read(b)
			all[i].MAC = ownMAC(b)
		case all[i].MAC == "":
			sum := sha256.Sum256(fmt.Appendf(nil, "mac\x00%s\x00%d", id, i))
			all[i].MAC = ownMAC(sum[:3])
		}
	}
	return all
}

// ownMAC is an address from the range that QEMU's machines have.
func ownMAC(b []byte) string { return fmt.Sprintf("52:54:00:%02x:%02x:%02x", b[0], b[1], b[2]) }

func newID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// newUUID is a random UUID (RFC 9562, version 4).
func newUUID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// longestName bounds the part of a volume's name that is the machine's.
const longestName = 40

var unusual = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// volumeName is the name of a file that is made for a machine. A person finds the
// machine in it; no two machines share one.
func volumeName(name, uuid, rest string) string {
	plain := strings.Trim(unusual.ReplaceAllString(name, "-"), ".-")
	return fmt.Sprintf("lifeboat-%.*s-%s-%s", longestName, plain, uuid[:8], rest)
}

// isVolumeOf says that volumeName gave that name to a volume of the domain.
func isVolumeOf(volume, uuid string) bool {
	return strings.HasPrefix(volume, "lifeboat-") && len(uuid) > 8 && strings.Contains(volume, "-"+uuid[:8]+"-")
}

// hostFacts are what a definition depends on.
type hostFacts struct {
	// kvm: libvirt runs PCs under KVM.
	kvm bool
	// qemuUID is the user that QEMU runs as.
	qemuUID uint32
	// confining are the mandatory security models of the host, "apparmor" or
	// "selinux".
	confining []string
}

// factsOf reads a host's capabilities.
func factsOf(capabilities string) (hostFacts, error) {
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(capabilities); err != nil {
		return hostFacts{}, fmt.Errorf("read the host's capabilities: %w", err)
	}
	var f hostFacts
	for _, guest := range caps.Guests {
		if guest.Arch.Name != "x86_64" {
			continue
		}
		for _, domain := range guest.Arch.Domains {
			f.kvm = f.kvm || domain.Type == "kvm"
		}
	}
	for _, model := range caps.Host.SecModel {
		if model.Name != "dac" && model.Name != "none" {
			f.confining = append(f.confining, model.Name)
		}
	}
	var err error
	f.qemuUID, err = qemuUser(caps)
	return f, err
}
