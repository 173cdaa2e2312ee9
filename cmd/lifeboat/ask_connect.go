package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// cableToPlug is a card of a machine that leads to where others are.
type cableToPlug struct {
	card    int
	planned runbook.PlannedCard
	cable   runbook.Cable
}

// cablesToPlug are the cards of a machine that a step plugs in. A drill has none:
// its machines are in the lab from the beginning and stay there.
func (k *asker) cablesToPlug(act runbook.Action) (list []cableToPlug) {
	if k.drill() || act.Machine == nil {
		return nil
	}
	for i, card := range act.Machine.Cards {
		for _, n := range k.plan.Networks {
			if n.Name == card.Network && k.shared(n.Name) {
				list = append(list, cableToPlug{i, card, n.Cable})
			}
		}
	}
	return list
}

// linkerOf returns who plugs the machine of a step in.
func (k *asker) linkerOf(ctx context.Context, act runbook.Action) (h hypervisor.Host, linker hypervisor.Linker, l hypervisor.Listed, err error) {
	h, l, there, err := k.find(ctx, act)
	if err != nil {
		return nil, nil, l, err
	}
	if !there {
		return nil, nil, l, fmt.Errorf("%s: %w", act.Machine.Name, hypervisor.ErrNoMachine)
	}
	linker, ok := h.(hypervisor.Linker)
	if !ok {
		return nil, nil, l, fmt.Errorf("%s: its host cannot plug cards in: %w", act.Machine.Name, hypervisor.ErrUnsupported)
	}
	return h, linker, l, nil
}

// connected says that each cable of the machine is in.
func (k *asker) connected(ctx context.Context, act runbook.Action) (bool, error) {
	cables := k.cablesToPlug(act)
	if len(cables) == 0 {
		return false, nil
	}
	_, linker, l, err := k.linkerOf(ctx, act)
	for _, c := range cables {
		if err != nil {
			return false, err
		}
		var up bool
		if up, err = linker.Linked(ctx, hostWord(l), cardOn(l, c.planned, c.card)); err == nil && !up {
			return false, nil
		}
	}
	return err == nil, err
}

// connect plugs a recovered machine in, once nobody on its networks has one of its
// addresses. All of its cables are probed before the first is plugged in.
func (k *asker) connect(ctx context.Context, act runbook.Action) (r runbook.Result, err error) {
	cables := k.cablesToPlug(act)
	if len(cables) == 0 {
		return runbook.Result{Detail: "nothing to plug in: no network of it is shared with others"}, nil
	}
	host, linker, l, err := k.linkerOf(ctx, act)
	if err != nil {
		return r, err
	}
	var seen []string
	for _, c := range cables {
		up, err := linker.Linked(ctx, hostWord(l), cardOn(l, c.planned, c.card))
		if err != nil {
			return r, err
		}
		if up {
			continue // ours is there already, and would answer
		}
		act.Say(fmt.Sprintf("asks whether somebody on %s has its address", c.planned.Network))
		detail, err := k.free(ctx, host, act.Machine.Name, c)
		if err != nil {
			return r, err
		}
		seen = append(seen, detail)
	}
	for _, c := range cables {
		if err := linker.Link(ctx, hostWord(l), cardOn(l, c.planned, c.card), true); err != nil {
			return r, err
		}
	}
	r.Detail = "plugged in; " + strings.Join(seen, "; ")
	return r, nil
}

// free returns nil if nobody answers at an address or with the MAC of a card.
func (k *asker) free(ctx context.Context, host hypervisor.Host, machine string, c cableToPlug) (string, error) {
	bridge := ""
	if c.cable.Kind == runbook.CableBridge {
		bridge = c.cable.Name
	} else if b, ok := host.(hypervisor.Bridger); ok {
		var err error
		if bridge, err = b.BridgeOf(ctx, c.cable.Name); err != nil && !errors.Is(err, hypervisor.ErrUnsupported) {
			return "", err
		}
	}
	if bridge == "" || k.probe == nil || !slices.Contains(k.bridges(), bridge) {
		return k.freeByPing(ctx, machine, c)
	}
	mac, err := net.ParseMAC(c.planned.MAC)
	if err != nil {
		mac = nil
	}
	addresses := ipv4Addresses(c.planned)
	if len(addresses) == 0 {
		addresses = []netip.Addr{{}} // the MAC alone
	}
	for _, a := range addresses {
		found, err := k.probe(ctx, bridge, a, mac)
		if err != nil {
			return "", fmt.Errorf("%s: ask whether its address is free on %s: %w", machine, bridge, err)
		}
		if found != "" {
			return "", k.inUse(machine, c, a, found)
		}
	}
	if !addresses[0].IsValid() {
		return fmt.Sprintf("nobody on %s has its MAC %s; its address is not known", c.planned.Network, c.planned.MAC), nil
	}
	return fmt.Sprintf("nobody on %s answered at %s", c.planned.Network, addressWords(addresses)), nil
}

// pingPatience is how long somebody at an address may take to answer a ping.
const pingPatience = 4 * time.Second

// freeByPing asks with a ping, where the network is not on this computer. Somebody
// who answers none is not found; that is said.
func (k *asker) freeByPing(ctx context.Context, machine string, c cableToPlug) (string, error) {
	addresses := ipv4Addresses(c.planned)
	for _, a := range addresses {
		limited, cancel := context.WithTimeout(ctx, pingPatience)
		_, err := hostPing(limited, a.String())
		cancel()
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if err == nil {
			return "", k.inUse(machine, c, a, fmt.Sprintf("%s answers a ping", a))
		}
		if errors.Is(err, errNoPing) {
			return "", err
		}
	}
	if len(addresses) == 0 {
		return fmt.Sprintf("its address on %s is not known, so nobody was asked", c.planned.Network), nil
	}
	return fmt.Sprintf("nobody answered a ping at %s (%s is not on this computer, so more could not be asked)", addressWords(addresses), c.planned.Network), nil
}

// inUse is the problem of an address that somebody has.
func (k *asker) inUse(machine string, c cableToPlug, a netip.Addr, who string) error {
	address := "its MAC"
	if a.IsValid() {
		address = a.String()
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: %s (MAC %s) is in use on network %s: %s", machine, address, c.planned.MAC, c.planned.Network, who),
		Safe: machine + " was not plugged in; whoever has the address was not disturbed, and the other machines go on",
		Next: "see who that is: if the old " + shellWord(machine) + " still runs, switch it off or leave this one out (--skip), then: lifeboat recover --resume " + short(k.run.ID),
		Err:  runbook.ErrAddressInUse,
	}
}

// ipv4Addresses are the addresses of a card that can be probed.
func ipv4Addresses(card runbook.PlannedCard) (list []netip.Addr) {
	for _, text := range card.Address {
		if a, ok := cardAddress(runbook.PlannedCard{Address: []string{text}}); ok {
			list = append(list, a)
		}
	}
	return list
}

func addressWords(addresses []netip.Addr) string {
	var texts []string
	for _, a := range addresses {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// errNoPing: this user may not send pings.
var errNoPing = errors.New("pings need root")

// hostPing sends an echo (RFC 792) over this computer's networks, again each
// second, and returns how long the first answer took.
func hostPing(ctx context.Context, address string) (time.Duration, error) {
	to, err := netip.ParseAddr(address)
	if err != nil || !to.Is4() {
		return 0, fmt.Errorf("%q is not an IPv4 address", address)
	}
	conn, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNoPing, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	echo := make([]byte, 16)
	echo[0] = 8
	rand.Read(echo[4:])
	binary.BigEndian.PutUint16(echo[2:], internetChecksum(echo))
	answer := make([]byte, 1500)
	for {
		sent := time.Now()
		_, err := conn.WriteTo(echo, &net.IPAddr{IP: to.AsSlice()})
		if err == nil {
			conn.SetReadDeadline(time.Now().Add(time.Second))
		}
		for err == nil {
			var n int
			var from net.Addr
			n, from, err = conn.ReadFrom(answer)
			if err == nil && n >= len(echo) && answer[0] == 0 && from.String() == to.String() && string(answer[4:len(echo)]) == string(echo[4:]) {
				return time.Since(sent), nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s answers no ping: %w", to, context.Cause(ctx))
		case <-time.After(time.Until(sent.Add(time.Second))):
		}
	}
}

// internetChecksum is that of RFC 1071.
func internetChecksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
