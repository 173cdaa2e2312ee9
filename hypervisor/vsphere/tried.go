package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// appearTime is how long after a lost answer a snapshot may still come to be of
// which the server shows no task.
var appearTime = 20 * time.Second

// tried is a snapshot that was asked for and may come to be, although nobody
// waits for it any more.
type tried struct {
	name string
	// task makes it; empty where the server's answer was lost.
	task types.ManagedObjectReference
	// over: it is known that the task has ended.
	over bool
	// lost is when the answer was lost.
	lost time.Time
}

// create makes a snapshot. Every name that was asked for is kept until it is
// known that no snapshot of that name is left; see sweep.
func (s *still) create(ctx context.Context, quiesce bool) error {
	now, err := serverTime(ctx, s.c)
	if err != nil {
		return err
	}
	s.claim = newClaim(now)
	s.name = newSnapshotName()
	s.takenAt = time.Now().UTC()
	heldHere.Store(s.name, true)
	a := &tried{name: s.name}
	s.tried = append(s.tried, a)
	res, err := methods.CreateSnapshot_Task(ctx, s.c, &types.CreateSnapshot_Task{
		This: s.f.ref, Name: s.name, Description: s.claim.text(), Memory: false, Quiesce: quiesce,
	})
	if err != nil {
		a.lost = time.Now()
		if soap.IsSoapFault(err) || neverSent(err) {
			s.forget(a)
		}
		return err
	}
	a.task = res.Returnval
	info, err := s.h.wait(ctx, a.task, snapshotTime)
	if err != nil {
		return errors.Join(err, s.giveUp(ctx, a))
	}
	a.over = true
	ref, ok := info.Result.(types.ManagedObjectReference)
	if !ok {
		return errors.New("the server made a snapshot and does not say which")
	}
	s.snapshot = ref
	s.tried = s.tried[:len(s.tried)-1]
	return nil
}

// forget: no snapshot of that name is left, or will be.
func (s *still) forget(a *tried) {
	heldHere.Delete(a.name)
	for i, other := range s.tried {
		if other == a {
			s.tried = append(s.tried[:i:i], s.tried[i+1:]...)
			return
		}
	}
}

// giveUp waits for the end of a snapshot that failed or was cancelled, and
// removes it if it came to be all the same. What it cannot do now sweep does when
// the still is let go.
func (s *still) giveUp(ctx context.Context, a *tried) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterTime)
	defer cancel()
	return s.removeTried(ctx, a)
}

// sweep removes the snapshots that were asked for and given up.
func (s *still) sweep(ctx context.Context) error {
	var failed []error
	for len(s.tried) > len(failed) {
		if err := s.removeTried(ctx, s.tried[len(failed)]); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// removeTried waits until a try has ended and removes what came of it. It
// fails if that is not known when ctx ends.
func (s *still) removeTried(ctx context.Context, a *tried) error {
	for {
		ended, err := s.hasEnded(ctx, a)
		if err != nil {
			return err
		}
		// The list is looked at after the end was seen.
		info, err := snapshotsOf(ctx, s.c, s.f.ref)
		if isMissing(err) {
			s.forget(a)
			return nil
		}
		if err != nil {
			return err
		}
		for _, one := range snapshots(info) {
			if one.Name == a.name {
				if err := s.h.removeSnapshot(ctx, s.c, one.Snapshot); err != nil {
					return err
				}
				ended = true
			}
		}
		if ended {
			s.forget(a)
			return nil
		}
		if err := sleep(ctx, time.Second); err != nil {
			return fmt.Errorf("%w: the server may still make the snapshot %s: %w", errStillAtIt, a.name, err)
		}
	}
}

// hasEnded says whether a try makes no snapshot any more. One whose answer
// was lost has no task that could be asked: it has ended when the machine has had
// no task that makes snapshots for a while.
func (s *still) hasEnded(ctx context.Context, a *tried) (bool, error) {
	if a.over {
		return true, nil
	}
	if a.task.Value != "" {
		var t mo.Task
		err := property.DefaultCollector(s.c).RetrieveOne(ctx, a.task, []string{"info.state"}, &t)
		a.over = isMissing(err) || t.Info.State == types.TaskInfoStateSuccess || t.Info.State == types.TaskInfoStateError
		if a.over {
			return true, nil
		}
		return false, err
	}
	making, err := underWay(ctx, s.c, s.f.ref, "createsnapshot")
	if err != nil || making {
		a.lost = time.Now()
		return false, err
	}
	return time.Since(a.lost) >= appearTime, nil
}

// underWay says whether a task of the machine runs, or waits, whose name holds one
// of these words.
func underWay(ctx context.Context, c *vim25.Client, machine types.ManagedObjectReference, kinds ...string) (bool, error) {
	var vm mo.VirtualMachine
	pc := property.DefaultCollector(c)
	if err := pc.RetrieveOne(ctx, machine, []string{"recentTask"}, &vm); err != nil {
		if isMissing(err) {
			return false, nil
		}
		return false, err
	}
	for _, ref := range vm.RecentTask {
		var task mo.Task
		if err := pc.RetrieveOne(ctx, ref, []string{"info"}, &task); err != nil {
			if isMissing(err) {
				continue
			}
			return false, err
		}
		name := strings.ToLower(task.Info.DescriptionId + " " + task.Info.Name)
		runs := task.Info.State == types.TaskInfoStateRunning || task.Info.State == types.TaskInfoStateQueued
		if runs && slices.ContainsFunc(kinds, func(kind string) bool { return strings.Contains(name, kind) }) {
			return true, nil
		}
	}
	return false, nil
}

// quiescing says whether a snapshot that failed may succeed without the guest's
// help: the server says so, or its time ran out and it is known to have ended
// without a snapshot. Never where an answer was lost, because then there may be a
// snapshot already.
func (s *still) quiescing(err error) bool {
	if len(s.tried) > 0 {
		return false
	}
	for _, f := range []types.BaseMethodFault{
		&types.ApplicationQuiesceFault{}, &types.FilesystemQuiesceFault{}, &types.ToolsUnavailable{},
		&types.OperationNotSupportedByGuest{}, &types.GuestOperationsFault{}, &types.Timedout{},
		// What servers give for everything else that goes wrong with a snapshot.
		&types.GenericVmConfigFault{}, &types.SnapshotFault{}, &types.SystemError{},
	} {
		if fault.Is(err, f) {
			return true
		}
	}
	return errors.Is(err, errStillAtIt)
}
