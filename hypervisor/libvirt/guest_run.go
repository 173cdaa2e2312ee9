//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"fmt"

	lv "libvirt.org/go/libvirt"

	"lifeboat/hypervisor"
)

var _ hypervisor.GuestRunner = (*Host)(nil)

// GuestRun runs a program in a guest through its agent.
func (h *Host) GuestRun(ctx context.Context, machine string, c hypervisor.GuestCommand) (hypervisor.GuestResult, error) {
	d, err := h.find(ctx, machine)
	if err != nil {
		return hypervisor.GuestResult{}, err
	}
	// Only before the program is started an agent that is away means that it was
	// not.
	if err := h.GuestPing(ctx, machine); err != nil {
		return hypervisor.GuestResult{}, err
	}
	result, err := hypervisor.RunInGuest(ctx, d.runAgent, c)
	if err != nil {
		err = fmt.Errorf("%s: %w", d.name, err)
	}
	return result, err
}

// GuestPing says whether the agent of a guest answers.
func (h *Host) GuestPing(ctx context.Context, machine string) error {
	d, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	err = d.pingGuest(ctx)
	// Not there, not connected, or the machine is off.
	if err != nil && isCode(err, lv.ERR_AGENT_UNRESPONSIVE, lv.ERR_AGENT_UNSYNCED, lv.ERR_OPERATION_INVALID,
		lv.ERR_ARGUMENT_UNSUPPORTED, lv.ERR_CONFIG_UNSUPPORTED) {
		return fmt.Errorf("%w: %w", hypervisor.ErrNoAgent, err)
	}
	return err
}
