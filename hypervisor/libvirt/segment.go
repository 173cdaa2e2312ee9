//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/netlab"
)

// A segment is a libvirt network with nothing but a bridge: no address, no
// forwarding, no name server. It is transient, so a host that was restarted has
// none left; PowerOn makes it again.

// noSegments says why a host on another computer has no private networks.
func (h *Host) noSegments() error {
	return &lifeboat.Problem{
		What: "host " + h.o.Name + " is another computer: Lifeboat can neither shut that computer out of a private network nor reach guests on it",
		Safe: "nothing was changed",
		Next: "run this command on that computer, or unplug the machines: --network none",
		Err:  hypervisor.ErrUnsupported,
	}
}

// segmentsOf are the segments that a machine is plugged into, by the names of
// their networks.
func segmentsOf(doc *libvirtxml.Domain) []string {
	var names []string
	for _, i := range doc.Devices.Interfaces {
		if i.Source == nil || i.Source.Network == nil {
			continue
		}
		if name := i.Source.Network.Network; strings.HasPrefix(name, segmentPrefix) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// bridgeOf is the bridge of a segment's network.
func bridgeOf(network string) string {
	return segmentBridgePrefix + strings.TrimPrefix(network, segmentPrefix)
}

// openSegment makes a segment's network where it is not, and shuts this computer
// out of it.
func (h *Host) openSegment(ctx context.Context, network string) error {
	if !h.local() {
		return h.noSegments()
	}
	if err := h.sweepSegments(ctx, network); err != nil {
		return err
	}
	doc := libvirtxml.Network{Name: network, Bridge: &libvirtxml.NetworkBridge{Name: bridgeOf(network), STP: "off", Delay: "0"}}
	text, err := doc.Marshal()
	if err != nil {
		return err
	}
	err = h.do(ctx, "make network "+network, func(c *lv.Connect) error {
		found, err := c.LookupNetworkByName(network)
		if err == nil {
			defer found.Free()
			return privateNetwork(found)
		}
		if !isCode(err, lv.ERR_NO_NETWORK) {
			return err
		}
		made, err := c.NetworkCreateXML(text)
		if err != nil {
			return err
		}
		return made.Free()
	})
	if err != nil {
		return err
	}
	return h.seal(network)
}

// seal shuts this computer out of a segment, as far as it is plugged together.
func (h *Host) seal(network string) error {
	err := netlab.Seal(bridgeOf(network))
	if errors.Is(err, netlab.ErrNotAllowed) {
		return &lifeboat.Problem{
			What: "a private network on host " + h.o.Name + " needs root: this computer has to be shut out of it",
			Safe: "no machine was started",
			Next: "run the command again as root",
			Err:  err,
		}
	}
	return err
}

// privateNetwork says why a network that is called like one of ours is none.
func privateNetwork(n *lv.Network) error {
	text, err := n.GetXMLDesc(0)
	if err != nil {
		return err
	}
	var doc libvirtxml.Network
	if err := doc.Unmarshal(text); err != nil {
		return err
	}
	active, err := n.IsActive()
	if err != nil {
		return err
	}
	if !active || doc.Forward != nil || len(doc.IPs) > 0 || doc.Bridge == nil || doc.Bridge.Name != bridgeOf(doc.Name) {
		return fmt.Errorf("somebody changed network %s: it is no private network any more; remove it (virsh net-destroy %s; virsh net-undefine %s)", doc.Name, doc.Name, doc.Name)
	}
	return nil
}

// sweepSegments removes the networks of segments whose processes died before any
// machine was on them, except one.
func (h *Host) sweepSegments(ctx context.Context, except string) error {
	names, err := onHost(ctx, h, "list the networks", func(c *lv.Connect) ([]string, error) {
		all, err := c.ListAllNetworks(lv.CONNECT_LIST_NETWORKS_ACTIVE | lv.CONNECT_LIST_NETWORKS_TRANSIENT)
		if err != nil {
			return nil, err
		}
		var names []string
		for i := range all {
			if name, err := all[i].GetName(); err == nil && strings.HasPrefix(name, segmentPrefix) && name != except {
				names = append(names, name)
			}
			_ = all[i].Free()
		}
		return names, nil
	})
	for _, name := range names {
		if ports, perr := netlab.Ports(bridgeOf(name)); perr == nil && len(ports) == 0 {
			err = errors.Join(err, h.closeSegment(ctx, name, ""))
		}
	}
	return err
}

// closeSegment removes a segment's network unless a machine is plugged into it,
// other than the one with that UUID.
func (h *Host) closeSegment(ctx context.Context, network, except string) error {
	users, err := h.segmentUsers(ctx, network)
	if err != nil || len(users) > 1 || len(users) == 1 && users[0] != except {
		return err
	}
	return h.do(ctx, "remove network "+network, func(c *lv.Connect) error {
		found, err := c.LookupNetworkByName(network)
		if isCode(err, lv.ERR_NO_NETWORK) {
			return nil
		}
		if err != nil {
			return err
		}
		defer found.Free()
		if err := found.Destroy(); !isCode(err, lv.ERR_NO_NETWORK, lv.ERR_OPERATION_INVALID) {
			return err
		}
		return nil
	})
}

// segmentUsers are the UUIDs of the domains that are plugged into a network.
func (h *Host) segmentUsers(ctx context.Context, network string) ([]string, error) {
	return onHost(ctx, h, "look who is on network "+network, func(c *lv.Connect) ([]string, error) {
		all, err := c.ListAllDomains(0)
		if err != nil {
			return nil, err
		}
		var users []string
		for i := range all {
			uuid, uses := usesNetwork(&all[i], network)
			if uses {
				users = append(users, uuid)
			}
			_ = all[i].Free()
		}
		return users, nil
	})
}

// usesNetwork says whether a domain is plugged into a network. One that cannot be
// read is not ours, or has just ended.
func usesNetwork(dom *lv.Domain, network string) (uuid string, uses bool) {
	uuid, err := dom.GetUUIDString()
	if err != nil {
		return "", false
	}
	for _, flags := range []lv.DomainXMLFlags{0, lv.DOMAIN_XML_INACTIVE} {
		text, err := dom.GetXMLDesc(flags)
		if err != nil {
			continue
		}
		if doc, err := parseDomain(text); err == nil && slices.Contains(segmentsOf(doc), network) {
			return uuid, true
		}
	}
	return uuid, false
}
