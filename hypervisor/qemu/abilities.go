package qemu

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"lifeboat"
	"lifeboat/hypervisor"
)

// Abilities: everything that the contract knows.
func (h *Host) Abilities() hypervisor.Abilities {
	return hypervisor.Abilities{
		BootNBD: true, Segments: true, Settle: true,
		Buses: []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusSATA, lifeboat.BusIDE, lifeboat.BusVirtioSCSI, lifeboat.BusNVMe,
			lifeboat.BusPVSCSI, lifeboat.BusLSISAS},
		Cards: []string{"virtio", "e1000e", "e1000", "rtl8139", "vmxnet3"},
	}
}

// serialTail is how much of the serial line is looked at.
const serialTail = 64 << 10

// NoRoot reads what the machine printed on its serial line.
func (h *Host) NoRoot(_ context.Context, machine string) (string, error) {
	m, err := h.find(machine)
	if err != nil {
		return "", err
	}
	f, err := os.Open(m.path(serialLogFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > serialTail {
		if _, err := f.Seek(-serialTail, io.SeekEnd); err != nil {
			return "", err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, serialTail))
	return hypervisor.NoRootIn(text), err
}

// Close has nothing to end: this host has no daemon.
func (h *Host) Close() error { return nil }
