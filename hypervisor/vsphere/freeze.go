package vsphere

import (
	"context"
	"fmt"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// Freeze holds a machine still with a snapshot of vSphere's, and reads the disks
// as they were at its moment. The machine writes to files of its own meanwhile,
// which the server merges when the snapshot is removed.
//
// A snapshot that an earlier export left behind goes first. Change tracking is
// switched on where it can be; it stays on.
func (h *Host) Freeze(ctx context.Context, machine string, o hypervisor.FreezeOptions) (hypervisor.Still, error) {
	switch o.Method {
	case "", MethodRanges, MethodNFC:
	default:
		return nil, fmt.Errorf("%w: read in the way %q; there are %q and %q", hypervisor.ErrUnsupported, words(o.Method), MethodRanges, MethodNFC)
	}
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	f, err := h.find(ctx, machine)
	if err != nil {
		return nil, err
	}
	// The busy machine first: what an export does to it may disable the rest.
	cleared, err := h.clearLeftovers(ctx, c, f)
	if err == nil && cleared {
		f, err = h.look(ctx, c, f.ref) // without them
	}
	if err != nil {
		return nil, err
	}
	if err := h.refuse(f, f.exportable(o.Exclude)); err != nil {
		return nil, err
	}
	s := newStill(h, c, f, o)
	if err := s.hold(ctx); err != nil {
		if undo := s.Release(ctx); undo != nil {
			err = fmt.Errorf("%w (and %v)", err, undo)
		}
		return nil, err
	}
	return s, nil
}

// hold brings the still about. What it has done when it fails Release undoes.
func (s *still) hold(ctx context.Context) error {
	name := words(s.f.name())
	if !heldMachines.hold(s.machineKey()) {
		return fmt.Errorf("%s: %w", name, hypervisor.ErrMachineBusy)
	}
	s.holds = true
	if err := s.needRoom(ctx); err != nil {
		return err
	}
	if err := s.track(ctx); err != nil {
		return s.h.explain("switch change tracking of "+name+" on", name+" goes on as it is", err)
	}
	if err := s.snap(ctx); err != nil {
		return s.refusedSnapshot(err)
	}
	if err := s.describe(ctx); err != nil {
		return s.h.explain("read what the snapshot of "+name+" holds", "the snapshot is removed again", err)
	}
	return s.choose(ctx)
}

// track switches change tracking on. It begins when the disks are opened anew, so
// a snapshot is made and removed.
func (s *still) track(ctx context.Context) error {
	f := s.f
	version := hardwareVersion(f.vm.Config.Version)
	switch {
	case s.options.DriveID == "" || isTrue(f.vm.Config.ChangeTrackingEnabled):
		return nil
	case version < 7:
		s.untracked = fmt.Sprintf("the machine's hardware version %d is too old for change tracking: upgrade it to 7 or later", version)
		return nil
	case f.vm.Snapshot != nil && len(f.vm.Snapshot.RootSnapshotList) > 0:
		s.untracked = "change tracking is off and cannot be switched on while the machine has snapshots: remove them on the server"
		return nil
	}
	yes := true
	res, err := methods.ReconfigVM_Task(ctx, s.c, &types.ReconfigVM_Task{
		This: f.ref, Spec: types.VirtualMachineConfigSpec{ChangeTrackingEnabled: &yes},
	})
	if err == nil {
		_, err = s.h.wait(ctx, res.Returnval, snapshotTime)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case isReadOnly(err), isBusy(err):
		// No snapshot could be made either.
		return err
	case err != nil:
		s.untracked = "change tracking is off and could not be switched on: " + words(err.Error())
		return nil
	}
	s.h.o.Note(f.name(), "switched change tracking on; from the next export on only what changed is read")
	return s.cycle(ctx)
}

// cycle makes a snapshot and removes it.
func (s *still) cycle(ctx context.Context) error {
	if err := s.create(ctx, false); err != nil {
		return err
	}
	ref, name := s.snapshot, s.name
	if err := s.h.removeSnapshot(ctx, s.c, ref); err != nil {
		return err
	}
	s.snapshot = types.ManagedObjectReference{}
	heldHere.Delete(name)
	return nil
}

// snap makes the snapshot that is read: through Tools if they run.
func (s *still) snap(ctx context.Context) error {
	off := s.f.power() == hypervisor.PowerOff
	tools, why := s.f.toolsRun()
	s.consistency = lifeboat.ConsistentCrash
	switch {
	case off:
		s.consistency = lifeboat.ConsistentOff
	case !tools:
		s.note = "the guest's file systems were not frozen, it was exported as if its power had been cut: " + why
	default:
		err := s.create(ctx, true)
		if err == nil {
			s.consistency = lifeboat.ConsistentFilesystems
			return nil
		}
		if ctx.Err() != nil || !s.quiescing(err) {
			return err
		}
		s.note = "the guest's file systems could not be frozen, it was exported as if its power had been cut: " + words(err.Error())
	}
	return s.create(ctx, false)
}

// refusedSnapshot words why there is no snapshot.
func (s *still) refusedSnapshot(err error) error {
	name := words(s.f.name())
	return s.h.explain("make a snapshot of "+name, name+" goes on as it is; nothing was exported", err)
}

// describe reads what the snapshot holds: it, and not the machine as it is now,
// is what is exported.
func (s *still) describe(ctx context.Context) error {
	var snapshot mo.VirtualMachineSnapshot
	if err := property.DefaultCollector(s.c).RetrieveOne(ctx, s.snapshot, []string{"config"}, &snapshot); err != nil {
		return err
	}
	at := *s.f
	s.at = &at
	config := snapshot.Config
	// What a snapshot's own configuration leaves out.
	config.InstanceUuid, config.Uuid = s.f.vm.Config.InstanceUuid, s.f.vm.Config.Uuid
	at.vm.Config = &config
	m, err := s.h.machine(ctx, s.c, &at)
	if err != nil {
		return err
	}
	native, note := s.h.native(ctx, s.c, s.f)
	m.Native = native
	s.remark(note)
	s.description = m
	if err := s.h.refuse(&at, at.exportable(s.options.Exclude)); err != nil {
		return err
	}
	stores, err := s.datastores(ctx)
	if err != nil {
		return err
	}
	for _, d := range at.vdisks() {
		if s.options.Exclude[d.Key] {
			continue
		}
		s.disks[d.Key] = newStillDisk(s, d, stores)
	}
	return nil
}

// datastore is where files of a machine lie.
type datastore struct {
	name string
	// kind is a HostFileSystemVolumeFileSystemType ("VMFS", "vsan"); id is equal
	// for everybody who looks at the same store.
	kind, id string
}

// datastores are those of the machine, by their names.
func (s *still) datastores(ctx context.Context) (map[string]datastore, error) {
	stores := map[string]datastore{}
	if len(s.f.vm.Datastore) == 0 {
		return stores, nil
	}
	var list []mo.Datastore
	if err := property.DefaultCollector(s.c).Retrieve(ctx, s.f.vm.Datastore, []string{"summary"}, &list); err != nil {
		return nil, err
	}
	for _, d := range list {
		one := datastore{name: d.Summary.Name, kind: d.Summary.Type, id: d.Summary.Url}
		if one.id == "" {
			one.id = s.h.url.Host + "/" + d.Self.Value
		}
		stores[one.name] = one
	}
	return stores, nil
}
