//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
)

// still is a machine held at one moment.
type still struct {
	domain  *domain
	options hypervisor.FreezeOptions
	lock    *os.File
	guard   *guard
	folder  folder
	reserve int64
	xml     *libvirtxml.Domain // of what runs, or else of the definition

	description lifeboat.Machine
	sources     []diskSource
	takenAt     time.Time
	consistency lifeboat.Consistency
	note        string
	frozen      time.Duration
	disks       map[string]*stillDisk
	// fresh are the checkpoints that this still begins, and noted the XML of all
	// that there are.
	fresh []string
	noted map[string]string
	off   bool
	// untracked is why this machine's changes are not tracked, or empty.
	untracked string

	closeTunnel func()
	stopWatch   func()

	mayBeFrozen bool // its file systems may be frozen and nobody said otherwise
	late        bool // its job may begin although nobody waits for it any more

	// leaving is held while the export is taken out of the machine.
	leaving   sync.Mutex
	mu        sync.Mutex // for what follows
	committed bool
	released  bool
	broken    error
}

func (s *still) Machine() lifeboat.Machine                   { return s.description }
func (s *still) TakenAt() time.Time                          { return s.takenAt }
func (s *still) Consistency() (lifeboat.Consistency, string) { return s.consistency, s.note }
func (s *still) FrozenFor() time.Duration                    { return s.frozen }

// PausedFor is zero: the job is begun in a transaction of QEMU, for which it
// finishes the requests that are under way. The CPUs are never stopped.
func (s *still) PausedFor() time.Duration { return 0 }

// Disk returns a disk to read.
func (s *still) Disk(key string) (hypervisor.StillDisk, error) {
	if sd, ok := s.disks[key]; ok {
		return sd, nil
	}
	return nil, fmt.Errorf("%s has no disk %q, or it is not exported", s.domain.name, key)
}

// Committed lets the older checkpoints of this drive go. It is done when the
// still is released, because they are being read until then; if we die before
// that, the guard does it.
func (s *still) Committed(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed = true
	if s.guard == nil {
		return nil
	}
	return s.guard.tell("committed")
}

// Release takes everything out of the machine again, also after its context has
// ended. What it cannot do itself the guard or the next Freeze does.
func (s *still) Release(ctx context.Context) error {
	s.leaving.Lock()
	defer s.leaving.Unlock()
	if s.isReleased() {
		return nil
	}
	defer s.lock.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rescuePatience)
	defer cancel()
	if s.stopWatch != nil {
		s.stopWatch()
	}
	for _, sd := range s.disks {
		if sd.client != nil {
			sd.client.Close()
		}
	}
	if s.closeTunnel != nil {
		s.closeTunnel()
	}
	if s.guard == nil {
		// Nothing was put into the machine, but perhaps into images that are off.
		return s.removeCheckpoints(ctx, s.fresh)
	}
	err := errors.Join(s.thaw(ctx), s.letGo(ctx))
	if s.late {
		// What libvirt was asked for may still come.
		s.guard.leave()
		return err
	}
	if err == nil || errors.Is(err, hypervisor.ErrMachineGone) {
		s.guard.dismiss()
		return nil
	}
	s.guard.abandon()
	return fmt.Errorf("let %s go: %w", s.domain.name, err)
}

// isReleased marks the still as released, and says whether it was before.
func (s *still) isReleased() (before bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.released = s.released, true
	return before
}

// letGo ends the job and removes the checkpoints that no point needs now.
func (s *still) letGo(ctx context.Context) error {
	if s.off {
		// Its disks are given out by the guard's child, which ends with it.
		s.guard.dismiss()
		return errors.Join(s.folder.remove(ctx), s.removeCheckpoints(ctx, s.unneeded()))
	}
	if err := s.domain.clearExport(ctx); err != nil {
		return err
	}
	return s.removeCheckpoints(ctx, s.unneeded())
}

// unneeded are the checkpoints that no point needs after this still: the older
// ones of this drive if it came to a point, else its own.
func (s *still) unneeded() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.committed {
		return s.fresh
	}
	gone := s.bases()
	for _, name := range s.fresh {
		if !slices.ContainsFunc(slices.Collect(maps.Values(s.disks)), func(sd *stillDisk) bool { return sd.fresh == name }) {
			gone = append(gone, name) // it could not be begun
		}
	}
	return gone
}

// clearExport takes this computer's export out of a machine and its host: the
// job, which gives the guest's writes a free way again; then the scratch files.
// Checkpoints stay. Somebody else's job means that the machine is busy.
func (d *domain) clearExport(ctx context.Context) error {
	if err := d.endOwnJob(ctx); err != nil {
		return err
	}
	if err := d.goOnAfterFullScratch(ctx); err != nil {
		return err
	}
	f, err := d.exportFolder(ctx)
	if err != nil {
		return err
	}
	return f.remove(ctx)
}

// thawPatience is how long we try to thaw a guest ourselves.
const thawPatience = 20 * time.Second

// thaw thaws the guest's file systems where the guard did not say that it has:
// it may have been killed while they were frozen.
func (s *still) thaw(ctx context.Context) error {
	if !s.mayBeFrozen {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, thawPatience)
	defer cancel()
	if err := s.domain.thawGuest(ctx); err != nil {
		return fmt.Errorf("its file systems may still be frozen: %w", err)
	}
	s.mayBeFrozen = false
	return nil
}

// fail undoes a Freeze that did not come to its end. Its error says that the
// machine may not be as it was.
func (s *still) fail() error { return s.Release(context.Background()) }

// explain says of an error whether it means that the machine went away.
func (s *still) explain(ctx context.Context, err error) error {
	if errors.Is(err, nbd.ErrGone) && s.isOff(ctx) {
		return fmt.Errorf("%w: %w", hypervisor.ErrMachineGone, err)
	}
	return err
}

// goneLimit is how long a machine that is shutting down may take from closing
// its exports to being off.
const goneLimit = 2 * time.Second

// isOff says that the machine no longer runs.
func (s *still) isOff(ctx context.Context) bool {
	if s.off {
		return false
	}
	for deadline := time.Now().Add(goneLimit); time.Now().Before(deadline); {
		on, err := s.domain.active(ctx)
		if err == nil && !on || errors.Is(err, hypervisor.ErrMachineGone) {
			return true
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return false
		}
	}
	return false
}

// breakNow takes the still out of the machine because going on would harm it.
func (s *still) breakNow(why error) {
	s.mu.Lock()
	if s.released || s.broken != nil {
		s.mu.Unlock()
		return
	}
	// First, so that no read under way is believed: between the end of the job
	// and that of its exports QEMU gives out what the guest writes now.
	s.broken = why
	s.mu.Unlock()
	// Readers learn it at once; only Release waits for what takes long.
	s.leaving.Lock()
	defer s.leaving.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), rescuePatience)
	defer cancel()
	if err := s.domain.clearExport(ctx); err != nil {
		// Release does it again, and says what fails.
		s.domain.h.note(s.domain.name, "its export was given up and is not out of it yet: "+err.Error())
	}
}
