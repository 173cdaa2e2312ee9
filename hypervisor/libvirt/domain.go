//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	lv "libvirt.org/go/libvirt"

	"lifeboat"
	"lifeboat/hypervisor"
)

// domain names one domain of the host. It holds nothing of libvirt: each call
// looks it up by its UUID, so it outlives a restart of libvirtd.
type domain struct {
	h *Host
	// name is what the operator calls it, and uuid what libvirt does: the HostID.
	name, uuid string
	// stoodStill: it was paused before our job began, and is not to be let go on.
	// owesResume: a job of ours was ended that may have stopped it.
	stoodStill, owesResume atomic.Bool
}

// find returns the machine of that name, UUID or Lifeboat id. A word that means
// two of them is refused: nobody can say which was meant.
func (h *Host) find(ctx context.Context, word string) (*domain, error) {
	all, err := h.domains(ctx)
	if err != nil {
		return nil, err
	}
	var found []*domain
	var unknown error
	for _, d := range all {
		switch {
		case d.name == libvirtName(word), strings.EqualFold(d.uuid, word):
			found = append(found, d)
		case isID(word):
			id, _, err := d.identity(ctx)
			if errors.Is(err, hypervisor.ErrMachineGone) {
				continue // deleted since the list was made
			}
			unknown = errors.Join(unknown, err)
			if err == nil && id == word {
				found = append(found, d)
			}
		}
	}
	switch len(found) {
	case 0:
		if unknown != nil {
			return nil, fmt.Errorf("%w: %q on host %q, where not all can be read: %w", hypervisor.ErrNoMachine, word, h.o.Name, unknown)
		}
		return nil, fmt.Errorf("%w: %q on host %q", hypervisor.ErrNoMachine, word, h.o.Name)
	case 1:
		return found[0], nil
	}
	return nil, &lifeboat.Problem{
		What: fmt.Sprintf("%q means %d machines of host %s: %s and %s", hypervisor.Printable(word), len(found), h.o.Name,
			hypervisor.Printable(found[0].name), hypervisor.Printable(found[1].name)),
		Safe: "nothing was done",
		Next: fmt.Sprintf("name the one by its UUID: %s/%s or %s/%s", h.o.Name, found[0].uuid, h.o.Name, found[1].uuid),
	}
}

// domains are all domains of the host, running or not.
func (h *Host) domains(ctx context.Context) ([]*domain, error) {
	return onHost(ctx, h, "list the machines of "+h.o.Name, func(c *lv.Connect) ([]*domain, error) {
		list, err := c.ListAllDomains(0)
		if err != nil {
			return nil, err
		}
		all := make([]*domain, 0, len(list))
		for i := range list {
			name, nameErr := list[i].GetName()
			uuid, uuidErr := list[i].GetUUIDString()
			_ = list[i].Free()
			if nameErr != nil || uuidErr != nil {
				continue // both are read from memory: only a freed domain has none
			}
			all = append(all, &domain{h: h, name: name, uuid: uuid})
		}
		return all, nil
	})
}

// identity is the machine's Lifeboat id and the run that booted it from a drive,
// if one did.
func (d *domain) identity(ctx context.Context) (id, recovery string, err error) {
	text, err := onDomain(ctx, d, "read the metadata", func(dom *lv.Domain) (string, error) {
		text, err := dom.GetMetadata(lv.DOMAIN_METADATA_ELEMENT, metadataNamespace, lv.DOMAIN_AFFECT_CURRENT)
		if isCode(err, lv.ERR_NO_DOMAIN_METADATA) {
			return "", nil
		}
		return text, err
	})
	if err != nil {
		return "", "", err
	}
	if text == "" {
		return hypervisor.DerivedID(Kind, d.uuid), "", nil
	}
	o, err := parseElement(text)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", d.name, err)
	}
	if !o.isFor(d.uuid) {
		return hypervisor.DerivedID(Kind, d.uuid), "", nil // a copy of a machine that we defined
	}
	return o.ID, o.Recovery, nil
}

// onDomain asks something about a domain. Like [onHost] it may ask twice, so f
// must not change anything.
func onDomain[T any](ctx context.Context, d *domain, op string, f func(*lv.Domain) (T, error)) (T, error) {
	return onHost(ctx, d.h, d.name+": "+op, func(c *lv.Connect) (T, error) { return withDomain(c, d, f) })
}

// do changes something about a domain: f runs at most once.
func (d *domain) do(ctx context.Context, op string, f func(*lv.Domain) error) error {
	return d.h.do(ctx, d.name+": "+op, func(c *lv.Connect) error {
		_, err := withDomain(c, d, func(dom *lv.Domain) (struct{}, error) { return struct{}{}, f(dom) })
		return err
	})
}

func withDomain[T any](c *lv.Connect, d *domain, f func(*lv.Domain) (T, error)) (T, error) {
	dom, err := c.LookupDomainByUUIDString(d.uuid)
	if err != nil {
		var none T
		return none, err
	}
	defer dom.Free()
	return f(dom)
}
