package vsphere

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

const (
	// snapshotTime bounds making a snapshot. Windows' shadow copies take minutes.
	snapshotTime = 15 * time.Minute
	// afterTime bounds looking after what an operation that failed left.
	afterTime = 2 * time.Minute
)

// removeTime bounds waiting for the end of a removal. The server goes on with it
// without us. A test shortens it.
var removeTime = 10 * time.Minute

// newSnapshotName is the name of a snapshot that nobody else has.
func newSnapshotName() string {
	var b [8]byte
	rand.Read(b[:])
	return snapshotPrefix + hex.EncodeToString(b[:])
}

// snapshots returns all snapshots of a machine, parents first.
func snapshots(info *types.VirtualMachineSnapshotInfo) []types.VirtualMachineSnapshotTree {
	if info == nil {
		return nil
	}
	var all []types.VirtualMachineSnapshotTree
	for list := info.RootSnapshotList; len(list) > 0; {
		var next []types.VirtualMachineSnapshotTree
		for _, s := range list {
			all = append(all, s)
			next = append(next, s.ChildSnapshotList...)
		}
		list = next
	}
	return all
}

// ours returns the snapshots that exports made, with who made them.
func ours(info *types.VirtualMachineSnapshotInfo) (list []types.VirtualMachineSnapshotTree, claims []claim) {
	for _, s := range snapshots(info) {
		c, ok := parseClaim(s.Description)
		if ok && strings.HasPrefix(s.Name, snapshotPrefix) {
			list, claims = append(list, s), append(claims, c)
		}
	}
	return list, claims
}

// snapshotsOf reads what snapshots a machine has now.
func snapshotsOf(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) (*types.VirtualMachineSnapshotInfo, error) {
	var vm mo.VirtualMachine
	err := property.DefaultCollector(c).RetrieveOne(ctx, ref, []string{"snapshot"}, &vm)
	return vm.Snapshot, err
}

// clearLeftovers removes the snapshots that exports left behind which are dead,
// and refuses a machine that another one holds. Cleared: there were any.
func (h *Host) clearLeftovers(ctx context.Context, c *vim25.Client, f *found) (cleared bool, _ error) {
	list, claims := ours(f.vm.Snapshot)
	if len(list) == 0 {
		return false, nil
	}
	now, err := serverTime(ctx, c)
	if err != nil {
		return false, h.explain("ask for the time", "nothing was done", err)
	}
	for i, s := range list {
		if until, lives := claims[i].lives(s.Name, now); lives {
			return false, busy(f, claims[i], until)
		}
	}
	for _, claim := range claims {
		if claim.computer == thisComputer() {
			continue
		}
		// It may be unable to say that it lives while the server sends its disks.
		under, err := underWay(ctx, c, f.ref, "exportvm", "exportsnapshot")
		if err != nil {
			return false, h.explain("look at the tasks of "+words(f.name()), "nothing was done", err)
		}
		if under {
			return false, busy(f, claim, now.Add(silence))
		}
	}
	for i, s := range list {
		if err := h.removeSnapshot(ctx, c, s.Snapshot); err != nil {
			return false, h.explain(fmt.Sprintf("remove the snapshot that an export of %s left behind", words(f.name())),
				words(f.name())+" goes on running; its snapshot grows until it is removed", err)
		}
		h.o.Note(f.name(), fmt.Sprintf("removed a snapshot of %s: an export on %s had left it behind",
			s.CreateTime.UTC().Format(time.RFC3339), words(claims[i].by)))
	}
	return true, nil
}

// busy words that an export holds the machine.
func busy(f *found, c claim, until time.Time) error {
	p := &lifeboat.Problem{
		What: fmt.Sprintf("%s: an export on %s holds this machine (last heard of at %s)", words(f.name()), words(c.by), c.alive.UTC().Format(time.RFC3339)),
		Safe: "the machine goes on running, and nothing was changed",
		Next: "let it end; see it with: lifeboat run list",
		Err:  hypervisor.ErrMachineBusy,
	}
	if c.computer != thisComputer() {
		p.Next = fmt.Sprintf("see on %s whether it still runs; if that computer is gone, export again after %s, which removes its snapshot", words(c.by), until.UTC().Format(time.RFC3339))
	}
	return p
}

// serverTime is the time by the server's clock.
func serverTime(ctx context.Context, c *vim25.Client) (time.Time, error) {
	now, err := methods.GetCurrentTime(ctx, c)
	if err != nil {
		return time.Time{}, err
	}
	return *now, nil
}

// removeTries is how often a snapshot is tried to be removed that the server is
// busy with: our own stream's task may need a moment to end.
const removeTries = 5

// removeSnapshot removes one snapshot and waits for it, no longer than removeTime
// (errStillAtIt). One that is not there any more is no error.
func (h *Host) removeSnapshot(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) error {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	yes := true
	for try := 1; ; try++ {
		res, err := methods.RemoveSnapshot_Task(ctx, c, &types.RemoveSnapshot_Task{This: ref, Consolidate: &yes})
		if err == nil {
			err = h.ask(ctx, res.Returnval)
		}
		switch {
		case isMissing(err):
			return nil
		case !isBusy(err) || try == removeTries:
			return err
		}
		if err := sleep(ctx, time.Duration(try)*time.Second); err != nil {
			return err
		}
	}
}

// ask asks about a task until it has ended. Unlike wait it does not cancel the
// task when the context ends.
func (h *Host) ask(ctx context.Context, task types.ManagedObjectReference) error {
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	for pause := taskPause; ; pause = min(2*pause, taskPauseTo) {
		var t mo.Task
		if err := property.DefaultCollector(c).RetrieveOne(ctx, task, []string{"info"}, &t); err != nil {
			if ctx.Err() != nil {
				err = errors.Join(errStillAtIt, err)
			}
			return err
		}
		switch t.Info.State {
		case types.TaskInfoStateSuccess:
			return nil
		case types.TaskInfoStateError:
			return taskError(t.Info.Error)
		}
		if err := sleep(ctx, pause); err != nil {
			return errors.Join(errStillAtIt, err)
		}
	}
}
