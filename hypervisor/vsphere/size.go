package vsphere

import (
	"context"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat/hypervisor"
)

var (
	_ hypervisor.Sizer       = (*Host)(nil)
	_ hypervisor.GuestRunner = (*Host)(nil)
)

// Size says what the server's hosts have together, and what the place for new
// machines has: its datastore and its networks.
func (h *Host) Size(ctx context.Context) (hypervisor.HostSize, error) {
	c, err := h.client(ctx)
	if err != nil {
		return hypervisor.HostSize{}, err
	}
	s, err := h.size(ctx, c)
	return s, h.explain("ask how much it has", "nothing was done", err)
}

func (h *Host) size(ctx context.Context, c *vim25.Client) (s hypervisor.HostSize, err error) {
	s.KVM, s.System = true, words(c.ServiceContent.About.FullName)
	hosts, err := h.hostSystems(ctx, c)
	if err != nil {
		return s, err
	}
	s.TotalMemoryBytes, s.FreeMemoryBytes = memoryOf(hosts)
	for _, one := range hosts {
		s.CPUs += int(one.Summary.Hardware.NumCpuThreads)
	}
	p, err := h.place(ctx, c)
	if err != nil {
		return s, err
	}
	s.FreeDiskBytes = p.datastore.Summary.FreeSpace
	for _, ref := range p.networks {
		var n mo.Network
		if err := property.DefaultCollector(c).RetrieveOne(ctx, ref, []string{"name"}, &n); err != nil {
			return s, err
		}
		s.Networks = append(s.Networks, words(plainName(n.Name)))
	}
	now, err := methods.GetCurrentTime(ctx, c)
	if err != nil {
		return s, err
	}
	s.Clock = *now
	return s, nil
}

// hostSystems are the hosts that the server reaches.
func (h *Host) hostSystems(ctx context.Context, c *vim25.Client) (reached []mo.HostSystem, err error) {
	var hosts []mo.HostSystem
	if err := h.everything(ctx, c, c.ServiceContent.RootFolder, "HostSystem", []string{"name", "summary"}, &hosts); err != nil {
		return nil, err
	}
	for _, one := range hosts {
		if one.Summary.Hardware == nil || one.Summary.Runtime != nil && one.Summary.Runtime.ConnectionState != types.HostSystemConnectionStateConnected {
			continue
		}
		reached = append(reached, one)
	}
	return reached, nil
}

// memoryOf is what hosts have together.
func memoryOf(hosts []mo.HostSystem) (total, free int64) {
	for _, one := range hosts {
		total += one.Summary.Hardware.MemorySize
		free += one.Summary.Hardware.MemorySize - int64(one.Summary.QuickStats.OverallMemoryUsage)<<20
	}
	return total, free
}
