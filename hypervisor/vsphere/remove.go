package vsphere

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// Remove deletes a machine that Define made and that is off. Disks that somebody
// attached to it from elsewhere are taken out first and stay. A machine that
// Lifeboat did not make is refused.
func (h *Host) Remove(ctx context.Context, machine string) error {
	f, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	name := words(f.name())
	if !f.ours() {
		return &lifeboat.Problem{
			What: fmt.Sprintf("host %s: %s was not made by Lifeboat", h.o.Name, name),
			Safe: "nothing was done",
			Next: "delete it on the server, if that is what you want",
			Err:  hypervisor.ErrUnsupported,
		}
	}
	if f.power() != hypervisor.PowerOff {
		return fmt.Errorf("remove %s from host %q: %w", name, h.o.Name, hypervisor.ErrMachineRunning)
	}
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	what := "remove " + name
	spec := types.VirtualMachineConfigSpec{}
	for _, disk := range f.foreignDisks() {
		// Without a file operation: the disk leaves the machine and stays.
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: disk,
		})
	}
	if err := h.reconfigure(ctx, c, f.ref, spec); err != nil {
		return h.explain(what, "the machine is as it was", err)
	}
	return h.explain(what, "the machine may be gone in part; no other one was touched", h.destroy(ctx, c, f.ref))
}

// ours says whether Define made this very machine, and not one that it was
// cloned from.
func (f *found) ours() bool {
	written := f.setting(settingFor)
	return written != "" && strings.EqualFold(written, f.hostID())
}

// foreignDisks are disks whose files do not lie in the machine's own folder.
func (f *found) foreignDisks() []*types.VirtualDisk {
	var home object.DatastorePath
	if !home.FromString(f.vm.Config.Files.VmPathName) {
		return nil
	}
	var list []*types.VirtualDisk
	for _, d := range f.vdisks() {
		backing, ok := d.device.Backing.(types.BaseVirtualDeviceFileBackingInfo)
		var at object.DatastorePath
		if !ok || !at.FromString(backing.GetVirtualDeviceFileBackingInfo().FileName) ||
			at.Datastore != home.Datastore || path.Dir(at.Path) != path.Dir(home.Path) {
			list = append(list, d.device)
		}
	}
	return list
}
