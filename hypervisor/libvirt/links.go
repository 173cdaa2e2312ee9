//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"fmt"
	"strings"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"lifeboat/hypervisor"
)

var _ hypervisor.Linker = (*Host)(nil)

// card returns a network card of a description, and whether it has a cable at
// all: one without is on the user network, with its link down.
func card(text string, n int) (nic *libvirtxml.DomainInterface, cabled bool, err error) {
	doc, err := parseDomain(text)
	if err != nil {
		return nil, false, err
	}
	if n < 0 || n >= len(doc.Devices.Interfaces) {
		return nil, false, fmt.Errorf("%s has no network card %d", doc.Name, n)
	}
	nic = &doc.Devices.Interfaces[n]
	return nic, !isDown(nic) || nic.Source == nil || nic.Source.User == nil, nil
}

func isDown(nic *libvirtxml.DomainInterface) bool { return nic.Link != nil && nic.Link.State == "down" }

// liveCard is the card of a running machine that is a given one in its
// definition. Cards may have been added to it meanwhile, so they are told by
// their addresses.
func liveCard(live string, nic *libvirtxml.DomainInterface) (*libvirtxml.DomainInterface, error) {
	doc, err := parseDomain(live)
	if err != nil {
		return nil, err
	}
	for i := range doc.Devices.Interfaces {
		other := &doc.Devices.Interfaces[i]
		if nic.MAC != nil && other.MAC != nil && strings.EqualFold(nic.MAC.Address, other.MAC.Address) {
			return other, nil
		}
	}
	return nil, fmt.Errorf("%s: the card is not in the machine that runs", doc.Name)
}

// Link plugs the cable of a card in, or pulls it, in the definition and in the
// machine that runs.
func (h *Host) Link(ctx context.Context, machine string, n int, up bool) error {
	d, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	s, err := onDomain(ctx, d, "look at it", readDomain)
	if err != nil {
		return err
	}
	nic, cabled, err := card(s.config, n)
	if err != nil {
		return err
	}
	if !cabled {
		if !up {
			return nil
		}
		return fmt.Errorf("card %d of %s: %w", n, d.name, hypervisor.ErrNoCable)
	}
	// The definition first: a machine that starts meanwhile starts as it is to be.
	if !s.transient {
		if err := d.setLink(ctx, nic, up, lv.DOMAIN_DEVICE_MODIFY_CONFIG); err != nil {
			return err
		}
	}
	if s.live == "" {
		return nil
	}
	running, err := liveCard(s.live, nic)
	if err != nil {
		return err
	}
	return d.setLink(ctx, running, up, lv.DOMAIN_DEVICE_MODIFY_LIVE)
}

// setLink changes the link of one card, and nothing else about it.
func (d *domain) setLink(ctx context.Context, nic *libvirtxml.DomainInterface, up bool, where lv.DomainDeviceModifyFlags) error {
	if up == !isDown(nic) {
		return nil
	}
	nic.Link = &libvirtxml.DomainInterfaceLink{State: map[bool]string{true: "up", false: "down"}[up]}
	text, err := nic.Marshal()
	if err != nil {
		return err
	}
	return d.do(ctx, "the cable of a network card", func(dom *lv.Domain) error { return dom.UpdateDeviceFlags(text, where) })
}

// Linked says whether the cable of a card is in: of a machine that runs, now.
func (h *Host) Linked(ctx context.Context, machine string, n int) (bool, error) {
	d, err := h.find(ctx, machine)
	if err != nil {
		return false, err
	}
	s, err := onDomain(ctx, d, "look at it", readDomain)
	if err != nil {
		return false, err
	}
	nic, _, err := card(s.config, n)
	if err == nil && s.live != "" {
		nic, err = liveCard(s.live, nic)
	}
	return err == nil && !isDown(nic), err
}

var _ hypervisor.Bridger = (*Host)(nil)

// BridgeOf is the bridge of a libvirt network on this computer.
func (h *Host) BridgeOf(ctx context.Context, network string) (string, error) {
	if !h.local() {
		return "", fmt.Errorf("network %s is on another computer: %w", hypervisor.GuestWords(network), hypervisor.ErrUnsupported)
	}
	return onHost(ctx, h, "find the bridge of network "+hypervisor.GuestWords(network), func(c *lv.Connect) (string, error) {
		n, err := c.LookupNetworkByName(network)
		if err != nil {
			return "", err
		}
		defer n.Free()
		return n.GetBridgeName()
	})
}
