package vsphere

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

const (
	// leaseReadyTime bounds how long a server may prepare a lease: it makes the
	// disks meanwhile.
	leaseReadyTime = 10 * time.Minute
	// datastoreReserve is left free on a datastore: one that runs full stops
	// every machine on it.
	datastoreReserve = 2 << 30
)

// Define builds a machine from its description, with the disks that are given as
// Copy on the host's datastore, and leaves it off. A name that exists is refused.
// After an error, and when ctx ends, nothing of it is left on the server.
func (h *Host) Define(ctx context.Context, d hypervisor.Definition) error {
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	if err := h.fitting(&d); err != nil {
		return err
	}
	what := "build " + words(d.Name)
	if err := h.nameIsFree(ctx, c, d.Name); err != nil {
		return h.explain(what, "nothing was done", err)
	}
	p, err := h.place(ctx, c)
	if err != nil {
		return h.explain(what, "nothing was done", err)
	}
	if err := h.hasRoom(ctx, p, &d); err != nil {
		return h.explain(what, "nothing was done", err)
	}
	cables, err := h.cables(ctx, c, p, &d)
	if err != nil {
		return h.explain(what, "nothing was done", err)
	}
	b, err := buildSpec(&d, cables, (&object.DatastorePath{Datastore: p.datastore.Name}).String())
	if err != nil {
		return err
	}
	return h.explain(what, "nothing is left of it on the server, and the drive is as it was", h.build(ctx, c, p, &d, b))
}

// fitting makes a definition one that vSphere can build, or says why it cannot.
func (h *Host) fitting(d *hypervisor.Definition) error {
	if d.Name == "" {
		d.Name = d.Machine.Name
	}
	for _, disk := range d.Machine.Disks {
		backing, has := d.Disks[disk.Key]
		if has && backing.Copy == nil {
			return &lifeboat.Problem{
				What: fmt.Sprintf("host %s: the disks of %s have to be copied to it: vSphere boots from no disk server of ours", h.o.Name, words(d.Name)),
				Safe: "nothing was done",
				Next: "boot on a qemu or libvirt host to run straight from the drive",
				Err:  hypervisor.ErrUnsupported,
			}
		}
		if disk.LogicalSectorBytes > 512 {
			return &lifeboat.Problem{
				What: fmt.Sprintf("host %s: disk %s has sectors of %d bytes, and disks that are copied to vSphere have 512", h.o.Name, disk.Key, disk.LogicalSectorBytes),
				Safe: "nothing was done",
				Next: "boot on a qemu or libvirt host",
				Err:  hypervisor.ErrUnsupported,
			}
		}
	}
	d.Machine = hypervisor.Candidates(d.Machine, h.Abilities())[0].Machine
	if d.Machine.TPM != nil {
		h.o.Note(d.Name, "it is built without its TPM, which only a key server of vCenter can make: have the recovery key of its disks at hand")
	}
	return nil
}

// nameIsFree refuses a name that some machine of the host has.
func (h *Host) nameIsFree(ctx context.Context, c *vim25.Client, name string) error {
	all, err := h.machines(ctx, c, []string{"name"})
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].name() == name {
			return &lifeboat.Problem{
				What: fmt.Sprintf("host %s has a machine %s already", h.o.Name, words(name)),
				Safe: "nothing was done, and that machine is as it was",
				Next: "give the new one another name (boot --rename NAME), or rename the old one on the server",
				Err:  errNameTaken,
			}
		}
	}
	return nil
}

var errNameTaken = errors.New("the name is taken")

// hasRoom compares what the disks hold with what is free on the datastore.
func (h *Host) hasRoom(ctx context.Context, p *place, d *hypervisor.Definition) error {
	need := int64(0)
	for _, disk := range d.Machine.Disks {
		if source := d.Disks[disk.Key].Copy; source != nil {
			held, err := heldBytes(ctx, source)
			if err != nil {
				return fmt.Errorf("read what disk %s holds: %w", disk.Key, err)
			}
			if err := h.streamHolds(d.Name, disk.Key, held); err != nil {
				return err
			}
			need += held
		}
	}
	free := p.datastore.Summary.FreeSpace
	if need+datastoreReserve <= free {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("host %s: datastore %s has %s free, and the disks of %s need %s (and %s that are left free)",
			h.o.Name, words(p.datastore.Name), size(free), words(d.Name), size(need), size(datastoreReserve)),
		Safe: "nothing was done",
		Next: "make room there, or name another datastore of host " + h.o.Name + " in site.yaml",
		Err:  errFull,
	}
}

// streamBytes is what one stream holds, compressed: its grains are found by
// 32-bit numbers of sectors.
const streamBytes = 2 << 40

// streamHolds refuses a disk that does not fit into a stream unless it compresses
// to less than half, before hours of uploading tell. Of one that fits if it
// compresses at all, that is said.
func (h *Host) streamHolds(name, key string, held int64) error {
	switch {
	case held <= streamBytes:
		return nil
	case held <= 2*streamBytes:
		h.o.Note(name, fmt.Sprintf("disk %s holds %s, and the form in which it is uploaded 2 TiB of compressed bytes: if they compress badly, the upload fails after that much", key, size(held)))
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("host %s: disk %s of %s holds %s, and the form in which disks are uploaded to vSphere 2 TiB of compressed bytes", h.o.Name, key, words(name), size(held)),
		Safe: "nothing was done",
		Next: "recover it on a qemu or libvirt host (boot --host)",
		Err:  hypervisor.ErrUnsupported,
	}
}

var errFull = errors.New("not enough room")

// size is a number of bytes for a person.
func size(bytes int64) string {
	if bytes >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}

// vsphereSize is the size that a disk gets: vSphere counts in KiB.
func vsphereSize(disk lifeboat.Disk) int64 { return (disk.SizeBytes + 1023) >> 10 << 10 }

// build makes the machine with its disks, and what is left to do afterwards. If
// anything fails it takes all of it away.
func (h *Host) build(ctx context.Context, c *vim25.Client, p *place, d *hypervisor.Definition, b *blueprint) (err error) {
	res, err := methods.ImportVApp(ctx, c, &types.ImportVApp{
		This: p.pool, Folder: &p.folder,
		Spec: &types.VirtualMachineImportSpec{ConfigSpec: b.spec},
	})
	if err != nil && (soap.IsSoapFault(err) || neverSent(err)) {
		return err
	}
	a := &attempt{h: h, c: c, b: b, open: true}
	defer func() {
		if err != nil {
			err = a.takeAway(err)
		}
	}()
	if err != nil {
		// The server may be at it all the same.
		return err
	}
	lease := nfc.NewLease(c, res.Returnval)
	a.lease = lease
	info, err := leaseReady(ctx, c, lease, leaseReadyTime)
	if err != nil {
		return err
	}
	a.made = info.Entity
	u := &upload{h: h, c: c, lease: lease, info: info}
	list, err := u.streams(b, d.Disks)
	if err != nil {
		return err
	}
	if err := u.run(ctx, list); err != nil {
		return err
	}
	if err := u.check(ctx, list); err != nil {
		return err
	}
	if err := lease.Complete(ctx); err != nil {
		return err
	}
	a.open = false
	return h.complete(ctx, c, a.made, d, b)
}

// leaseReady waits until the server has prepared a lease. It asks, and does not
// subscribe, because a subscription dies with its session.
func leaseReady(ctx context.Context, c *vim25.Client, lease *nfc.Lease, most time.Duration) (*types.HttpNfcLeaseInfo, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("the server did not prepare the transfer within %v", most))
	defer cancel()
	for pause := taskPause; ; pause = min(2*pause, taskPauseTo) {
		var state mo.HttpNfcLease
		err := property.DefaultCollector(c).RetrieveOne(ctx, lease.Reference(), []string{"state", "info", "error"}, &state)
		switch {
		case err != nil:
			return nil, err
		case state.State == types.HttpNfcLeaseStateReady && state.Info != nil:
			return state.Info, nil
		case state.State == types.HttpNfcLeaseStateError:
			return nil, taskError(state.Error)
		case state.State == types.HttpNfcLeaseStateDone:
			return nil, errors.New("the server ended the transfer before it began")
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// complete adds what an import cannot carry: empty disks, the order in which the
// firmware tries the disks, its variables, and the id that the server may have
// chosen itself.
func (h *Host) complete(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference, d *hypervisor.Definition, b *blueprint) error {
	f, err := h.look(ctx, c, ref)
	if err != nil {
		return err
	}
	spec := types.VirtualMachineConfigSpec{}
	controllers := f.controllers()
	for i, disk := range b.empty {
		at := b.slots[disk.Key]
		for key, made := range controllers {
			if made.word == at.word && made.number == at.number {
				at.controller = key
			}
		}
		spec.DeviceChange = append(spec.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation:     types.VirtualDeviceConfigSpecOperationAdd,
			FileOperation: types.VirtualDeviceConfigSpecFileOperationCreate,
			Device:        newDisk(disk, at, -3000-int32(i)),
		})
	}
	if !strings.EqualFold(f.hostID(), b.instance) {
		spec.ExtraConfig = append(spec.ExtraConfig, &types.OptionValue{Key: settingFor, Value: f.hostID()})
	}
	if nvram := keptNVRAM(&d.Machine); nvram != nil {
		if err := h.putNVRAM(ctx, c, f, nvram); err != nil {
			h.o.Note(d.Name, "the variables of its firmware could not be put back ("+words(err.Error())+"); it starts from the fallback path of its EFI partition")
		}
	}
	if err := h.reconfigure(ctx, c, ref, spec); err != nil {
		return err
	}
	return h.finish(ctx, c, ref, d, b)
}

// reconfigure changes a machine that is ours; nothing to change is no call.
func (h *Host) reconfigure(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference, spec types.VirtualMachineConfigSpec) error {
	if len(spec.DeviceChange) == 0 && len(spec.ExtraConfig) == 0 && spec.BootOptions == nil {
		return nil
	}
	res, err := methods.ReconfigVM_Task(ctx, c, &types.ReconfigVM_Task{This: ref, Spec: spec})
	if err != nil {
		return err
	}
	_, err = h.wait(ctx, res.Returnval, taskTime)
	return err
}

// finish writes down which disk is which, and names the one that starts the
// machine. Both need the ids that the server has given.
func (h *Host) finish(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference, d *hypervisor.Definition, b *blueprint) error {
	f, err := h.look(ctx, c, ref)
	if err != nil {
		return err
	}
	made := map[string]*types.VirtualDisk{} // by seat
	for _, disk := range f.vdisks() {
		made[disk.seat] = disk.device
	}
	var pairs []string
	first := map[int]*types.VirtualDisk{} // by boot index
	for _, disk := range d.Machine.Disks {
		at := b.slots[disk.Key]
		device := made[seatName(at.word, at.number, at.unit)]
		if device == nil {
			return fmt.Errorf("the server put disk %s somewhere else than it was told to", disk.Key)
		}
		if id := diskUUID(device); id != "" {
			pairs = append(pairs, id+"="+disk.Key)
		}
		if disk.BootIndex > 0 {
			first[disk.BootIndex] = device
		}
	}
	spec := types.VirtualMachineConfigSpec{}
	if len(pairs) > 0 {
		spec.ExtraConfig = []types.BaseOptionValue{&types.OptionValue{Key: settingDisks, Value: strings.Join(pairs, ",")}}
	}
	var order []types.BaseVirtualMachineBootOptionsBootableDevice
	for _, index := range slices.Sorted(maps.Keys(first)) {
		order = append(order, &types.VirtualMachineBootOptionsBootableDiskDevice{DeviceKey: first[index].Key})
	}
	if len(order) > 0 {
		spec.BootOptions = &types.VirtualMachineBootOptions{BootOrder: order}
		if o := f.vm.Config.BootOptions; o != nil {
			spec.BootOptions.EfiSecureBootEnabled = o.EfiSecureBootEnabled
		}
	}
	return h.reconfigure(ctx, c, ref, spec)
}

// keptNVRAM is the firmware's file of a UEFI machine that came from a vSphere.
func keptNVRAM(m *lifeboat.Machine) []byte {
	if m.Firmware.Kind != lifeboat.FirmwareUEFI || !fromVSphere(m) {
		return nil
	}
	return m.Native.Files[nvramFile]
}

// putNVRAM writes the firmware's file beside the machine, where the server would
// make an empty one at the first start: under the name of the settings file.
func (h *Host) putNVRAM(ctx context.Context, c *vim25.Client, f *found, data []byte) error {
	var vmx object.DatastorePath
	if !vmx.FromString(f.vm.Config.Files.VmPathName) {
		return errors.New("the server does not say where the machine is")
	}
	vmx.Path = strings.TrimSuffix(vmx.Path, ".vmx") + ".nvram"
	u, err := h.datastoreURL(ctx, c, f, vmx.String())
	if err != nil {
		return err
	}
	return h.put(ctx, c, u, data)
}

// put writes a small file.
func (h *Host) put(ctx context.Context, c *vim25.Client, u *url.URL, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, fileTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), strings.NewReader(string(data)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	return c.Client.Do(ctx, req, func(res *http.Response) error {
		defer discard(res.Body)
		if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
			return fmt.Errorf("the server answers %s", words(res.Status))
		}
		return nil
	})
}
