//go:build libvirt_dlopen && cgo

package libvirt

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/hypervisor"
)

// readState reads what a machine keeps beside its disks into s.machine: the
// variables of its firmware and the state of its TPM. What cannot be read is a
// sentence: the disks are worth a point without it.
func (d *domain) readState(ctx context.Context, s *sight) (notes []string) {
	note := func(what string, err error) {
		if err != nil {
			notes = append(notes, fmt.Sprintf("the point lacks %s: %s", what, hypervisor.GuestWords(err.Error())))
		}
	}
	if s.machine.Firmware.Kind == lifeboat.FirmwareUEFI {
		nvram, err := d.readNVRAM(ctx, s)
		s.machine.Firmware.NVRAM = nvram
		note("the variables of the UEFI firmware, with the boot entries", err)
	}
	if s.tpmState != "" {
		state, err := d.readTPM(ctx, s)
		s.machine.TPM.State = state
		note("the state of the TPM, so a guest that sealed a key to it asks for its recovery key", err)
	}
	return notes
}

// readStateAgain reads the variables of the firmware once more when the disks
// stand still: a guest may have written them since they were read first.
func (s *still) readStateAgain(ctx context.Context, seen *sight) {
	firmware := &s.description.Firmware
	if firmware.Kind != lifeboat.FirmwareUEFI {
		return
	}
	later, err := s.domain.readNVRAM(ctx, seen)
	if err != nil {
		return // said before, or those of a moment ago have to do
	}
	if firmware.NVRAM != nil && !bytes.Equal(firmware.NVRAM, later) {
		s.domain.h.note(s.domain.name, "its guest changed variables of the firmware while the export began: the point has the later ones")
	}
	firmware.NVRAM = later
}

// readNVRAM returns the variables of the firmware. A machine that never ran has
// none yet.
func (d *domain) readNVRAM(ctx context.Context, s *sight) ([]byte, error) {
	if s.nvramPath == "" {
		if s.power == hypervisor.PowerOff {
			return nil, nil
		}
		return nil, errors.New("libvirt does not say where they are")
	}
	found, err := d.h.readFiles(ctx, oneFile(s.nvramPath))
	if errors.Is(err, errNoFile) && s.power == hypervisor.PowerOff {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	nvram := found[path.Base(s.nvramPath)]
	if bytes.HasPrefix(nvram, []byte("QFI\xfb")) {
		return nil, errors.New("they are kept as qcow2, which cannot be carried to another host")
	}
	return nvram, nil
}

// readTPM returns what the emulator of a TPM keeps, as a tar archive of its
// files. What it holds only while it runs is not among them.
func (d *domain) readTPM(ctx context.Context, s *sight) ([]byte, error) {
	found, err := d.h.readFiles(ctx, files{dir: s.tpmState, want: func(n string) bool { return strings.HasSuffix(n, ".permall") }})
	if errors.Is(err, errNoFile) && s.power == hypervisor.PowerOff {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return tarOf(found)
}

// tarOf packs files by their names, in the same bytes each time.
func tarOf(files map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(files[name])), Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
