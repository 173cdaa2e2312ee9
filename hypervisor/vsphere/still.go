package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// still is a machine held at one moment by a snapshot of vSphere's.
type still struct {
	h       *Host
	c       *vim25.Client
	f       *found // as it was before the snapshot
	options hypervisor.FreezeOptions

	// ctx ends when the still is released: what goes on by itself lives in it.
	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	holds    bool
	name     string   // of the newest snapshot
	tried    []*tried // the snapshots that may come to be, besides s.snapshot
	snapshot types.ManagedObjectReference
	claim    claim
	beating  sync.Mutex // holds claim once the snapshot stands
	watch    *watch
	lease    *lease

	description lifeboat.Machine
	takenAt     time.Time
	consistency lifeboat.Consistency
	note        string
	untracked   string // why change tracking is off
	disks       map[string]*stillDisk
	at          *found // as the snapshot has it

	waysMu sync.Mutex
	ways   wayNotes

	// broken is why the still was let go before its time, or nil.
	broken atomic.Pointer[error]

	mu         sync.Mutex
	released   bool
	releaseErr error
}

func newStill(h *Host, c *vim25.Client, f *found, o hypervisor.FreezeOptions) *still {
	s := &still{h: h, c: c, f: f, options: o, disks: map[string]*stillDisk{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// machineKey tells the machine from those of other servers, whose ids may be the
// same.
func (s *still) machineKey() string { return s.h.url.Host + "/" + s.f.hostID() }

// heldMachines are the machines that exports of this process hold, by their keys.
var heldMachines = held{ids: map[string]bool{}}

type held struct {
	mu  sync.Mutex
	ids map[string]bool
}

// hold returns false if somebody holds the machine.
func (x *held) hold(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ids[id] {
		return false
	}
	x.ids[id] = true
	return true
}

func (x *held) letGo(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.ids, id)
}

func (s *still) Machine() lifeboat.Machine                   { return s.description }
func (s *still) TakenAt() time.Time                          { return s.takenAt }
func (s *still) Consistency() (lifeboat.Consistency, string) { return s.consistency, s.note }

// FrozenFor is not told by vSphere, unless it is zero because nothing was frozen.
func (s *still) FrozenFor() time.Duration {
	if s.consistency == lifeboat.ConsistentFilesystems {
		return -1
	}
	return 0
}

// PausedFor is not told by vSphere. A snapshot without memory stops the machine
// for well under a second, and its removal as well.
func (s *still) PausedFor() time.Duration { return -1 }

// remark adds to what the operator is told of the still.
func (s *still) remark(text string) {
	if text != "" {
		s.note = strings.TrimPrefix(s.note+"; "+text, "; ")
	}
}

// Disk returns a disk to read.
func (s *still) Disk(key string) (hypervisor.StillDisk, error) {
	if d, ok := s.disks[key]; ok {
		return d, nil
	}
	return nil, fmt.Errorf("%s has no disk %q, or it is not exported", words(s.f.name()), words(key))
}

// Committed has nothing to do: vSphere keeps no base for anybody, and a change id
// of any age counts until the tracking begins anew.
func (s *still) Committed(context.Context) error { return nil }

// Release ends what is read, removes the snapshot and waits until the server has
// merged what the machine wrote meanwhile, also after its context has ended. A
// removal that takes longer than removeTime goes on without us.
func (s *still) Release(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letGoOnce(ctx)
	err := s.releaseErr
	s.releaseErr = nil // it is told once
	return err
}

// letGoOnce does what Release promises, the first time. The caller holds s.mu.
func (s *still) letGoOnce(ctx context.Context) {
	if !s.released {
		s.released = true
		s.releaseErr = s.letGo(ctx)
	}
}

func (s *still) letGo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	s.stop()
	for _, d := range s.disks {
		d.close()
	}
	s.work.Wait()
	if s.lease != nil {
		s.lease.end(ctx)
	}
	if s.holds {
		defer heldMachines.letGo(s.machineKey())
	}
	if s.name == "" {
		return nil
	}
	defer func() {
		heldHere.Delete(s.name)
		for _, a := range s.tried {
			heldHere.Delete(a.name) // the next export's to remove
		}
	}()
	var err error
	if s.snapshot.Value != "" {
		err = s.h.removeSnapshot(ctx, s.c, s.snapshot)
	}
	if err = errors.Join(err, s.sweep(ctx)); err != nil {
		return s.stuck(err)
	}
	s.consolidated(ctx)
	return nil
}

// stuck words a snapshot that could not be removed.
func (s *still) stuck(err error) error {
	name := words(s.f.name())
	p := &lifeboat.Problem{
		What: fmt.Sprintf("%s: the snapshot %s of its export could not be removed", name, s.name),
		Safe: name + " goes on running; what it writes is kept beside its disks, and grows until the snapshot is removed",
		Next: "look at its tasks on the server; the next export removes the snapshot, or remove it there by hand",
		Err:  err,
	}
	if errors.Is(err, errStillAtIt) {
		p.What = fmt.Sprintf("%s: the server has not finished removing the snapshot %s after %v", name, s.name, removeTime)
		p.Next = "let the server end its task, and look whether the machine has snapshots left"
	}
	return p
}

// consolidated tells the operator if the server could not merge all files.
func (s *still) consolidated(ctx context.Context) {
	var vm mo.VirtualMachine
	err := property.DefaultCollector(s.c).RetrieveOne(ctx, s.f.ref, []string{"runtime.consolidationNeeded"}, &vm)
	if err == nil && vm.Runtime.ConsolidationNeeded {
		s.h.o.Note(s.f.name(), "vSphere could not merge all of the files of its snapshot: consolidate its disks on the server (Snapshots, Consolidate)")
	}
}

// heartbeat says on the snapshot that the export lives, so that another computer
// does not take it for dead. It ends with the still.
func (s *still) heartbeat() {
	for first := true; ; first = false {
		if err := s.beat(s.ctx, false); first && err != nil && s.ctx.Err() == nil {
			// Then others wait for longer; see claim.lives.
			return
		}
		if sleep(s.ctx, beatEvery) != nil {
			return
		}
	}
}

// beat says it once. From the first stream on it says that as well: see silence.
func (s *still) beat(ctx context.Context, streams bool) error {
	s.beating.Lock()
	defer s.beating.Unlock()
	now, err := serverTime(ctx, s.c)
	if err != nil {
		return err
	}
	next := s.claim
	next.alive, next.beats, next.streams = now.UTC().Truncate(time.Second), next.beats+1, next.streams || streams
	if _, err = methods.RenameSnapshot(ctx, s.c, &types.RenameSnapshot{This: s.snapshot, Description: next.text()}); err == nil {
		s.claim = next
	}
	return err
}
