package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"lifeboat/hypervisor"
)

var _ hypervisor.Linker = (*Host)(nil)

// linksFile says which cables were plugged in or pulled since the machine was
// defined. It is a file of its own, because a move to local disk holds the
// definition for hours.
const linksFile = "links.json"

// links are, by the number of a card, whether its cable is in.
type links map[int]bool

func (m *machine) loadLinks() (links, error) {
	data, err := os.ReadFile(m.path(linksFile))
	if errors.Is(err, fs.ErrNotExist) {
		return links{}, nil
	}
	l := links{}
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	if err != nil {
		return nil, fmt.Errorf("read which cables of %s are in: %w", m.name(), err)
	}
	return l, nil
}

// cable is where the cable of a card goes.
func (m *machine) cable(card int) hypervisor.Network {
	if card < len(m.def.Networks) {
		return m.def.Networks[card]
	}
	return hypervisor.Network{}
}

// linked says whether the cable of a card is in.
func (m *machine) linked(l links, card int) bool {
	n := m.cable(card)
	if n.Kind == hypervisor.NetworkNone || n.Kind == "" {
		return false
	}
	if up, changed := l[card]; changed {
		return up
	}
	return !n.Unplugged
}

// heldBack says that a cable leads somewhere and is not to be in. The processors
// of such a machine do not run before it is pulled.
func (m *machine) heldBack(l links) bool {
	for card := range m.def.Machine.NICs {
		if n := m.cable(card); n.Kind != hypervisor.NetworkNone && n.Kind != "" && !m.linked(l, card) {
			return true
		}
	}
	return false
}

// Link plugs the cable of a card in, or pulls it.
func (h *Host) Link(ctx context.Context, name string, card int, up bool) error {
	m, err := h.find(name)
	if err != nil {
		return err
	}
	if card < 0 || card >= len(m.def.Machine.NICs) {
		return fmt.Errorf("%s has no network card %d", m.name(), card)
	}
	if n := m.cable(card); n.Kind == hypervisor.NetworkNone || n.Kind == "" {
		if !up {
			return nil
		}
		return fmt.Errorf("card %d of %s: %w", card, m.name(), hypervisor.ErrNoCable)
	}
	l, err := m.loadLinks()
	if err != nil {
		return err
	}
	l[card] = up
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	// Written first: a machine that starts meanwhile starts as it is to be.
	if err := writeFile(m.dir, linksFile, append(data, '\n')); err != nil {
		return fmt.Errorf("keep which cables of %s are in: %w", m.name(), err)
	}
	mon, err := m.monitor(ctx, commandSocket)
	if errors.Is(err, errOff) {
		return nil
	}
	if err != nil {
		return err
	}
	defer mon.close()
	if err := mon.setLink(ctx, card, up); err != nil && !isClosed(err) {
		return fmt.Errorf("the cable of card %d of %s: %w", card, m.name(), err)
	}
	return nil
}

// Linked says whether the cable of a card is in.
func (h *Host) Linked(_ context.Context, name string, card int) (bool, error) {
	m, err := h.find(name)
	if err != nil {
		return false, err
	}
	if card < 0 || card >= len(m.def.Machine.NICs) {
		return false, fmt.Errorf("%s has no network card %d", m.name(), card)
	}
	l, err := m.loadLinks()
	return err == nil && m.linked(l, card), err
}

func (m *monitor) setLink(ctx context.Context, card int, up bool) error {
	return m.run(ctx, "set_link", args{"name": fmt.Sprintf("nic%d", card), "up": up}, nil)
}

// unplug pulls the cables that are not to be in, so that the guest sees no link,
// and lets a machine run whose processors were held for that.
func (m *machine) unplug(ctx context.Context, l links) error {
	mon, err := m.monitor(ctx, commandSocket)
	if err != nil {
		return m.cannotStart(err)
	}
	defer mon.close()
	for card := range m.def.Machine.NICs {
		if m.linked(l, card) {
			continue
		}
		if err := mon.setLink(ctx, card, false); err != nil {
			return fmt.Errorf("unplug %s: %w", m.name(), err)
		}
	}
	if !m.heldBack(l) {
		return nil
	}
	if err := mon.run(ctx, "cont", nil, nil); err != nil {
		return fmt.Errorf("let %s run: %w", m.name(), err)
	}
	return nil
}

// finishStart goes on with a start that was cut short before the machine's
// processors ran. Any other machine is left alone.
func (m *machine) finishStart(ctx context.Context) error {
	mon, err := m.monitor(ctx, commandSocket)
	if errors.Is(err, errOff) {
		return nil
	}
	if err != nil {
		return err
	}
	var status struct {
		Status string `json:"status"`
	}
	err = mon.run(ctx, "query-status", nil, &status)
	mon.close()
	if err != nil || status.Status != "prelaunch" {
		return err
	}
	lock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	l, err := m.loadLinks()
	if err != nil {
		return err
	}
	return m.unplug(ctx, l)
}
