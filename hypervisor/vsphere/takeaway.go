package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
)

const (
	// importGoodbye bounds the cleaning up after a failed import.
	importGoodbye = time.Minute
	// lostTime is how long a machine is looked for whose making was asked for and
	// never answered.
	lostTime = 20 * time.Second
)

// attempt is what one import has begun on the server, for taking it away.
type attempt struct {
	h *Host
	c *vim25.Client
	b *blueprint
	// lease is nil where the server's answer was lost; open until it was ended
	// well.
	lease *nfc.Lease
	open  bool
	// made is the machine, once the server has told it.
	made types.ManagedObjectReference
}

// takeAway removes what a failed import has made, with time of its own: the
// caller's may be what ended. It returns the cause, and what is left or may be
// left if the server does not let itself be cleaned.
func (a *attempt) takeAway(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), importGoodbye)
	defer cancel()
	over := a.endLease(ctx)
	f, err := a.look(ctx, over)
	switch {
	case err == nil && f != nil:
		err = a.destroy(ctx, f.ref)
	case err == nil && !over && a.made.Value == "":
		err = errors.New("the server was asked for it and did not answer")
	}
	if err == nil || isMissing(err) {
		return cause
	}
	name := words(plainName(a.b.spec.Name))
	return &lifeboat.Problem{
		What: fmt.Sprintf("host %s: building %s did not end well, and a half-made machine may be left (%s)", a.h.o.Name, name, words(err.Error())),
		Safe: "every other machine is as it was; the drive is as it was",
		Next: "if it is there, delete " + name + " on the server, then try again",
		Err:  cause,
	}
}

// endLease ends the transfer; most servers remove the machine with it. It says
// whether the server is known to make no more of it.
func (a *attempt) endLease(ctx context.Context) bool {
	if a.lease == nil {
		return false
	}
	if !a.open {
		return true
	}
	err := a.lease.Abort(ctx, nil)
	return err == nil || isMissing(err) || fault.Is(err, &types.InvalidState{})
}

// look returns the machine that this very call has made, or nil where there is
// none. Never anything else: so one whose settings do not say it is an error.
func (a *attempt) look(ctx context.Context, over bool) (*found, error) {
	if a.made.Value == "" {
		return a.search(ctx, over)
	}
	f := &found{ref: a.made}
	err := property.DefaultCollector(a.c).RetrieveOne(ctx, a.made, machineProperties, &f.vm)
	switch {
	case isMissing(err):
		return nil, nil
	case err != nil:
		return nil, err
	// An ESXi may have chosen the machine's id itself; then it was written down.
	case f.vm.Config == nil || !f.madeFor(a.b.instance) && !f.ours():
		return nil, errors.New("the server shows another machine in its place")
	}
	return f, nil
}

// search looks for the machine among all, by the id that no other one has. While
// the server may be making it, it may not be there yet.
func (a *attempt) search(ctx context.Context, over bool) (*found, error) {
	for end := time.Now().Add(lostTime); ; {
		all, err := a.h.machines(ctx, a.c, machineProperties)
		if err != nil {
			return nil, err
		}
		for i := range all {
			if all[i].madeFor(a.b.instance) {
				return &all[i], nil
			}
		}
		if over || time.Now().After(end) {
			return nil, nil
		}
		if err := sleep(ctx, taskPauseTo); err != nil {
			return nil, err
		}
	}
}

// madeFor says whether Define built the machine with that id.
func (f *found) madeFor(instance string) bool {
	return strings.EqualFold(f.setting(settingFor), instance)
}

// destroy deletes the machine, also if a transfer that nobody has a lease of holds
// it for a while.
func (a *attempt) destroy(ctx context.Context, ref types.ManagedObjectReference) error {
	for {
		err := a.h.destroy(ctx, a.c, ref)
		if !isBusy(err) {
			return err
		}
		if sleep(ctx, taskPauseTo) != nil {
			return err
		}
	}
}

func (h *Host) destroy(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) error {
	res, err := methods.Destroy_Task(ctx, c, &types.Destroy_Task{This: ref})
	if err != nil {
		return err
	}
	_, err = h.wait(ctx, res.Returnval, taskTime)
	return err
}
