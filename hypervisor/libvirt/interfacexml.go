package libvirt

import (
	"fmt"

	"libvirt.org/go/libvirtxml"

	"lifeboat/hypervisor"
)

// cards are the network card models that this room's XML can give a machine, the
// best choice for an unknown guest first.
var cards = []string{"virtio", "e1000e", "e1000", "rtl8139", "vmxnet3"}

// interfaceXML are the network cards, in the machine's order.
func interfaceXML(d hypervisor.Definition, pci *slots) ([]libvirtxml.DomainInterface, error) {
	var all []libvirtxml.DomainInterface
	for i, nic := range d.Machine.NICs {
		var n hypervisor.Network
		if i < len(d.Networks) {
			n = d.Networks[i]
		}
		model := nic.Model
		if model == "" {
			model = "virtio"
		}
		x := libvirtxml.DomainInterface{
			MAC:     &libvirtxml.DomainInterfaceMAC{Address: nic.MAC},
			Model:   &libvirtxml.DomainInterfaceModel{Type: model},
			Address: pci.take(nic.PCISlot, model == "virtio" || model == "e1000e"),
			ROM:     &libvirtxml.DomainROM{Enabled: "no"}, // no network boot: it would only cost time
		}
		switch n.Kind {
		case hypervisor.NetworkUser:
			if n.Unplugged {
				return nil, fmt.Errorf("network card %d: a cable to the user network is in or there is none", i)
			}
			x.Source = &libvirtxml.DomainInterfaceSource{User: &libvirtxml.DomainInterfaceSourceUser{}}
		case hypervisor.NetworkSegment:
			x.Source = &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: segmentName(n.Name)}}
		case hypervisor.NetworkBridge:
			x.Source = &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: n.Name}}
		case hypervisor.NetworkNamed:
			x.Source = &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: n.Name}}
		case hypervisor.NetworkNone, "":
			// Not the type "null", which is meant for this: it makes libvirtd 9.0 crash.
			x.Source = &libvirtxml.DomainInterfaceSource{User: &libvirtxml.DomainInterfaceSourceUser{}}
			x.Link = &libvirtxml.DomainInterfaceLink{State: "down"}
		default:
			return nil, fmt.Errorf("there is no network of kind %q under libvirt", n.Kind)
		}
		if n.Unplugged {
			x.Link = &libvirtxml.DomainInterfaceLink{State: "down"}
		}
		all = append(all, x)
	}
	return all, nil
}
