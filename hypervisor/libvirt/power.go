//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"time"

	lv "libvirt.org/go/libvirt"

	"lifeboat/hypervisor"
)

// PowerOn starts a machine; one that runs is left alone.
func (h *Host) PowerOn(ctx context.Context, machine string) error {
	d, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	return d.start(ctx)
}

// power is what the machine does now.
func (d *domain) power(ctx context.Context) (hypervisor.PowerState, error) {
	return onDomain(ctx, d, "ask for its state", func(dom *lv.Domain) (hypervisor.PowerState, error) {
		state, _, err := dom.GetState()
		return powerOf(state), err
	})
}

// pollPower is how often a machine that is to go off is looked at.
const pollPower = 300 * time.Millisecond

// PowerOff asks the guest to shut down, waits for grace, and then takes the power
// away.
func (h *Host) PowerOff(ctx context.Context, machine string, grace time.Duration) error {
	d, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	if grace > 0 {
		if off, err := d.shutDown(ctx, grace); err != nil || off {
			return err
		}
	}
	err = d.do(ctx, "take its power", func(dom *lv.Domain) error { return dom.Destroy() })
	if err == nil {
		return nil
	}
	// It may have gone off by itself meanwhile.
	if off, askErr := d.isOff(ctx); askErr == nil && off {
		return nil
	}
	return err
}

// shutDown asks the guest through its power button and its agent, and waits; it
// says whether the machine is off. A guest without either goes on.
func (d *domain) shutDown(ctx context.Context, grace time.Duration) (off bool, err error) {
	limited, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	// The button first: the agent of a guest may be there and deaf.
	if err := d.do(limited, "press its power button", func(dom *lv.Domain) error {
		return dom.ShutdownFlags(lv.DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
	}); err != nil && !isCode(err, lv.ERR_OPERATION_INVALID, lv.ERR_OPERATION_UNSUPPORTED) && !errors.Is(err, hypervisor.ErrMachineGone) {
		return false, err
	}
	go d.do(limited, "ask its agent to shut down", func(dom *lv.Domain) error { //nolint:errcheck // a guest need not have an agent
		return dom.ShutdownFlags(lv.DOMAIN_SHUTDOWN_GUEST_AGENT)
	})
	for {
		off, err := d.isOff(limited)
		switch {
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case limited.Err() != nil:
			return false, nil
		case err != nil || off:
			return off, err
		}
		select {
		case <-limited.Done():
		case <-time.After(pollPower):
		}
	}
}

// isOff says that the machine does not run. One that libvirt forgets when it
// stops is off as well.
func (d *domain) isOff(ctx context.Context) (bool, error) {
	power, err := d.power(ctx)
	if errors.Is(err, hypervisor.ErrMachineGone) {
		return true, nil
	}
	return power == hypervisor.PowerOff, err
}
