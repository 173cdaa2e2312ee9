//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	lv "libvirt.org/go/libvirt"

	"lifeboat"
	"lifeboat/hypervisor"
)

// Remove deletes a machine that is off, with the disks that Define or Settle made
// for it, and nothing else. A machine that Lifeboat did not define is refused. A
// segment goes with its last machine.
func (h *Host) Remove(ctx context.Context, name string) error {
	d, err := h.find(ctx, name)
	if err != nil {
		return err
	}
	s, err := onDomain(ctx, d, "look at it", readDomain)
	if err != nil {
		return err
	}
	if s.power != hypervisor.PowerOff {
		return fmt.Errorf("%w: %s", hypervisor.ErrMachineRunning, d.name)
	}
	doc, err := parseDomain(s.config)
	if err != nil {
		return err
	}
	own, found, err := oursIn(doc)
	if err != nil {
		return err
	}
	if !found {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: Lifeboat did not define this machine on host %q, so it does not remove it", d.name, h.o.Name),
			Safe: "nothing was changed",
			Next: "if it has to go, remove it with libvirt's own tools: virsh undefine '" + d.name + "'",
		}
	}
	if err := d.remove(ctx, own); err != nil {
		return fmt.Errorf("remove %s: %w", d.name, err)
	}
	return nil
}

// leaveNothing takes along what libvirt keeps of a domain.
const leaveNothing = lv.DOMAIN_UNDEFINE_MANAGED_SAVE | lv.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
	lv.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | lv.DOMAIN_UNDEFINE_NVRAM

// remove takes away the private networks, the files and then the domain. The
// domain goes last: until then it is known what belongs to it.
func (d *domain) remove(ctx context.Context, own ours) error {
	s, err := onDomain(ctx, d, "look at it", readDomain)
	if err != nil {
		return err
	}
	doc, err := parseDomain(s.config)
	if err != nil {
		return err
	}
	for _, network := range segmentsOf(doc) {
		if err := d.h.closeSegment(ctx, network, d.uuid); err != nil {
			return err
		}
	}
	if own.Pool != "" {
		p, err := d.h.pool(ctx, own.Pool)
		if err != nil {
			return err
		}
		made, err := d.madeAlone(ctx, p, own.Made)
		if err != nil {
			return err
		}
		if err := p.remove(ctx, made); err != nil {
			return err
		}
	}
	return d.do(ctx, "undefine it", func(dom *lv.Domain) error { return dom.UndefineFlags(leaveNothing) })
}

// madeAlone are the volumes that were made for this domain and that no other one
// names, as it is defined or as it runs. The others stay.
func (d *domain) madeAlone(ctx context.Context, p *pool, volumes []string) ([]string, error) {
	all, err := d.h.domains(ctx)
	if err != nil {
		return nil, err
	}
	var others strings.Builder
	for _, other := range all {
		if other.uuid == d.uuid {
			continue
		}
		s, err := onDomain(ctx, other, "look at it", readDomain)
		if errors.Is(err, hypervisor.ErrMachineGone) {
			continue // deleted since the list was made
		}
		if err != nil {
			return nil, err
		}
		others.WriteString(s.config + s.live)
	}
	named := others.String()
	var alone []string
	for _, volume := range volumes {
		switch {
		case !isVolumeOf(volume, d.uuid):
			d.h.note(d.name, "its file "+hypervisor.Printable(volume)+" was made for another machine and stays")
		case strings.Contains(named, p.file(volume)) || strings.Contains(named, "'"+volume+"'"):
			d.h.note(d.name, "its file "+volume+" stays, because another machine names it")
		default:
			alone = append(alone, volume)
		}
	}
	return alone, nil
}
