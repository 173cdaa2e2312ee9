package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"lifeboat"
)

// firmwareFile is a UEFI build for virtual machines: its code, and an empty
// store of variables that fits it.
type firmwareFile struct {
	Code, CodeFormat         string
	Template, TemplateFormat string
	SecureBoot, EnrolledKeys bool
	NeedsSMM                 bool
	machines                 []string
}

// firmwareDescriptor is the part we read of the files that describe installed
// firmware, one per build, in the form that QEMU's documentation gives them.
type firmwareDescriptor struct {
	InterfaceTypes []string `json:"interface-types"`
	Mapping        struct {
		Device        string   `json:"device"`
		Mode          string   `json:"mode"`
		Executable    flashRef `json:"executable"`
		NVRAMTemplate flashRef `json:"nvram-template"`
	} `json:"mapping"`
	Targets []struct {
		Architecture string   `json:"architecture"`
		Machines     []string `json:"machines"`
	} `json:"targets"`
	Features []string `json:"features"`
}

type flashRef struct {
	Filename string `json:"filename"`
	Format   string `json:"format"`
}

// firmwareDirs hold descriptors. A file in an earlier folder replaces one of the
// same name in a later one.
var firmwareDirs = []string{"/etc/qemu/firmware", "/usr/local/share/qemu/firmware", "/usr/share/qemu/firmware"}

// installedFirmware lists the UEFI builds for 64-bit PCs, best first.
func installedFirmware(dirs []string) []firmwareFile {
	found := map[string][]byte{}
	for _, dir := range dirs {
		names, _ := filepath.Glob(filepath.Join(dir, "*.json"))
		for _, name := range names {
			if _, ok := found[filepath.Base(name)]; ok {
				continue
			}
			if data, err := os.ReadFile(name); err == nil {
				found[filepath.Base(name)] = data
			}
		}
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	var list []firmwareFile
	for _, name := range names {
		if f, ok := readDescriptor(found[name]); ok {
			list = append(list, f)
		}
	}
	return list
}

// readDescriptor returns the firmware that a descriptor tells of, if it is one
// for our machines and its files are there.
func readDescriptor(data []byte) (firmwareFile, bool) {
	var d firmwareDescriptor
	if json.Unmarshal(data, &d) != nil || !slices.Contains(d.InterfaceTypes, "uefi") ||
		d.Mapping.Device != "flash" || d.Mapping.Mode != "" && d.Mapping.Mode != "split" {
		return firmwareFile{}, false
	}
	f := firmwareFile{
		Code: d.Mapping.Executable.Filename, CodeFormat: d.Mapping.Executable.Format,
		Template: d.Mapping.NVRAMTemplate.Filename, TemplateFormat: d.Mapping.NVRAMTemplate.Format,
		SecureBoot:   slices.Contains(d.Features, "secure-boot"),
		EnrolledKeys: slices.Contains(d.Features, "enrolled-keys"),
		NeedsSMM:     slices.Contains(d.Features, "requires-smm"),
	}
	for _, t := range d.Targets {
		if t.Architecture == "x86_64" {
			f.machines = append(f.machines, t.Machines...)
		}
	}
	for _, file := range []string{f.Code, f.Template} {
		if _, err := os.Stat(file); err != nil {
			return firmwareFile{}, false
		}
	}
	return f, len(f.machines) > 0
}

// fits says that the firmware is made for a chipset.
func (f firmwareFile) fits(c lifeboat.Chipset) bool {
	sample := "pc-q35-0"
	if c == lifeboat.ChipsetI440FX {
		sample = "pc-i440fx-0"
	}
	for _, pattern := range f.machines {
		if ok, _ := filepath.Match(pattern, sample); ok || pattern == sample {
			return true
		}
	}
	return false
}

// chooseFirmware picks the build for a machine. Keys that somebody enrolled
// refuse unsigned boot loaders, so they are chosen only for a machine that had
// Secure Boot. A store of variables fits only firmware of its own size.
func chooseFirmware(list []firmwareFile, m *lifeboat.Machine, nvramSize int64) (firmwareFile, error) {
	for _, f := range list {
		secure := f.SecureBoot && f.EnrolledKeys
		if !f.fits(chipset(m)) || secure != m.Firmware.SecureBoot || f.SecureBoot && !secure {
			continue
		}
		if nvramSize > 0 && f.TemplateFormat == "raw" {
			if info, err := os.Stat(f.Template); err != nil || info.Size() != nvramSize {
				continue
			}
		}
		return f, nil
	}
	what := "UEFI firmware"
	if m.Firmware.SecureBoot {
		what += " with Secure Boot"
	}
	return firmwareFile{}, &lifeboat.Problem{
		What: fmt.Sprintf("%s: there is no %s on this host that fits the machine", m.Name, what),
		Safe: "nothing was changed",
		Next: "install the firmware, for example: apt-get install ovmf  (dnf install edk2-ovmf)",
	}
}

// prepareFirmware makes sure that a UEFI machine has its store of variables and
// returns the firmware to start it with.
func (m *machine) prepareFirmware(ctx context.Context) (*firmwareFile, error) {
	if m.def.Machine.Firmware.Kind != lifeboat.FirmwareUEFI {
		return nil, nil
	}
	path := m.path(nvramFile)
	var size int64
	info, err := os.Stat(path)
	switch {
	case err == nil:
		size = info.Size()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("look at the firmware variables of %s: %w", m.name(), err)
	}
	f, err := chooseFirmware(installedFirmware(firmwareDirs), &m.def.Machine, size)
	if err != nil || size > 0 {
		return &f, err
	}
	return &f, m.copyTemplate(ctx, f)
}

func (m *machine) copyTemplate(ctx context.Context, f firmwareFile) error {
	if f.TemplateFormat == "raw" {
		data, err := os.ReadFile(f.Template)
		if err == nil {
			err = writeFile(m.dir, nvramFile, data)
		}
		if err != nil {
			return fmt.Errorf("give %s its firmware variables: %w", m.name(), err)
		}
		return nil
	}
	// Made under another name: a torn copy must not pass for the variables.
	half := m.path(nvramFile + ".tmp")
	if _, err := m.host.image(ctx, "convert", "-f", f.TemplateFormat, "-O", "raw", f.Template, half); err != nil {
		return fmt.Errorf("give %s its firmware variables: %w", m.name(), err)
	}
	return os.Rename(half, m.path(nvramFile))
}

// readNVRAM returns the firmware variables as they are, or nil for a BIOS.
func (m *machine) readNVRAM() ([]byte, error) {
	if m.def.Machine.Firmware.Kind != lifeboat.FirmwareUEFI {
		return nil, nil
	}
	data, err := os.ReadFile(m.path(nvramFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the firmware variables of %s: %w", m.name(), err)
	}
	return data, nil
}

// describeFirmware is one line for a person.
func describeFirmware(list []firmwareFile) string {
	var names []string
	for _, f := range list {
		names = append(names, filepath.Base(f.Code))
	}
	return strings.Join(names, ", ")
}
