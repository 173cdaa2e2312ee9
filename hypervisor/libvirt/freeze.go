//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
)

// Freeze holds all disks of a machine at one instant; see hypervisor.Host and
// DESIGN.md for how the guest is kept safe.
func (h *Host) Freeze(ctx context.Context, machine string, o hypervisor.FreezeOptions) (hypervisor.Still, error) {
	if o.Method != "" {
		return nil, fmt.Errorf("%w: a host under libvirt reads in one way and knows no method %q", hypervisor.ErrUnsupported, hypervisor.GuestWords(o.Method))
	}
	d, err := h.find(ctx, machine)
	if err != nil {
		return nil, err
	}
	lock, err := lockMachine(ctx, d.name, d.uuid)
	if err != nil {
		return nil, err
	}
	s := &still{domain: d, lock: lock, options: o, disks: map[string]*stillDisk{}, noted: map[string]string{}}
	if err := s.hold(ctx); err != nil {
		err = s.explain(ctx, err)
		return nil, fmt.Errorf("hold %s still: %w", d.name, errors.Join(err, s.fail()))
	}
	return s, nil
}

// hold looks at the machine and holds it in the way that fits.
func (s *still) hold(ctx context.Context) error {
	seen, err := s.domain.look(ctx)
	if err != nil {
		return err
	}
	if err := seen.refuse(s.domain.h.o.Name, s.options.Exclude); err != nil {
		return err
	}
	if err := s.refuseDrive(seen); err != nil {
		return err
	}
	if err := seen.refuse(s.domain.h.o.Name, s.options.Exclude); err != nil {
		return err
	}
	if keys := apart(s.domain.h.scratchFolder(), seen.disks); len(keys) > 0 {
		s.domain.h.note(s.domain.name, scratchApart(keys))
	}
	for _, text := range append(seen.left, s.domain.readState(ctx, seen)...) {
		s.domain.h.note(s.domain.name, text)
	}
	s.description, s.sources = seen.machine, seen.disks
	if err := s.knowSources(); err != nil {
		return err
	}
	s.untracked = s.domain.h.untrackedBecause(seen)
	if seen.power == hypervisor.PowerOff {
		return s.holdOff(ctx)
	}
	return s.holdRunning(ctx, seen)
}

// refuseDrive refuses a machine that runs from a drive.
func (s *still) refuseDrive(seen *sight) error {
	text := seen.live
	if text == "" {
		text = seen.config
	}
	doc, err := parseDomain(text)
	if err != nil {
		return err
	}
	s.xml = doc
	for i := range doc.Devices.Disks {
		if disk := &doc.Devices.Disks[i]; seen.recovery != "" && onDrive(disk.BackingStore) {
			return &lifeboat.Problem{
				What: fmt.Sprintf("%s: it runs from a drive (disk %s) and is not exported from there", s.domain.name, targetName(disk)),
				Safe: "the machine goes on, and the restore point it was booted from is whole",
				Next: "let it move to local disk first",
				Err:  hypervisor.ErrUnsupported,
			}
		}
	}
	return nil
}

// onDrive says that an image stands on an NBD server.
func onDrive(b *libvirtxml.DomainDiskBackingStore) bool {
	for ; b != nil; b = b.BackingStore {
		if b.Source != nil && b.Source.Network != nil && b.Source.Network.Protocol == "nbd" {
			return true
		}
	}
	return false
}

// holdRunning holds the disks of a machine that runs, or is paused. Everything
// that takes time happens before its file systems are frozen, or after.
func (s *still) holdRunning(ctx context.Context, seen *sight) error {
	d := s.domain
	if way := d.h.transport(); way != "unix" && way != "ssh" {
		_, _, err := d.h.tunnel(ctx, "") // says what to do, before anything is done
		return err
	}
	if err := d.clearExport(ctx); err != nil {
		return fmt.Errorf("remove what an earlier export left: %w", err)
	}
	// What an earlier export stopped goes on now; what still stands stood before.
	var err error
	if seen.power, err = d.power(ctx); err != nil {
		return err
	}
	d.stoodStill.Store(seen.power == hypervisor.PowerPaused)
	if err := d.notBusy(ctx); err != nil {
		return err
	}
	if seen.power == hypervisor.PowerOn && s.description.Agent {
		hypervisor.AskGuest(ctx, d.runAgent, &s.description, time.Now().UTC())
	}
	backup, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	if s.guard, err = d.startGuard(s.lock, guardOrder{Fresh: s.fresh, Bases: s.bases(), StoodStill: d.stoodStill.Load()}); err != nil {
		return err
	}
	if err := s.makeFolder(ctx); err != nil {
		return err
	}
	if err := s.beginTracking(ctx); err != nil {
		return err
	}
	if err := s.holdInstant(ctx, backup, seen.power); err != nil {
		return err
	}
	s.watch()
	s.readStateAgain(ctx, seen)
	socket, done, err := d.h.tunnel(ctx, path.Join(s.folder.path, socketName))
	if err != nil {
		return err
	}
	s.closeTunnel = done
	return s.dial(ctx, socket, bitmapExport)
}

// wantedDisks are the disks that are to be read.
func (s *still) wantedDisks() []lifeboat.Disk {
	var list []lifeboat.Disk
	for _, disk := range s.description.Disks {
		if disk.Excluded == "" && !s.options.Exclude[disk.Key] {
			list = append(list, disk)
		}
	}
	return list
}

// diskTargets are all that libvirt calls a disk of this domain, drives for media
// too: what a job does not name it would take along.
func (s *still) diskTargets() []string {
	var targets []string
	for i := range s.xml.Devices.Disks {
		targets = append(targets, targetName(&s.xml.Devices.Disks[i]))
	}
	return targets
}

// prepare settles the checkpoints, names the new ones and writes the job.
func (s *still) prepare(ctx context.Context) (backup string, err error) {
	known, err := s.wanted()
	if err != nil {
		return "", err
	}
	have, settleErr := s.settleCheckpoints(ctx, known)
	if settleErr != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		// Tracking that cannot be tidied costs a full read, and nothing else. None
		// is begun, because nobody knows how many there are.
		s.domain.h.note(s.domain.name, "change tracking does not work, everything is read: "+settleErr.Error())
		have = nil
	}
	if s.untracked != "" {
		s.dropCheckpoints(ctx, have)
		have = nil
	}
	var disks []exportDisk
	for _, disk := range s.wantedDisks() {
		source := s.source(disk.Key)
		sd := &stillDisk{still: s, key: disk.Key, size: disk.SizeBytes, why: whyRaw}
		s.disks[disk.Key] = sd
		if source.format == "qcow2" && source.kind != "network" {
			sd.base, sd.why = base(have, s.domain.uuid, source.target, s.options.Since[disk.Key], disk.SizeBytes)
			if s.untracked != "" {
				sd.why = s.untracked
			} else if s.options.DriveID != "" && settleErr == nil {
				sd.fresh = newCheckpointName(s.options.DriveID, time.Now())
				s.fresh = append(s.fresh, sd.fresh)
			}
		}
		disks = append(disks, exportDisk{key: disk.Key, target: source.target, base: sd.base})
	}
	if len(disks) == 0 {
		return "", &lifeboat.Problem{
			What: s.domain.name + " has no disk that can be exported",
			Safe: "nothing was done",
			Next: "see why: lifeboat machine show " + s.domain.name,
			Err:  hypervisor.ErrUnsupported,
		}
	}
	if s.folder, err = s.domain.exportFolder(ctx); err != nil {
		return "", err
	}
	return backupXML(s.folder.path, s.diskTargets(), disks)
}

// source is where the bytes of a disk are. Of a disk that is not known it names
// no place, so nothing is read or changed in its stead.
func (s *still) source(key string) diskSource {
	i := slices.IndexFunc(s.sources, func(d diskSource) bool { return d.key == key })
	if i < 0 {
		return diskSource{key: key}
	}
	return s.sources[i]
}

// knowSources fails unless each disk to be read has a source of its own.
func (s *still) knowSources() error {
	for _, disk := range s.wantedDisks() {
		n := 0
		for _, source := range s.sources {
			if source.key == disk.Key {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("disk %q is %d disks of %s", disk.Key, n, s.domain.name)
		}
	}
	return nil
}

// bases are the checkpoints that this export counts changes from.
func (s *still) bases() []string {
	names := map[string]bool{}
	for _, sd := range s.disks {
		if sd.base != "" {
			names[sd.base] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// makeFolder makes the folder for scratch files and sees that there is space.
func (s *still) makeFolder(ctx context.Context) error {
	free, total, err := s.folder.free(ctx)
	if err != nil {
		return err
	}
	s.reserve = s.folder.reserve(total)
	if err := s.enoughSpace(free); err != nil {
		return err
	}
	o, owned := qemuOwner(s.xml, s.domain.h.local())
	return s.folder.make(ctx, o, owned)
}

// enoughSpace refuses an export that could hurt the guest. QEMU stops a guest
// whose overwritten bytes find no space, and lets it try again; but where the
// machine is told to report or ignore such errors it would not.
func (s *still) enoughSpace(free int64) error {
	next := fmt.Sprintf("make space in %s, or name a folder on a larger file system as the host's scratch", s.folder.parent)
	if free <= s.reserve {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: %d MiB are free for what its guest overwrites during the export, and %d MiB of them are a reserve", s.domain.name, free>>20, s.reserve>>20),
			Safe: "the machine was not touched", Next: next,
		}
	}
	for i := range s.xml.Devices.Disks {
		disk := &s.xml.Devices.Disks[i]
		if disk.Source == nil || disk.Target == nil {
			continue
		}
		i := slices.IndexFunc(s.sources, func(d diskSource) bool { return d.target == disk.Target.Dev })
		if i < 0 {
			continue
		}
		sd := s.disks[s.sources[i].key]
		if sd == nil || disk.Driver == nil || disk.Driver.ErrorPolicy != "report" && disk.Driver.ErrorPolicy != "ignore" {
			continue
		}
		if free -= sd.size; free < s.reserve {
			return &lifeboat.Problem{
				What: fmt.Sprintf("%s: disk %s reports errors to its guest (error_policy='%s'), and there is not enough space for all that the guest might overwrite during the export", s.domain.name, sd.key, disk.Driver.ErrorPolicy),
				Safe: "the machine was not touched", Next: next + ", or remove error_policy from the disk",
			}
		}
	}
	return nil
}

// holdInstant is the instant: file systems frozen, the job begun over all disks
// in one transaction of QEMU, file systems thawed. QEMU drains its disks for the
// transaction and never stops the CPUs.
func (s *still) holdInstant(ctx context.Context, backup string, power hypervisor.PowerState) error {
	heldAt := time.Now()
	if err := s.freezeGuest(power); err != nil {
		return err
	}
	frozenAt := time.Now()
	// Not to be cancelled half-way: it takes a tenth of a second. Where it takes
	// longer than the guest may be frozen, the guard thaws meanwhile.
	begin, cancel := context.WithTimeout(context.WithoutCancel(ctx), rescuePatience)
	defer cancel()
	s.takenAt = frozenAt.UTC()
	err := s.domain.do(begin, "begin its backup job", func(dom *lv.Domain) error {
		return dom.BackupBegin(backup, "", 0)
	})
	if begin.Err() != nil {
		// Nobody waits for the call any more, and libvirt may still carry it out.
		s.late = true
		err = errors.Join(err, s.guard.tell("late"))
	}
	thawErr := s.guard.tell("thaw")
	s.mayBeFrozen = s.mayBeFrozen && thawErr != nil
	if s.consistency == lifeboat.ConsistentFilesystems {
		s.frozen = time.Since(frozenAt)
	}
	switch {
	case err != nil || thawErr != nil:
		return errors.Join(err, thawErr)
	case s.consistency == lifeboat.ConsistentFilesystems && time.Since(heldAt) > frozenLimit-time.Second:
		// The guard may have let the guest go on in the middle of it.
		return errors.New("the host is too slow to hold all disks at one instant")
	}
	return nil
}

// freezeGuest freezes the guest's file systems, or notes why not.
func (s *still) freezeGuest(power hypervisor.PowerState) error {
	s.consistency = lifeboat.ConsistentCrash
	switch {
	case power != hypervisor.PowerOn:
		s.note = "the machine is paused: it was exported as if its power had been cut"
	case !s.description.Agent:
		s.note = "the machine has no guest agent: it was exported as if its power had been cut"
	default:
		s.mayBeFrozen = true
		err := s.guard.tell("freeze")
		if err == nil {
			s.consistency = lifeboat.ConsistentFilesystems
			return nil
		}
		s.note = "the guest's file systems were not frozen, it was exported as if its power had been cut: " + hypervisor.GuestWords(err.Error())
	}
	return s.guard.tell("hold")
}

// connections is how many there are to each disk: QEMU answers each in turn.
const connections = 4

// dial connects to the exports. The bitmap is the one with the changes; for a
// machine that is off it has the name of the checkpoint.
func (s *still) dial(ctx context.Context, socket, bitmap string) error {
	for _, sd := range s.disks {
		o := nbd.DialOptions{MetaContexts: []string{nbd.ContextAllocation}, Connections: connections}
		if sd.base != "" {
			sd.bitmap = bitmap
			if bitmap == "" {
				sd.bitmap = sd.base
			}
			o.MetaContexts = append(o.MetaContexts, nbd.ContextDirtyBitmap+sd.bitmap)
		}
		client, err := nbd.Dial(ctx, "unix", socket, sd.key, o)
		if err != nil {
			return fmt.Errorf("connect to disk %s: %w", sd.key, err)
		}
		sd.client = client
		if client.SizeBytes() != sd.size {
			return fmt.Errorf("disk %s is given out with %d bytes and has %d", sd.key, client.SizeBytes(), sd.size)
		}
	}
	return nil
}
