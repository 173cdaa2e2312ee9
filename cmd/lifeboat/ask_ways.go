package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// way is how the services of a machine are asked.
type way interface {
	// ask makes a check of a service once, and says what was seen.
	ask(ctx context.Context, c runbook.Check) (string, error)
}

// wayTo finds how a machine is asked now: from inside the lab if it is there; over
// this computer's networks in a recovery, if its cable is in; else inside the
// guest, through its agent. A machine of a drill is never asked over a network of
// this computer: production may have its address there.
func (k *asker) wayTo(ctx context.Context, act runbook.Action) (way, error) {
	host, l, there, err := k.find(ctx, act)
	if err != nil {
		return nil, err
	}
	if !there || l.Power == hypervisor.PowerOff {
		return nil, fmt.Errorf("%s does not run", act.Machine.Name)
	}
	for i, card := range act.Machine.Cards {
		address, ok := cardAddress(card)
		if !ok || card.Network == "" {
			continue
		}
		if k.lab != nil && k.lab.Has(card.Network) && host.Abilities().Labs {
			return &networkWay{address: address, dial: k.lab.Dial, ping: k.lab.Ping}, nil
		}
		if !k.drill() && k.shared(card.Network) && plugged(ctx, host, l, cardOn(l, card, i)) {
			return &networkWay{address: address, dial: (&net.Dialer{}).DialContext, ping: hostPing}, nil
		}
	}
	return k.agentWay(ctx, act, host, l)
}

// shared says that a network of the plan leads to where others are.
func (k *asker) shared(network string) bool {
	for _, n := range k.plan.Networks {
		if n.Name == network {
			return n.Cable.Kind == runbook.CableBridge || n.Cable.Kind == runbook.CableNetwork
		}
	}
	return false
}

// plugged says that the cable of a card is in. A host that leaves none unplugged
// has them all in.
func plugged(ctx context.Context, h hypervisor.Host, l hypervisor.Listed, card int) bool {
	linker, ok := h.(hypervisor.Linker)
	if !ok {
		return true
	}
	up, err := linker.Linked(ctx, hostWord(l), card)
	return err == nil && up
}

// cardOn is the number that a host gives a card of the plan: cards are told by
// their MACs, or else by their order.
func cardOn(l hypervisor.Listed, card runbook.PlannedCard, order int) int {
	for i, nic := range l.Machine.NICs {
		if card.MAC != "" && strings.EqualFold(nic.MAC, card.MAC) {
			return i
		}
	}
	return order
}

// cardAddress is a card's first IPv4 address that others can reach.
func cardAddress(card runbook.PlannedCard) (netip.Addr, bool) {
	for _, text := range card.Address {
		text, _, _ = strings.Cut(text, "/")
		a, err := netip.ParseAddr(text)
		if err == nil && a.Is4() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// agentWay asks inside the guest. Where nobody can, it says why.
func (k *asker) agentWay(_ context.Context, act runbook.Action, h hypervisor.Host, l hypervisor.Listed) (way, error) {
	runner, ok := h.(hypervisor.GuestRunner)
	if ok && l.Machine.Agent {
		return &guestWay{runner: runner, machine: hostWord(l)}, nil
	}
	why := "its address is not known"
	for _, card := range act.Machine.Cards {
		if _, known := cardAddress(card); known {
			why = "its networks cannot be reached from here"
		}
	}
	if k.drill() {
		why += ", and a drill asks nobody over this computer's own networks"
	}
	return nil, &neverPasses{
		why:  why + "; it has no guest agent that could be asked instead",
		next: "install qemu-guest-agent in it, or run the drill as root on a qemu host, or check its console text",
	}
}

// networkWay asks over a network.
type networkWay struct {
	address netip.Addr
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	ping    func(ctx context.Context, address string) (time.Duration, error)
}

func (w *networkWay) ask(ctx context.Context, c runbook.Check) (string, error) {
	at := netip.AddrPortFrom(w.address, uint16(portOf(c))).String()
	switch c.Kind {
	case runbook.CheckPing:
		took, err := w.ping(ctx, w.address.String())
		return fmt.Sprintf("answers in %v", took.Round(time.Millisecond/10)), err
	case runbook.CheckDNS:
		return w.askDNS(ctx, at, c)
	case runbook.CheckHTTP, runbook.CheckHTTPS:
		return w.askHTTP(ctx, at, c)
	}
	conn, err := w.dial(ctx, "tcp", at)
	if err != nil {
		return "", err
	}
	return "", conn.Close()
}
