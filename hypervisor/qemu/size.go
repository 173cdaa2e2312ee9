package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"lifeboat/hypervisor"
)

var (
	_ hypervisor.Sizer   = (*Host)(nil)
	_ hypervisor.Printer = (*Host)(nil)
)

// Size says what this computer has.
func (h *Host) Size(ctx context.Context) (hypervisor.HostSize, error) {
	s := hypervisor.HostSize{CPUs: runtime.NumCPU(), Clock: time.Now(), Networks: hypervisor.Bridges()}
	var err error
	if s.TotalMemoryBytes, s.FreeMemoryBytes, err = memory(); err != nil {
		return s, err
	}
	if s.FreeDiskBytes, _, err = freeSpace(h.o.Dir); err != nil {
		return s, err
	}
	if f := h.checkQEMU(ctx); f.OK {
		s.System = f.Detail
		s.KVM, _ = h.probe(ctx)
	}
	return s, nil
}

// memory is what this computer has, and what could be had without swapping.
func memory() (total, free int64, err error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	for line := range bytes.Lines(data) {
		var kib int64
		if n, _ := fmt.Sscanf(string(line), "MemTotal: %d kB", &kib); n == 1 {
			total = kib << 10
		}
		if n, _ := fmt.Sscanf(string(line), "MemAvailable: %d kB", &kib); n == 1 {
			free = kib << 10
		}
	}
	return total, free, nil
}

// Printed returns the end of what a machine printed on its serial line.
func (h *Host) Printed(_ context.Context, machine string, last int64) ([]byte, error) {
	m, err := h.find(machine)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(m.path(serialLogFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, st.Size()-last), last))
}
