package qemu

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/internal/durable"
)

// The files of a machine's folder.
const (
	definitionFile = "machine.json"
	runningFile    = "running.json"
	lockFile       = "lock"
	nvramFile      = "nvram.fd"
	serialLogFile  = "serial.log"
	qemuLogFile    = "qemu.log"
)

// definitionVersion is the version of machine.json that this program writes.
const definitionVersion = 1

// definitionLimit bounds a machine.json: far more than any machine needs.
const definitionLimit = 4 << 20

// definition is the content of a machine.json: the neutral description and what
// is particular to this host. People may write one by hand; see DESIGN.md.
type definition struct {
	Version int              `json:"version"`
	Machine lifeboat.Machine `json:"machine"`
	// Disks says, per key of Machine.Disks, where the bytes are.
	Disks map[string]diskFile `json:"disks"`
	// Networks says, per NIC in order, where its cable goes.
	Networks []hypervisor.Network `json:"networks,omitempty"`
	Recovery string               `json:"recovery,omitempty"`
	// Settled is the run that Recovery was before the disks were moved here.
	Settled     string      `json:"settled,omitempty"`
	Throwaway   bool        `json:"throwaway,omitempty"`
	Accelerator Accelerator `json:"accelerator,omitempty"`
	// Generation is the VM generation id of a machine that has one. It is made
	// with the machine and stays with it.
	Generation string `json:"generation,omitempty"`
}

// diskFile is where the bytes of a disk are.
type diskFile struct {
	// File is the image; a relative path starts at the machine's folder.
	File string `json:"file"`
	// Format is "raw" or "qcow2".
	Format string `json:"format"`
	// Made says that Lifeboat made the file, so that Remove may delete it.
	Made bool `json:"made,omitempty"`
	// Base is what the image is an overlay of.
	Base *hypervisor.NBDBacking `json:"base,omitempty"`
}

var (
	diskKey    = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)
	hexID      = regexp.MustCompile(`^[0-9a-f]{32}$`)
	uuidForm   = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	macForm    = regexp.MustCompile(`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$`)
	plainWord  = regexp.MustCompile(`^[A-Za-z0-9_.,+=-]*$`)
	bridgeForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`)
)

// parseDefinition reads a machine.json. What it does not know, it refuses: a
// misspelt word in a hand-written file must not become a machine without a disk.
func parseDefinition(data []byte) (definition, error) {
	var d definition
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return definition{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return definition{}, errors.New("something follows the description")
	}
	return d, d.check()
}

func (d *definition) encode() ([]byte, error) {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// check refuses what QEMU could misunderstand: everything that becomes part of
// a command line has a form.
func (d *definition) check() error {
	m := &d.Machine
	switch {
	case d.Version < 1 || d.Version > definitionVersion:
		return fmt.Errorf("version %d is not one that this program knows (1 to %d)", d.Version, definitionVersion)
	case strings.TrimSpace(m.Name) == "" || strings.ContainsAny(m.Name, "\x00\n\r"):
		return errors.New("the machine has no usable name")
	case m.ID != "" && !hexID.MatchString(m.ID):
		return fmt.Errorf("id %q is not 32 lower-case hex digits", m.ID)
	case m.UUID != "" && !uuidForm.MatchString(m.UUID):
		return fmt.Errorf("uuid %q is not one", m.UUID)
	case m.CPUs < 1 || m.CPUs > 1024:
		return fmt.Errorf("%d CPUs cannot be", m.CPUs)
	case m.MemoryBytes < 1<<20 || m.MemoryBytes%(1<<20) != 0:
		return fmt.Errorf("memory of %d bytes is not a whole number of MiB", m.MemoryBytes)
	case !plainWord.MatchString(m.CPUModel):
		return fmt.Errorf("CPU model %q is not one", m.CPUModel)
	case m.Firmware.Kind != lifeboat.FirmwareBIOS && m.Firmware.Kind != lifeboat.FirmwareUEFI:
		return fmt.Errorf("firmware %q is neither bios nor uefi", m.Firmware.Kind)
	case m.Chipset != "" && m.Chipset != lifeboat.ChipsetQ35 && m.Chipset != lifeboat.ChipsetI440FX:
		return fmt.Errorf("chipset %q is neither q35 nor i440fx", m.Chipset)
	case d.Accelerator != AcceleratorAuto && d.Accelerator != AcceleratorKVM && d.Accelerator != AcceleratorTCG:
		return fmt.Errorf("accelerator %q is neither kvm nor tcg", d.Accelerator)
	}
	return errors.Join(d.checkIdentity(), d.checkDisks(), d.checkNICs())
}

func (d *definition) checkDisks() error {
	seen := map[string]bool{}
	for _, disk := range d.Machine.Disks {
		file, ok := d.Disks[disk.Key]
		switch {
		case !diskKey.MatchString(disk.Key) || seen[disk.Key]:
			return fmt.Errorf("disk key %q is not usable, or there twice", disk.Key)
		case !ok:
			return fmt.Errorf("disk %s has no file", disk.Key)
		case file.File == "" || strings.ContainsRune(file.File, 0):
			return fmt.Errorf("disk %s has no usable file name", disk.Key)
		case file.Made && file.File != filepath.Base(file.File):
			return fmt.Errorf("disk %s: a file that Lifeboat made is in the machine's folder, not at %s", disk.Key, file.File)
		case file.Format != "raw" && file.Format != "qcow2":
			return fmt.Errorf("disk %s: format %q is neither raw nor qcow2", disk.Key, file.Format)
		case file.Base != nil && file.Format != "qcow2":
			return fmt.Errorf("disk %s: an overlay is a qcow2 file", disk.Key)
		}
		if err := checkSeat(disk); err != nil {
			return fmt.Errorf("disk %s: %w", disk.Key, err)
		}
		seen[disk.Key] = true
	}
	onIDE := 0
	for _, s := range planSeats(&d.Machine) {
		if s.bus == lifeboat.BusIDE {
			onIDE++
		}
	}
	if onIDE > mostOnIDE {
		return fmt.Errorf("%d disks on IDE: the board takes %d", onIDE, mostOnIDE)
	}
	for key := range d.Disks {
		if !seen[key] {
			return fmt.Errorf("file for a disk %q that the machine does not have", key)
		}
	}
	return nil
}

func (d *definition) checkNICs() error {
	if len(d.Networks) > len(d.Machine.NICs) {
		return errors.New("there are more networks than network cards")
	}
	if len(d.Machine.NICs) > mostNICs {
		return fmt.Errorf("more than %d network cards are not supported", mostNICs)
	}
	for i, nic := range d.Machine.NICs {
		if !macForm.MatchString(nic.MAC) {
			return fmt.Errorf("network card %d: %q is not a MAC address", i, nic.MAC)
		}
		if _, ok := nicDevices[nic.Model]; !ok {
			return fmt.Errorf("network card %d: model %q is not known", i, nic.Model)
		}
	}
	for i, n := range d.Networks {
		switch n.Kind {
		case hypervisor.NetworkNone, hypervisor.NetworkUser, "":
		case hypervisor.NetworkSegment:
			if n.Name == "" {
				return fmt.Errorf("network %d: a segment needs a name", i)
			}
		case hypervisor.NetworkBridge:
			if !bridgeForm.MatchString(n.Name) {
				return fmt.Errorf("network %d: %q is not the name of a bridge", i, n.Name)
			}
		case hypervisor.NetworkLab:
			if n.Name == "" || !filepath.IsAbs(n.Lab) {
				return fmt.Errorf("network %d: a lab needs its folder and the name of a network", i)
			}
		default:
			return fmt.Errorf("network %d: kind %q is not known", i, n.Kind)
		}
	}
	return nil
}

// loadDefinition reads the definition in a machine's folder.
func loadDefinition(dir string) (definition, error) {
	f, err := os.Open(filepath.Join(dir, definitionFile))
	if err != nil {
		return definition{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, definitionLimit+1))
	if err != nil {
		return definition{}, err
	}
	if len(data) > definitionLimit {
		return definition{}, errors.New("the description is larger than any machine needs")
	}
	return parseDefinition(data)
}

// saveDefinition writes it so that a power cut leaves the old or the new one.
func saveDefinition(dir string, d *definition) error {
	if err := d.check(); err != nil {
		return err
	}
	data, err := d.encode()
	if err != nil {
		return err
	}
	return writeFile(dir, definitionFile, data)
}

// writeFile stores a small file in a machine's folder so that it survives a
// power cut, whole or not at all.
func writeFile(dir, name string, data []byte) error {
	folder, err := durable.OpenPrivate(dir)
	if err != nil {
		return err
	}
	if c, ok := folder.(io.Closer); ok {
		defer c.Close()
	}
	return durable.WriteFileAtomic(folder, name, data)
}

// newID returns 32 random hex digits.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
