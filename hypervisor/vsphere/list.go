package vsphere

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// List returns every machine, templates and machines that cannot be exported
// among them, with the reason. A machine that the server cannot read is named in
// the error beside the list. No line names a recovery: what Define built stands
// on the host's own storage from the beginning.
func (h *Host) List(ctx context.Context) ([]hypervisor.Listed, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	all, err := h.machines(ctx, c, machineProperties)
	if err != nil {
		return nil, h.explain("list the machines", "nothing was done", err)
	}
	portgroups, err := h.portgroups(ctx, c, all)
	if err != nil {
		return nil, h.explain("list the networks of the machines", "nothing was done", err)
	}
	list := make([]hypervisor.Listed, 0, len(all))
	var problems error
	for i := range all {
		f := &all[i]
		if f.vm.Config == nil {
			problems = errors.Join(problems, h.unreadable(f))
			continue
		}
		list = append(list, hypervisor.Listed{
			Machine: f.describe(portgroups), HostID: f.hostID(), Power: f.power(),
			Refused: refusedWords(f.exportable(nil)),
		})
	}
	return list, problems
}

// power is what the machine is doing.
func (f *found) power() hypervisor.PowerState {
	switch f.vm.Runtime.PowerState {
	case types.VirtualMachinePowerStatePoweredOn:
		return hypervisor.PowerOn
	case types.VirtualMachinePowerStateSuspended:
		return hypervisor.PowerPaused
	}
	return hypervisor.PowerOff
}

// machine is a found machine in Lifeboat's words, as List has it.
func (h *Host) machine(ctx context.Context, c *vim25.Client, f *found) (lifeboat.Machine, error) {
	portgroups, err := h.portgroups(ctx, c, []found{*f})
	if err != nil {
		return lifeboat.Machine{}, h.explain("read the networks of "+words(f.name()), "nothing was done", err)
	}
	return f.describe(portgroups), nil
}

// portgroups names the distributed port groups that the machines are plugged
// into, by their keys. A group that may not be seen has no name.
func (h *Host) portgroups(ctx context.Context, c *vim25.Client, all []found) (map[string]string, error) {
	names := map[string]string{}
	var refs []types.ManagedObjectReference
	for i := range all {
		if all[i].vm.Config == nil {
			continue
		}
		for _, card := range all[i].ethernets() {
			port, ok := card.GetVirtualEthernetCard().Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo)
			if !ok || port.Port.PortgroupKey == "" {
				continue
			}
			if _, known := names[port.Port.PortgroupKey]; !known {
				names[port.Port.PortgroupKey] = ""
				refs = append(refs, types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: port.Port.PortgroupKey})
			}
		}
	}
	if len(refs) == 0 {
		return names, nil
	}
	var content []types.ObjectContent
	err := property.DefaultCollector(c).Retrieve(ctx, refs, []string{"name"}, &content)
	if isMissing(err) || isNoPermission(err) {
		// One that is gone spoils the whole question; names are a comfort.
		return names, nil
	}
	if err != nil {
		return nil, err
	}
	for _, object := range content {
		var group mo.DistributedVirtualPortgroup
		object.MissingSet = nil
		if err := mo.LoadObjectContent([]types.ObjectContent{object}, &group); err == nil {
			names[object.Obj.Value] = group.Name
		}
	}
	return names, nil
}

// Bounds of the files that are kept beside a machine's description.
const (
	mostVMX = 1 << 20
	// fileTime bounds reading or writing one of them.
	fileTime = time.Minute
	// mostNVRAM: VMware's files have 8 KiB for a BIOS and 270 KiB for UEFI.
	mostNVRAM = 1 << 20
)

// native is the machine in VMware's words: its settings file, or what the server
// tells of them where the file may not be read, and the variables of its
// firmware. What cannot be had is told in the note, and is no error: disks matter
// more.
func (h *Host) native(ctx context.Context, c *vim25.Client, f *found) (*lifeboat.NativeDescription, string) {
	d := &lifeboat.NativeDescription{Format: "vmx"}
	text, err := h.file(ctx, c, f, f.vm.Config.Files.VmPathName, mostVMX)
	if err == nil {
		d.Text = string(text)
	} else {
		d.Format, d.Text = "vsphere-json", configText(f.vm.Config)
	}
	nvram, nvramErr := h.readNVRAM(ctx, c, f)
	if len(nvram) > 0 {
		d.Files = map[string][]byte{nvramFile: nvram}
	}
	if err != nil {
		return d, "the settings file (vmx) could not be read: " + words(err.Error())
	}
	if nvramErr != nil {
		return d, "the variables of the firmware (nvram) could not be read: " + words(nvramErr.Error())
	}
	return d, ""
}

// nvramFile is what the firmware's file is called in a native description.
const nvramFile = "nvram"

// configText is the configuration that the server tells, as JSON.
func configText(c *types.VirtualMachineConfigInfo) string {
	var b bytes.Buffer
	if err := types.NewJSONEncoder(&b).Encode(c); err != nil || b.Len() > mostVMX {
		return ""
	}
	return b.String()
}

// readNVRAM returns the file in which VMware's firmware keeps its variables, or
// nil where the machine has none. Its format is VMware's own.
func (h *Host) readNVRAM(ctx context.Context, c *vim25.Client, f *found) ([]byte, error) {
	if f.vm.LayoutEx == nil {
		return nil, nil
	}
	for _, file := range f.vm.LayoutEx.File {
		if file.Type == string(types.VirtualMachineFileLayoutExFileTypeNvram) {
			return h.file(ctx, c, f, file.Name, mostNVRAM)
		}
	}
	return nil, nil
}

// file reads a small file of a machine from its datastore. One that is longer
// than most is an error.
func (h *Host) file(ctx context.Context, c *vim25.Client, f *found, path string, most int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fileTime)
	defer cancel()
	u, err := h.datastoreURL(ctx, c, f, path)
	if err != nil {
		return nil, err
	}
	res, err := h.get(ctx, u, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", words(res.Status))
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(data)) > most:
		return nil, fmt.Errorf("it is longer than %d bytes", most)
	case res.ContentLength >= 0 && int64(len(data)) != res.ContentLength:
		return nil, io.ErrUnexpectedEOF
	}
	return data, nil
}
