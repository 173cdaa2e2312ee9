//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
)

// start gives a machine power. One that has it is left alone, except one that was
// booted from a drive and whose start was cut short: it goes on.
func (d *domain) start(ctx context.Context) error {
	s, err := onDomain(ctx, d, "look at it", readDomain)
	if err != nil || s.power == hypervisor.PowerOn {
		return err
	}
	begun := s.power == hypervisor.PowerOff
	if begun {
		if err := d.complete(s); err != nil {
			return err
		}
		if err := d.prepare(ctx); err != nil {
			return err
		}
		// It does not run before its disks wait for their server.
		err := d.do(ctx, "start it", func(dom *lv.Domain) error { return dom.CreateWithFlags(lv.DOMAIN_START_PAUSED) })
		if power, askErr := d.power(ctx); err != nil && askErr == nil && power != hypervisor.PowerOff {
			return nil // somebody else was quicker
		}
		if err != nil {
			return d.cannotStart(err)
		}
		if s, err = onDomain(ctx, d, "look at it", readDomain); err != nil {
			return err
		}
	}
	doc, err := parseDomain(s.live)
	if err != nil {
		return err
	}
	if !begun && (len(serversOf(doc)) == 0 || !s.byHand) {
		return nil
	}
	if err := d.waitForServers(ctx, doc); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	for _, network := range segmentsOf(doc) {
		// Its own end of the cable has come to the bridge only now.
		if err := d.h.seal(network); err != nil {
			return err
		}
	}
	return d.do(ctx, "let it run", (*lv.Domain).Resume)
}

// complete says why a machine whose Define died is not started.
func (d *domain) complete(s *sight) error {
	doc, err := parseDomain(s.config)
	if err != nil {
		return err
	}
	own, _, err := oursIn(doc)
	if err != nil || !own.Making {
		return err
	}
	return &lifeboat.Problem{
		What: d.name + ": it is not complete; the program that built it is still at it, or was stopped",
		Safe: "the drive was only read",
		Next: "remove it, and boot it again: lifeboat stop --remove " + d.name,
	}
}

// Retry lets a machine go on that stopped because a disk could not be read or
// written; its guest saw no error, and tries again.
func (h *Host) Retry(ctx context.Context, machine string) error {
	d, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	return d.do(ctx, "let it go on", func(dom *lv.Domain) error {
		state, reason, err := dom.GetState()
		if err != nil || state != lv.DOMAIN_PAUSED || lv.DomainPausedReason(reason) != lv.DOMAIN_PAUSED_IOERROR {
			return err
		}
		return dom.Resume()
	})
}

// Pause makes a machine stand that runs.
func (h *Host) Pause(ctx context.Context, machine string) (stood bool, err error) {
	d, err := h.find(ctx, machine)
	if err != nil {
		return false, err
	}
	return onDomain(ctx, d, "make it stand", func(dom *lv.Domain) (bool, error) {
		state, _, err := dom.GetState()
		if err != nil || state != lv.DOMAIN_RUNNING {
			return false, err
		}
		return true, dom.Suspend()
	})
}

// Continue lets a machine go on that Pause made stand.
func (h *Host) Continue(ctx context.Context, machine string) error {
	d, err := h.find(ctx, machine)
	if err != nil {
		return err
	}
	return d.do(ctx, "let it go on", func(dom *lv.Domain) error {
		state, reason, err := dom.GetState()
		if err != nil || state != lv.DOMAIN_PAUSED || lv.DomainPausedReason(reason) != lv.DOMAIN_PAUSED_USER {
			return err
		}
		return dom.Resume()
	})
}

// prepare makes ready what a machine of ours needs on this computer beside its
// files: the way to its disk server, its private networks. They do not outlive a
// restart of the computer.
func (d *domain) prepare(ctx context.Context) error {
	s, err := onDomain(ctx, d, "look at it", readDomain)
	if err != nil {
		return err
	}
	doc, err := parseDomain(s.config)
	if err != nil {
		return err
	}
	own, found, err := oursIn(doc)
	if err != nil || !found {
		return err
	}
	for _, n := range segmentsOf(doc) {
		if err := d.h.openSegment(ctx, n); err != nil {
			return err
		}
	}
	if own.Making {
		return nil // Define itself, which makes the files next
	}
	return d.letServersBeReached(ctx, doc)
}

// letServersBeReached lets QEMU's user through to the sockets of the disk servers.
func (d *domain) letServersBeReached(ctx context.Context, doc *libvirtxml.Domain) error {
	servers := serversOf(doc)
	if len(servers) == 0 || !d.h.local() {
		return nil
	}
	facts, err := d.h.facts(ctx)
	if err != nil {
		return err
	}
	for _, server := range servers {
		if err := letThrough(filepath.Dir(server.socket), facts.qemuUID); err != nil {
			return noServer(d.name, err)
		}
	}
	return nil
}

// cannotStart is why libvirt does not start a machine, in words where they are
// known.
func (d *domain) cannotStart(err error) error {
	text := err.Error()
	var whole lv.Error
	if errors.As(err, &whole) {
		text = whole.Message // [message] shows its beginning only
	}
	switch {
	case strings.Contains(text, "Failed to get") && strings.Contains(text, "lock"):
		// QEMU locks the images that it uses, and an export of a machine that is
		// off uses them.
		return &lifeboat.Problem{
			What: d.name + ": one of its disks is in use, by an export while it is off or by another machine",
			Safe: "nothing was changed",
			Next: "wait until the export ends, or stop it: lifeboat run list",
			Err:  fmt.Errorf("%w: %w", hypervisor.ErrMachineBusy, err),
		}
	case strings.Contains(text, `"driver":"nbd"`):
		return noServer(d.name, err)
	case strings.Contains(text, "Unable to find any firmware"):
		return &lifeboat.Problem{
			What: d.name + ": there is no UEFI firmware on the host that fits the machine",
			Safe: "nothing was changed",
			Next: "install the firmware, for example: apt-get install ovmf  (dnf install edk2-ovmf)",
			Err:  err,
		}
	case strings.Contains(text, "network backend 'user' is not compiled"):
		return &lifeboat.Problem{
			What: d.name + ": the QEMU of this host has no user network, which a card without a cable is on",
			Safe: "nothing was changed",
			Next: "plug every card in: --network segment, or --network bridge:NAME",
			Err:  err,
		}
	case strings.Contains(text, "swtpm"):
		return &lifeboat.Problem{
			What: d.name + ": the host cannot emulate the machine's TPM, and a disk that was sealed with it does not open",
			Safe: "nothing was changed",
			Next: "install the emulator: apt-get install swtpm swtpm-tools",
			Err:  err,
		}
	}
	return err
}

func noServer(machine string, err error) error {
	return &lifeboat.Problem{
		What: machine + ": its disk server cannot be reached, so it has no disks",
		Safe: "what the machine wrote is still in its overlay",
		Next: "start the serving of its disks again: lifeboat boot --resume",
		Err:  err,
	}
}

// server is the NBD server under the overlay of a disk.
type server struct {
	disk   *libvirtxml.DomainDisk
	socket string
	export string
	// index is libvirt's number for it, in a machine that runs.
	index uint
	// waits: libvirt lets guests wait for it when it is gone. Before 9.5 libvirt
	// had no word for that and left it out of what it was told.
	waits bool
}

// serversOf are the disk servers that a machine of ours reads from.
func serversOf(doc *libvirtxml.Domain) []server {
	var all []server
	for i := range doc.Devices.Disks {
		disk := &doc.Devices.Disks[i]
		base := disk.BackingStore
		if base == nil || base.Source == nil || base.Source.Network == nil || disk.Target == nil {
			continue
		}
		n := base.Source.Network
		if n.Protocol != "nbd" || len(n.Hosts) != 1 || n.Hosts[0].Socket == "" {
			continue
		}
		all = append(all, server{disk: disk, socket: n.Hosts[0].Socket, export: n.Name, index: base.Index, waits: n.Reconnect != nil})
	}
	return all
}

// serverNode is the node of a server that guests wait for.
func serverNode(index uint) string { return fmt.Sprintf("lifeboat-%d-server", index) }

// waitForServers makes the disks of a machine wait for a server that is gone,
// where libvirt does not know how: QEMU gets another connection to the server,
// one that waits, and the node that libvirt made reads from that. It may be done
// twice.
func (d *domain) waitForServers(ctx context.Context, live *libvirtxml.Domain) error {
	var nodes map[string]bool
	for _, s := range serversOf(live) {
		if s.waits || s.index == 0 {
			continue
		}
		if nodes == nil {
			var err error
			if nodes, err = d.blockNodes(ctx); err != nil {
				return err
			}
		}
		if nodes[serverNode(s.index)] {
			continue
		}
		if err := d.waitForServer(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (d *domain) waitForServer(ctx context.Context, s server) error {
	err := d.monitor(ctx, "blockdev-add", map[string]any{
		"driver": "nbd", "node-name": serverNode(s.index), "server": map[string]any{"type": "unix", "path": s.socket},
		"export": s.export, "reconnect-delay": reconnectSeconds, "read-only": true}, nil)
	if err != nil {
		return err
	}
	err = d.monitor(ctx, "blockdev-reopen", map[string]any{"options": []any{map[string]any{
		"driver": "raw", "node-name": fmt.Sprintf("libvirt-%d-format", s.index), "read-only": true, "discard": "unmap",
		"file": serverNode(s.index)}}}, nil)
	if err != nil {
		// Without this node the next start tries again.
		return errors.Join(err, d.monitor(ctx, "blockdev-del", map[string]any{"node-name": serverNode(s.index)}, nil))
	}
	return nil
}

// blockNodes are the names of QEMU's block nodes.
func (d *domain) blockNodes(ctx context.Context) (map[string]bool, error) {
	var list []struct {
		Name string `json:"node-name"`
	}
	err := d.monitor(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &list)
	nodes := map[string]bool{}
	for _, n := range list {
		nodes[n.Name] = true
	}
	return nodes, err
}

// monitor asks QEMU itself.
func (d *domain) monitor(ctx context.Context, command string, arguments map[string]any, result any) error {
	request, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if err != nil {
		return err
	}
	var reply string
	err = d.do(ctx, "ask its QEMU: "+command, func(dom *lv.Domain) (err error) {
		reply, err = dom.QemuMonitorCommand(string(request), lv.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
		return err
	})
	if err != nil {
		return err
	}
	var answer struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(reply), &answer); err != nil {
		return fmt.Errorf("%s: read QEMU's answer: %w", command, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %w", command, errors.New(hypervisor.GuestWords(answer.Error.Desc)))
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Return, result)
}
