package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/nbd"
)

// still is a machine held at one moment.
type still struct {
	machine *machine
	options hypervisor.FreezeOptions
	lock    *os.File
	guard   *guard

	description lifeboat.Machine
	takenAt     time.Time
	consistency lifeboat.Consistency
	note        string
	frozen      time.Duration
	paused      time.Duration
	disks       map[string]*stillDisk

	mu          sync.Mutex // for what follows
	monitor     *monitor   // nil where the machine was off
	committed   bool
	released    bool
	broken      error
	stands      bool // we stopped its CPUs and do not know that they run
	mayBeFrozen bool // its file systems may be frozen and nobody said otherwise
	stopWatch   func()
}

// stillDisk is one disk of it.
type stillDisk struct {
	still  *still
	key    string
	size   int64
	node   string // what the guest sees when nobody exports it
	base   string // the bitmap with what changed since the drive's last point
	fresh  string // the bitmap begun at this still's moment
	why    string // why there is no base
	client *nbd.Client
}

func (s *still) Machine() lifeboat.Machine                   { return s.description }
func (s *still) TakenAt() time.Time                          { return s.takenAt }
func (s *still) Consistency() (lifeboat.Consistency, string) { return s.consistency, s.note }
func (s *still) FrozenFor() time.Duration                    { return s.frozen }
func (s *still) PausedFor() time.Duration                    { return s.paused }

// Disk returns a disk to read.
func (s *still) Disk(key string) (hypervisor.StillDisk, error) {
	if sd, ok := s.disks[key]; ok {
		return sd, nil
	}
	return nil, fmt.Errorf("%s has no disk %q, or it is not exported", s.machine.name(), key)
}

func (s *still) setSize(key string, size int64) {
	for i := range s.description.Disks {
		if s.description.Disks[i].Key == key {
			s.description.Disks[i].SizeBytes = size
		}
	}
}

// Committed lets the older bases for this drive go. It is done when the still is
// released, because they are being read until then.
func (s *still) Committed(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed = true
	return nil
}

// keep is the bitmap that has to stay for this drive.
func (s *still) keep(sd *stillDisk) string {
	if s.committed {
		return sd.fresh
	}
	return sd.base
}

// Release takes everything out of the machine again, also after its context has
// ended. What it cannot do itself the guard or the next Freeze does.
func (s *still) Release(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		return nil
	}
	s.released = true
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
	if s.monitor == nil {
		if s.guard != nil {
			s.guard.dismiss()
		}
		return s.settleFiles(ctx)
	}
	s.monitor.close()
	err := s.letGo(ctx)
	s.stands = s.stands || errors.Is(err, errStands)
	switch {
	case err == nil:
		s.guard.dismiss()
	case isClosed(err) || errors.Is(err, errOff) || s.isOff(ctx):
		s.guard.dismiss()
		return s.machine.removeScratch()
	default:
		if s.stands {
			// The guard goes on trying when we are long gone. If it is gone
			// itself, the scratch folder tells the next Freeze.
			_ = s.guard.tell("hold")
		}
		s.guard.abandon()
		err = fmt.Errorf("let %s go: %w", s.machine.name(), err)
	}
	return err
}

// letGo puts a running machine back as it was. It does so on a line of its own:
// the still's may have been left in the middle of an answer.
func (s *still) letGo(ctx context.Context) error {
	mon, err := s.machine.monitor(ctx, workSocket)
	if errors.Is(err, errOff) {
		return err
	}
	if err == nil {
		defer mon.close()
		err = s.goOn(ctx, mon)
	}
	// The agent needs no monitor, and a guest that stands gives no answer.
	thawErr := s.thaw(ctx)
	if err == nil {
		err = s.clear(ctx, mon)
	}
	return errors.Join(err, thawErr)
}

// clear takes out what the export put in, and leaves the bitmaps as they have to
// be after it.
func (s *still) clear(ctx context.Context, mon *monitor) error {
	if err := s.machine.clearExport(ctx, mon, false); err != nil {
		return err
	}
	for _, sd := range s.disks {
		if sd.fresh == "" {
			continue
		}
		t := liveTracker{mon: mon, node: sd.node}
		if _, err := settleBase(ctx, t, s.options.DriveID, s.keep(sd)); err != nil {
			return err
		}
	}
	return nil
}

// goOn lets the guest go on if we left it standing.
func (s *still) goOn(ctx context.Context, mon *monitor) error {
	if !s.stands {
		return nil
	}
	if err := mon.run(ctx, "cont", nil, nil); err != nil {
		return err
	}
	s.stands = false
	return nil
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
	if err := s.machine.thaw(ctx); err != nil {
		return fmt.Errorf("its file systems may still be frozen: %w", err)
	}
	s.mayBeFrozen = false
	return nil
}

// fail undoes a Freeze that did not come to its end. Its error says that the
// machine may not be as it was.
func (s *still) fail() error {
	if s.monitor != nil && s.guard == nil {
		// Nothing was put into the machine yet.
		s.monitor.close()
		s.lock.Close()
		return nil
	}
	return s.Release(context.Background())
}

// explain says of an error whether it means that the machine went away.
func (s *still) explain(err error) error {
	if isClosed(err) || errors.Is(err, errOff) {
		return fmt.Errorf("%w: %w", hypervisor.ErrMachineGone, err)
	}
	return err
}

// goneLimit is how long a machine that is shutting down may take from closing
// its exports to closing its monitor.
const goneLimit = 2 * time.Second

// isOff says that the machine no longer runs.
func (s *still) isOff(ctx context.Context) bool {
	for deadline := time.Now().Add(goneLimit); time.Now().Before(deadline); {
		if power, err := s.machine.power(ctx); err == nil && power == hypervisor.PowerOff {
			return true
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return false
		}
	}
	return false
}

// breakNow takes the still out of the machine because going on would harm it.
func (s *still) breakNow(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released || s.broken != nil {
		return
	}
	s.broken = why
	ctx, cancel := context.WithTimeout(context.Background(), rescuePatience)
	defer cancel()
	// What fails here is done again by Release.
	err := s.machine.clearExport(ctx, s.monitor, false)
	s.stands = errors.Is(err, errStands)
}

// spaceInterval is how often the scratch space is looked at.
const spaceInterval = 250 * time.Millisecond

// watchSpace breaks the still before its scratch files fill the file system that
// production may live on.
func (s *still) watchSpace() {
	dir := s.machine.scratchDir()
	reserve := s.machine.host.reserve(dir)
	done := make(chan struct{})
	s.stopWatch = sync.OnceFunc(func() { close(done) })
	go func() {
		ticker := time.NewTicker(spaceInterval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			if free, _, err := freeSpace(dir); err == nil && free < reserve {
				s.breakNow(fmt.Errorf("scratch space in %s is down to %d MiB", dir, free>>20))
				return
			}
		}
	}()
}

// reserve is how much of the scratch file system is left alone.
func (h *Host) reserve(dir string) int64 {
	if h.o.ScratchReserveBytes > 0 {
		return h.o.ScratchReserveBytes
	}
	_, total, err := freeSpace(dir)
	if err != nil {
		return 0
	}
	return min(1<<30, total/20)
}

// scratchDir holds the scratch files of this machine and nothing else.
func (m *machine) scratchDir() string {
	if m.host.o.ScratchDir == "" {
		return filepath.Join(m.dir, "scratch")
	}
	return filepath.Join(m.host.o.ScratchDir, "lifeboat-scratch-"+m.folder)
}

// makeScratch makes the folder of the scratch files. Its name is easy to guess
// and it may lie where everybody can write; what the guest overwrites must go to
// no folder that somebody else put there.
func (m *machine) makeScratch() error {
	dir := m.scratchDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return oursAlone(dir)
}

func (m *machine) hasScratch() bool {
	_, err := os.Lstat(m.scratchDir())
	return err == nil
}

func (m *machine) removeScratch() error {
	err := os.RemoveAll(m.scratchDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the scratch files of %s: %w", m.name(), err)
	}
	return nil
}

// SizeBytes is the exact size of the disk.
func (sd *stillDisk) SizeBytes() int64 { return sd.size }

// Token names this moment for a later export to the same drive.
func (sd *stillDisk) Token() string { return token(sd.fresh, sd.size) }

// Changed returns what the guest wrote since the drive's last point.
func (sd *stillDisk) Changed(ctx context.Context) ([]lifeboat.Extent, bool, string) {
	if sd.base == "" {
		return nil, false, sd.why
	}
	extents, err := sd.client.DirtyExtents(ctx, sd.base, lifeboat.Extent{Length: sd.size})
	if err != nil {
		return nil, false, whyUnreadable + ": " + err.Error()
	}
	return extents, true, ""
}

// Extents returns the runs that may hold anything but zeros.
func (sd *stillDisk) Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	extents, err := sd.client.DataExtents(ctx, within)
	if err != nil {
		return nil, sd.explain(ctx, "find the data of", err)
	}
	return extents, nil
}

// ReadAt fills p from the given offset, or fails.
func (sd *stillDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if err := sd.client.ReadAt(ctx, p, offset); err != nil {
		return sd.explain(ctx, "read", err)
	}
	return nil
}

// explain tells a machine that went away from a still that broke.
func (sd *stillDisk) explain(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s := sd.still
	s.mu.Lock()
	broken := s.broken
	s.mu.Unlock()
	kind := hypervisor.ErrStillBroken
	switch {
	case broken != nil:
		err = broken
	case s.monitor != nil && errors.Is(err, nbd.ErrGone) && s.isOff(ctx):
		kind = hypervisor.ErrMachineGone
	}
	return fmt.Errorf("%s disk %s of %s: %w: %w", what, sd.key, s.machine.name(), kind, err)
}
