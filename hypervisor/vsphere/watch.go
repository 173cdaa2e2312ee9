package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// watch looks whether a snapshot still stands. As long as it does the files
// beneath it are not written. If somebody removes it, the server merges into
// them, and what is read of them is of no moment at all: so bytes are believed
// only after a look that was begun when they had come.
//
// Looks of many readers are joined: whoever comes while one is under way waits
// for the next.
type watch struct {
	ctx  context.Context
	look func(ctx context.Context) error

	mu   sync.Mutex
	busy bool
	next *glance
}

type glance struct {
	done chan struct{}
	err  error
}

// stands returns nil if the snapshot stood when all that the caller has read had
// come.
func (w *watch) stands(ctx context.Context) error {
	w.mu.Lock()
	g := w.next
	if g == nil {
		g = &glance{done: make(chan struct{})}
		w.next = g
	}
	if !w.busy {
		w.busy = true
		go w.run()
	}
	w.mu.Unlock()
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run looks until nobody waits.
func (w *watch) run() {
	for {
		w.mu.Lock()
		g := w.next
		w.next = nil
		w.busy = g != nil
		w.mu.Unlock()
		if g == nil {
			return
		}
		g.err = w.look(w.ctx)
		close(g.done)
	}
}

// lookTries is how often a look is tried that brought no answer.
const lookTries = 3

// looker returns the look for a snapshot of a machine.
func (s *still) looker() func(ctx context.Context) error {
	known, first := map[types.ManagedObjectReference]bool{}, true
	return func(ctx context.Context) error {
		for try := 1; ; try++ {
			err := s.look(ctx, known, first)
			first = first && err != nil
			if err == nil || errors.Is(err, hypervisor.ErrStillBroken) || isMissing(err) || try == lookTries || ctx.Err() != nil {
				return s.gone(err)
			}
			if err := sleep(ctx, time.Duration(try)*time.Second); err != nil {
				return err
			}
		}
	}
}

// look looks for the snapshot, and for tasks that may write beneath it: the server
// may take it off the list only when it has merged. Known are the tasks that it
// has looked at; those that had ended at the first look were before the snapshot.
func (s *still) look(ctx context.Context, known map[types.ManagedObjectReference]bool, first bool) error {
	var vm mo.VirtualMachine
	pc := property.DefaultCollector(s.c)
	if err := pc.RetrieveOne(ctx, s.f.ref, []string{"snapshot", "recentTask"}, &vm); err != nil {
		return err
	}
	here := slices.ContainsFunc(snapshots(vm.Snapshot), func(t types.VirtualMachineSnapshotTree) bool { return t.Snapshot == s.snapshot })
	if !here {
		return fmt.Errorf("%w: somebody removed its snapshot %s", hypervisor.ErrStillBroken, s.name)
	}
	for _, ref := range vm.RecentTask {
		if known[ref] {
			continue
		}
		var task mo.Task
		err := pc.RetrieveOne(ctx, ref, []string{"info"}, &task)
		if err != nil && !isMissing(err) {
			return err
		}
		// One that the server has forgotten has ended.
		ended := err != nil || task.Info.State == types.TaskInfoStateSuccess || task.Info.State == types.TaskInfoStateError
		if !sparesDisks(task.Info) && !(first && ended) {
			return fmt.Errorf("%w: the server works on it (%s)", hypervisor.ErrStillBroken, words(task.Info.DescriptionId))
		}
		known[ref] = true
	}
	return nil
}

// gone words why the still can no longer be read.
func (s *still) gone(err error) error {
	name := words(s.f.name())
	switch {
	case err == nil:
		return nil
	case isMissing(err):
		return fmt.Errorf("%s: %w", name, hypervisor.ErrMachineGone)
	case errors.Is(err, hypervisor.ErrStillBroken):
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: its snapshot was removed while it was exported, or the server began to change its disks", name),
			Safe: name + " goes on running; no point was made of what had been read",
			Next: "see on the server who did it (the machine's tasks and events), and export again",
			Err:  err,
		}
	}
	return fmt.Errorf("look whether the snapshot of %s still stands: %w", name, err)
}
