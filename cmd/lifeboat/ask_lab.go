package main

import (
	"context"
	"net"
	"net/netip"
)

// labAsked is the lab of a run, for the steps that ask inside it.
type labAsked struct{ *labClient }

// asked is the lab as steps ask inside it; nil if there is none.
func (l *labClient) asked() askLab {
	if l == nil {
		return nil
	}
	return labAsked{l}
}

// Has says that a network of the plan is one of the lab's.
func (l labAsked) Has(network string) bool { return labHas(l.config, network) }

// Resolver is the address that production's machines ask for names.
func (l labAsked) Resolver() netip.Addr {
	for _, n := range l.config.Networks {
		for _, a := range n.DNS {
			return a
		}
	}
	return netip.Addr{}
}

// whoIsOn asks on a bridge of this computer whether somebody has an address or
// a MAC, and says who; empty: nobody answered.
func whoIsOn(ctx context.Context, bridge string, address netip.Addr, mac net.HardwareAddr) (string, error) {
	text := ""
	if address.IsValid() {
		text = address.String()
	}
	found, err := probeBridge(ctx, bridge, text, mac.String())
	if err != nil || found == nil {
		return "", err
	}
	return found.String(), nil
}
