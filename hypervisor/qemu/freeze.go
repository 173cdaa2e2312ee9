package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
)

// Freeze holds all disks of a machine at one instant; see hypervisor.Host and
// DESIGN.md for how the guest is kept safe.
func (h *Host) Freeze(ctx context.Context, name string, o hypervisor.FreezeOptions) (hypervisor.Still, error) {
	m, err := h.find(name)
	if err != nil {
		return nil, err
	}
	for key, file := range m.def.Disks {
		if file.Base != nil {
			return nil, &lifeboat.Problem{
				What: fmt.Sprintf("%s: it runs from a drive (disk %s) and is not exported from there", m.name(), key),
				Safe: "the machine goes on, and the restore point it was booted from is whole",
				Next: "let it move to local disk first",
				Err:  hypervisor.ErrUnsupported,
			}
		}
	}
	lock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	s := &still{machine: m, lock: lock, options: o, disks: map[string]*stillDisk{}}
	s.monitor, err = m.monitor(ctx, workSocket)
	switch {
	case errors.Is(err, errOff):
		err = s.freezeOff(ctx)
	case err == nil:
		err = s.freezeRunning(ctx)
	}
	if err != nil {
		err = s.explain(err)
		return nil, fmt.Errorf("hold %s still: %w", m.name(), errors.Join(err, s.fail()))
	}
	return s, nil
}

// freezeRunning holds the disks of a machine that runs. Everything that takes
// time happens before its file systems are frozen, or after.
func (s *still) freezeRunning(ctx context.Context) error {
	m, mon := s.machine, s.monitor
	if err := m.finishMove(ctx, mon); err != nil {
		return fmt.Errorf("finish an earlier move: %w", err)
	}
	if err := m.clearExport(ctx, mon, true); err != nil {
		return fmt.Errorf("remove what an earlier export left: %w", err)
	}
	if err := s.describe(ctx); err != nil {
		return err
	}
	guard, err := m.startGuard(s.lock, nil, "")
	if err != nil {
		return err
	}
	s.guard = guard
	if err := s.prepareDisks(ctx); err != nil {
		return err
	}
	if err := s.holdInstant(ctx); err != nil {
		return err
	}
	if err := s.serveRunning(ctx); err != nil {
		return err
	}
	s.watchSpace()
	return s.dial(ctx, filepath.Join(m.sockets(), nbdSocket))
}

// describe writes down the machine as it is.
func (s *still) describe(ctx context.Context) error {
	m := s.machine
	s.description = m.describe()
	m.seeAddresses(ctx, &s.description)
	for i, slot := range planSlots(&s.description).nics {
		s.description.NICs[i].PCISlot = slot.String()
	}
	text, err := m.def.encode()
	if err != nil {
		return err
	}
	s.description.Native = &lifeboat.NativeDescription{Format: "lifeboat-qemu/1", Text: string(text)}
	return nil
}

// wanted are the disks that are to be read.
func (s *still) wanted() []lifeboat.Disk {
	var list []lifeboat.Disk
	for _, d := range s.description.Disks {
		if d.Excluded == "" && !s.options.Exclude[d.Key] {
			list = append(list, d)
		}
	}
	return list
}

// prepareDisks makes the scratch files, puts the nodes that copy old bytes into
// QEMU where nobody uses them yet, and finds the bitmaps to start from.
func (s *still) prepareDisks(ctx context.Context) error {
	m := s.machine
	nodes, err := blockNodes(ctx, s.monitor)
	if err != nil {
		return err
	}
	if err := m.makeScratch(); err != nil {
		return fmt.Errorf("make the scratch folder: %w", err)
	}
	for _, disk := range s.wanted() {
		plain, err := plainNode(nodes, disk.Key)
		if err != nil {
			return err
		}
		node := nodes[plain]
		// The guest sees what QEMU says, whatever was written down once.
		s.setSize(disk.Key, node.Image.VirtualSize)
		sd := &stillDisk{still: s, key: disk.Key, size: node.Image.VirtualSize, node: plain}
		s.disks[disk.Key] = sd
		if err := s.chooseBase(ctx, sd, node.Driver); err != nil {
			return err
		}
		if err := s.addScratch(ctx, sd); err != nil {
			return fmt.Errorf("prepare disk %s: %w", disk.Key, err)
		}
	}
	return nil
}

// chooseBase finds the bitmap that holds what changed since the point that the
// drive has, and names the one to begin now.
func (s *still) chooseBase(ctx context.Context, sd *stillDisk, driver string) error {
	if driver != "qcow2" {
		sd.why = whyRaw
		return nil
	}
	t := liveTracker{mon: s.monitor, node: sd.node}
	if err := s.settleTracking(ctx, sd, t); err != nil {
		return err
	}
	if s.options.DriveID != "" {
		sd.fresh = newBitmapName(s.options.DriveID, time.Now())
	}
	return nil
}

// settleTracking tidies the bitmaps of this drive on one disk. Tracking that
// cannot be tidied costs a full read, and nothing else.
func (s *still) settleTracking(ctx context.Context, sd *stillDisk, t tracker) error {
	since := s.options.Since[sd.key]
	base, size, ok := parseToken(since)
	if since != "" && (!ok || size != sd.size) {
		base = ""
	}
	why, err := settleBase(ctx, t, s.options.DriveID, base)
	if err == nil {
		err = makeRoom(ctx, t, s.options.DriveID)
	}
	switch {
	case ctx.Err() != nil || isClosed(err):
		return err
	case err != nil:
		sd.why = "change tracking does not work on this disk: " + err.Error()
	case why != "":
		sd.why = why
		if ok && size != sd.size {
			sd.why = whyResized
		}
	default:
		sd.base = base
	}
	return nil
}

// addScratch gives QEMU the scratch file of a disk and the node that fills it.
// If the scratch file cannot be written the still breaks and the guest's own
// write goes on; it waits for it no longer than the time given.
func (s *still) addScratch(ctx context.Context, sd *stillDisk) error {
	path := filepath.Join(s.machine.scratchDir(), sd.key+".qcow2")
	if err := s.machine.host.makeImage(ctx, path, sd.size); err != nil {
		return err
	}
	scratch := args{"driver": "qcow2", "node-name": nodeName(nodeScratch, sd.key),
		"file": args{"driver": "file", "filename": path}}
	if err := s.monitor.run(ctx, "blockdev-add", scratch, nil); err != nil {
		return err
	}
	return s.monitor.run(ctx, "blockdev-add", args{
		"driver": "copy-before-write", "node-name": nodeName(nodeCopy, sd.key),
		"file": sd.node, "target": nodeName(nodeScratch, sd.key),
		"on-cbw-error": "break-snapshot", "cbw-timeout": scratchSeconds,
	}, nil)
}

// scratchSeconds is how long a write of the guest waits for the scratch file
// before the still is given up. Guests complain after thirty.
const scratchSeconds = 15

// holdInstant is the instant: file systems frozen, CPUs still, every disk on its
// copying node, every bitmap changed over, and all of it undone in the reverse
// order.
func (s *still) holdInstant(ctx context.Context) error {
	heldAt, err := s.freezeGuest()
	if err != nil {
		return err
	}
	frozenAt := time.Now()
	// Not to be cancelled half-way: it takes milliseconds.
	ctx = context.WithoutCancel(ctx)
	var pausedAt time.Time
	err = s.machine.still(ctx, s.monitor, false, func() error {
		pausedAt = time.Now()
		s.takenAt = pausedAt.UTC()
		return s.swap(ctx)
	})
	s.paused = time.Since(pausedAt)
	if errors.Is(err, errStands) {
		// Not "thaw": the guard has to remember that it stands. It goes on trying,
		// as if we had died.
		s.stands = true
		s.guard.abandon()
		return err
	}
	thawErr := s.guard.tell("thaw")
	s.mayBeFrozen = s.mayBeFrozen && thawErr != nil
	if s.consistency == lifeboat.ConsistentFilesystems {
		s.frozen = time.Since(frozenAt)
	}
	switch {
	case err != nil || thawErr != nil:
		return errors.Join(err, thawErr)
	case time.Since(heldAt) > frozenLimit-time.Second:
		// The guard may have let the guest go on in the middle of it.
		return errors.New("the host is too slow to hold all disks at one instant")
	}
	return nil
}

// freezeGuest freezes the guest's file systems, or notes why not. It returns
// when the guard began to count.
func (s *still) freezeGuest() (heldAt time.Time, err error) {
	s.consistency = lifeboat.ConsistentCrash
	if s.machine.def.Machine.Agent {
		heldAt = time.Now()
		s.mayBeFrozen = true
		err := s.guard.tell("freeze")
		if err == nil {
			s.consistency = lifeboat.ConsistentFilesystems
			return heldAt, nil
		}
		s.note = "the guest's file systems were not frozen, it was exported as if its power had been cut: " + err.Error()
	} else {
		s.note = "the machine has no guest agent: it was exported as if its power had been cut"
	}
	heldAt = time.Now()
	return heldAt, s.guard.tell("hold")
}

// swap changes over all bitmaps at once, and then the devices. The CPUs stand.
func (s *still) swap(ctx context.Context) error {
	var actions []args
	for _, disk := range s.wanted() {
		if sd := s.disks[disk.Key]; sd.fresh != "" {
			actions = append(actions, liveTracker{node: sd.node}.begin(sd.fresh, sd.base)...)
		}
	}
	if len(actions) > 0 {
		err := s.monitor.run(ctx, "transaction", args{"actions": actions}, nil)
		if err != nil && !refused(err) {
			return err
		}
		if err != nil {
			s.withoutTracking(err)
		}
	}
	for _, disk := range s.wanted() {
		if err := setDrive(ctx, s.monitor, disk, nodeName(nodeCopy, disk.Key)); err != nil {
			return fmt.Errorf("hold disk %s: %w", disk.Key, err)
		}
	}
	return nil
}

// withoutTracking goes on after QEMU refused to change the bitmaps: none of them
// was changed, and everything is read.
func (s *still) withoutTracking(err error) {
	for _, sd := range s.disks {
		sd.base, sd.fresh = "", ""
		if sd.why == "" {
			sd.why = "change tracking does not work on this machine: " + err.Error()
		}
	}
}

// serveRunning exports the held disks on a socket.
func (s *still) serveRunning(ctx context.Context) error {
	socket := filepath.Join(s.machine.sockets(), nbdSocket)
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	address := args{"type": "unix", "data": args{"path": socket}}
	if err := s.monitor.run(ctx, "nbd-server-start", args{"addr": address, "max-connections": 0}, nil); err != nil {
		return err
	}
	for _, disk := range s.wanted() {
		sd := s.disks[disk.Key]
		node := nodeName(nodeStill, sd.key)
		show := args{"driver": "snapshot-access", "node-name": node, "file": nodeName(nodeCopy, sd.key)}
		if err := s.monitor.run(ctx, "blockdev-add", show, nil); err != nil {
			return fmt.Errorf("show disk %s: %w", sd.key, err)
		}
		export := args{"type": "nbd", "id": exportPrefix + sd.key, "node-name": node, "name": sd.key}
		if sd.base != "" {
			export["bitmaps"] = []args{{"node": sd.node, "name": sd.base}}
		}
		if err := s.monitor.run(ctx, "block-export-add", export, nil); err != nil {
			return fmt.Errorf("export disk %s: %w", sd.key, err)
		}
	}
	return nil
}

// dial connects to the exports.
func (s *still) dial(ctx context.Context, socket string) error {
	for _, sd := range s.disks {
		o := nbd.DialOptions{MetaContexts: []string{nbd.ContextAllocation}, Connections: 2}
		if sd.base != "" {
			o.MetaContexts = append(o.MetaContexts, nbd.ContextDirtyBitmap+sd.base)
		}
		client, err := nbd.Dial(ctx, "unix", socket, sd.key, o)
		if err != nil && s.monitor != nil && s.isOff(ctx) {
			err = fmt.Errorf("%w: %w", hypervisor.ErrMachineGone, err)
		}
		if err != nil {
			return fmt.Errorf("connect to disk %s: %w", sd.key, err)
		}
		sd.client = client
		if client.SizeBytes() != sd.size {
			return fmt.Errorf("disk %s is given out with %d bytes and has %d", sd.key, client.SizeBytes(), sd.size)
		}
	}
	// After the disks: what the firmware writes here is rare and small.
	nvram, err := s.machine.readNVRAM()
	if err != nil {
		return err
	}
	s.description.Firmware.NVRAM = nvram
	if tpm := s.description.TPM; tpm != nil {
		state, err := s.machine.readTPM()
		if err != nil {
			return err
		}
		s.description.TPM = &lifeboat.TPM{Version: tpm.Version, Model: tpm.Model, State: state}
	}
	return nil
}
