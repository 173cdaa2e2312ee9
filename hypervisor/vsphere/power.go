package vsphere

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// powerPause is how often a guest that shuts down is looked at.
const powerPause = time.Second

// PowerOn starts a machine; one that runs is left alone. A question that the
// server asks on the way is not answered for the operator: it comes back as a
// problem, and waits on the server.
func (h *Host) PowerOn(ctx context.Context, machine string) error {
	f, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	if f.power() == hypervisor.PowerOn {
		return nil
	}
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	what := "start " + words(f.name())
	res, err := methods.PowerOnVM_Task(ctx, c, &types.PowerOnVM_Task{This: f.ref})
	if err == nil {
		err = h.waitOrAsk(ctx, c, f, res.Returnval)
	}
	if f.alreadyIs(err, types.VirtualMachinePowerStatePoweredOn) {
		return nil
	}
	return h.explain(what, "the machine is off; its disks are as they were", err)
}

// waitOrAsk waits for a task, and gives up with the question if the server asks
// one.
func (h *Host) waitOrAsk(ctx context.Context, c *vim25.Client, f *found, task types.ManagedObjectReference) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for sleep(ctx, powerPause) == nil {
			if q := question(ctx, c, f); q != nil {
				cancel(h.asked(f, q))
				return
			}
		}
	}()
	_, err := h.wait(ctx, task, taskTime)
	return err
}

// question is what the server asks about a machine, or nil.
func question(ctx context.Context, c *vim25.Client, f *found) *types.VirtualMachineQuestionInfo {
	var vm mo.VirtualMachine
	if property.DefaultCollector(c).RetrieveOne(ctx, f.ref, []string{"runtime.question"}, &vm) != nil {
		return nil
	}
	return vm.Runtime.Question
}

func (h *Host) asked(f *found, q *types.VirtualMachineQuestionInfo) error {
	var choices []string
	for _, choice := range q.Choice.ChoiceInfo {
		if d := choice.GetElementDescription(); d != nil {
			choices = append(choices, words(d.Label))
		}
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("host %s: the server asks about %s: %s", h.o.Name, words(f.name()), words(q.Text)),
		Safe: "the machine waits for the answer; its disks are as they were",
		Next: "answer on the server (" + strings.Join(choices, ", ") + "), and do this again",
		Err:  errAsked,
	}
}

var errAsked = fmt.Errorf("the server waits for an answer")

// alreadyIs says whether a power call failed only because the machine is where
// it was to go: somebody else was faster.
func (f *found) alreadyIs(err error, want types.VirtualMachinePowerState) bool {
	var state *types.InvalidPowerState
	if err == nil {
		return false
	}
	_, ok := fault.As(err, &state)
	return ok && state.ExistingState == want
}

// PowerOff asks the guest's tools for a shutdown, waits for grace, and then takes
// the power away. Where no tools run there is nobody to ask.
func (h *Host) PowerOff(ctx context.Context, machine string, grace time.Duration) error {
	f, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	if f.power() == hypervisor.PowerOff {
		return nil
	}
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	what := "stop " + words(f.name())
	if grace > 0 && f.power() == hypervisor.PowerOn {
		off, err := h.shutDown(ctx, c, f, grace)
		if off || err != nil {
			return h.explain(what, "the machine runs on, or shuts down by itself", err)
		}
	}
	res, err := methods.PowerOffVM_Task(ctx, c, &types.PowerOffVM_Task{This: f.ref})
	if err == nil {
		_, err = h.wait(ctx, res.Returnval, taskTime)
	}
	if f.alreadyIs(err, types.VirtualMachinePowerStatePoweredOff) {
		return nil
	}
	return h.explain(what, "the machine runs on", err)
}

// shutDown asks the guest and waits. It says whether the machine is off; a guest
// that cannot be asked is no error.
func (h *Host) shutDown(ctx context.Context, c *vim25.Client, f *found, grace time.Duration) (off bool, err error) {
	if runs, why := f.toolsRun(); !runs {
		h.o.Note(f.name(), why+": the guest cannot be asked to shut down, and the power is taken away")
		return false, nil
	}
	if _, err := methods.ShutdownGuest(ctx, c, &types.ShutdownGuest{This: f.ref}); err != nil {
		if f.alreadyIs(err, types.VirtualMachinePowerStatePoweredOff) {
			return true, nil
		}
		if ctx.Err() != nil || isNotAuthenticated(err) || isMissing(err) {
			return false, err
		}
		h.o.Note(f.name(), "the guest does not take the wish to shut down ("+words(err.Error())+"), and the power is taken away")
		return false, nil
	}
	for end := time.Now().Add(grace); time.Now().Before(end); {
		var vm mo.VirtualMachine
		if err := property.DefaultCollector(c).RetrieveOne(ctx, f.ref, []string{"runtime.powerState"}, &vm); err != nil {
			return false, err
		}
		if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff {
			return true, nil
		}
		if err := sleep(ctx, min(powerPause, time.Until(end))); err != nil {
			return false, err
		}
	}
	return false, nil
}
