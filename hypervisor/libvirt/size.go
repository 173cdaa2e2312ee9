//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	lv "libvirt.org/go/libvirt"

	"lifeboat/hypervisor"
)

var _ hypervisor.Sizer = (*Host)(nil)

// Size says what the host has. libvirt has no word for the clock of a host, nor
// for the bridges of one on another computer: what it knows are its networks.
func (h *Host) Size(ctx context.Context) (hypervisor.HostSize, error) {
	s, err := onHost(ctx, h, "ask how much "+h.o.Name+" has", sizeOf)
	if err != nil {
		return s, err
	}
	p, err := h.pool(ctx, h.o.Pool)
	if err != nil {
		return s, err
	}
	s.FreeDiskBytes = int64(min(p.free, 1<<62))
	facts, err := h.facts(ctx)
	if err != nil {
		return s, err
	}
	if s.KVM = facts.kvm; s.KVM && h.o.KVM != nil && h.local() {
		s.KVM, _ = h.o.KVM(ctx)
	}
	if h.local() {
		s.Clock = time.Now()
		s.Networks = append(s.Networks, hypervisor.Bridges()...)
	}
	slices.Sort(s.Networks)
	s.Networks = slices.Compact(s.Networks)
	return s, nil
}

func sizeOf(c *lv.Connect) (s hypervisor.HostSize, err error) {
	node, err := c.GetNodeInfo()
	if err != nil {
		return s, err
	}
	s.TotalMemoryBytes, s.CPUs = int64(node.Memory)<<10, int(node.Cpus)
	free, err := freeMemory(c)
	if err != nil {
		return s, err
	}
	s.FreeMemoryBytes = min(int64(free), s.TotalMemoryBytes)
	own, err := c.GetLibVersion()
	if err != nil {
		return s, err
	}
	s.System = "libvirt " + version(own)
	if qemu, err := c.GetVersion(); err == nil {
		s.System += fmt.Sprintf(", QEMU %s", version(qemu))
	}
	names, err := c.ListNetworks()
	for _, name := range names {
		if !strings.HasPrefix(name, segmentPrefix) {
			s.Networks = append(s.Networks, name)
		}
	}
	return s, err
}

// freeMemory is what machines could have. What caches hold is given back when a
// machine wants it.
func freeMemory(c *lv.Connect) (uint64, error) {
	stats, err := c.GetMemoryStats(lv.NODE_MEMORY_STATS_ALL_CELLS, 0)
	if err != nil {
		return 0, err
	}
	return (stats.Free + stats.Buffers + stats.Cached) << 10, nil
}
