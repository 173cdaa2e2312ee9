package vsphere

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"lifeboat/hypervisor"
)

var _ hypervisor.Linker = (*Host)(nil)

// cardNumber returns a network card of a machine, in the order of the list.
func (f *found) cardNumber(n int) (types.BaseVirtualEthernetCard, error) {
	cards := f.ethernets()
	if n < 0 || n >= len(cards) {
		return nil, fmt.Errorf("%s has no network card %d", words(f.name()), n)
	}
	return cards[n], nil
}

// uncabled says that a card was built without a cable. The server has it in some
// network all the same, so it must never be connected.
func (f *found) uncabled(n int) bool {
	return slices.Contains(strings.Split(f.setting(settingUncabled), ","), strconv.Itoa(n))
}

// Link plugs the cable of a card in, or pulls it: at once in a machine that runs,
// and for its next starts.
func (h *Host) Link(ctx context.Context, machine string, n int, up bool) error {
	f, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	card, err := f.cardNumber(n)
	if err != nil {
		return err
	}
	if f.uncabled(n) {
		if !up {
			return nil
		}
		return fmt.Errorf("card %d of %s: %w", n, words(f.name()), hypervisor.ErrNoCable)
	}
	device := card.GetVirtualEthernetCard().GetVirtualDevice()
	runs := f.power() != hypervisor.PowerOff
	if c := device.Connectable; c != nil && c.StartConnected == up && (!runs || c.Connected == up) {
		return nil
	}
	c, err := h.client(ctx)
	if err != nil {
		return err
	}
	// The guest may not plug in what we pulled.
	device.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: up, Connected: up && runs, AllowGuestControl: up}
	spec := types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
		Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: card.(types.BaseVirtualDevice),
	}}}
	return h.explain("the cable of a network card of "+words(f.name()), "its disks are as they were", h.reconfigure(ctx, c, f.ref, spec))
}

// Linked says whether the cable of a card is in: of a machine that runs, now.
func (h *Host) Linked(ctx context.Context, machine string, n int) (bool, error) {
	f, err := h.find(ctx, machine)
	if err != nil {
		return false, err
	}
	card, err := f.cardNumber(n)
	if err != nil {
		return false, err
	}
	c := card.GetVirtualEthernetCard().GetVirtualDevice().Connectable
	if c == nil {
		return true, nil
	}
	if f.power() == hypervisor.PowerOff {
		return c.StartConnected, nil
	}
	return c.Connected, nil
}
