//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
)

// List returns every machine, in the order of their names.
func (h *Host) List(ctx context.Context) ([]hypervisor.Listed, error) {
	all, err := h.domains(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b *domain) int { return strings.Compare(a.name, b.name) })
	list := make([]hypervisor.Listed, 0, len(all))
	var problems error
	for _, d := range all {
		seen, err := d.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, hypervisor.ErrMachineGone):
			// It was deleted, or a transient one ended, since the list was made.
		case err != nil:
			problems = errors.Join(problems, err)
		default:
			list = append(list, hypervisor.Listed{Machine: seen.machine, HostID: d.uuid, Power: seen.power, Recovery: seen.recovery,
				Refused: refusedWords(seen.refusals(nil))})
		}
	}
	return list, problems
}

// look reads the whole of a domain: what it is, whether it runs, and how large
// its disks are. It changes nothing.
func (d *domain) look(ctx context.Context) (*sight, error) {
	s, err := onDomain(ctx, d, "read it", readDomain)
	if err != nil {
		return nil, err
	}
	described, err := describe(s.config, s.live)
	if err != nil {
		return nil, err
	}
	s.description, s.way = described, d.h.transport()
	if s.hostSMBIOS {
		s.machine.SMBIOS = d.h.hostSMBIOS(ctx)
	}
	for i := range s.disks {
		if err := d.measure(ctx, s, i); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// readDomain reads both descriptions and the state in one visit.
func readDomain(dom *lv.Domain) (*sight, error) {
	state, reason, err := dom.GetState()
	if err != nil {
		return nil, err
	}
	s := &sight{power: powerOf(state), byHand: standsByHand(state, reason)}
	persistent, err := dom.IsPersistent()
	if err != nil {
		return nil, err
	}
	s.transient = !persistent
	if s.snapshots, err = dom.SnapshotNum(lv.DOMAIN_SNAPSHOT_LIST_INTERNAL); err != nil && !isCode(err, lv.ERR_NO_SUPPORT) {
		return nil, err
	}
	// Neither asks for secrets: libvirt leaves passwords out.
	if s.config, err = dom.GetXMLDesc(lv.DOMAIN_XML_INACTIVE); err != nil {
		return nil, err
	}
	if s.power == hypervisor.PowerOff {
		s.saved, err = dom.HasManagedSaveImage(0)
		return s, err
	}
	s.live, err = dom.GetXMLDesc(0)
	return s, err
}

func standsByHand(state lv.DomainState, reason int) bool {
	paused := lv.DomainPausedReason(reason)
	return state == lv.DOMAIN_PAUSED && (paused == lv.DOMAIN_PAUSED_USER || paused == lv.DOMAIN_PAUSED_STARTING_UP)
}

// powerOf is a domain's state in the words of the contract. A machine that crashed
// is off; one that its guest put to sleep stands still.
func powerOf(state lv.DomainState) hypervisor.PowerState {
	switch state {
	case lv.DOMAIN_SHUTOFF, lv.DOMAIN_CRASHED:
		return hypervisor.PowerOff
	case lv.DOMAIN_PAUSED, lv.DOMAIN_PMSUSPENDED:
		return hypervisor.PowerPaused
	}
	return hypervisor.PowerOn
}

// measure finds the size of a disk, and the file of one that is named by its
// pool. A disk that is refused, or read only while it runs, may stay without.
func (d *domain) measure(ctx context.Context, s *sight, i int) error {
	disk, source := &s.machine.Disks[i], &s.disks[i]
	if source.kind == "volume" {
		path, err := d.h.volumePath(ctx, source.pool, source.volume)
		if err != nil && source.refused == "" {
			return fmt.Errorf("%s: find disk %s: %w", d.name, source.key, err)
		}
		source.path = path
	}
	info, err := onDomain(ctx, d, "measure disk "+source.key, func(dom *lv.Domain) (*lv.DomainBlockInfo, error) {
		return dom.GetBlockInfo(source.target, 0)
	})
	switch {
	case err == nil && info.Capacity <= 1<<62:
		disk.SizeBytes = int64(info.Capacity)
	case source.refused != "" || source.onlyRunning != "" && s.live == "":
	case err == nil:
		return fmt.Errorf("%s: disk %s cannot have %d bytes", d.name, source.key, info.Capacity)
	default:
		return err
	}
	return nil
}

// volumePath is the file or device of a volume.
func (h *Host) volumePath(ctx context.Context, pool, volume string) (string, error) {
	return onHost(ctx, h, "find volume "+pool+"/"+volume, func(c *lv.Connect) (string, error) {
		p, err := c.LookupStoragePoolByName(pool)
		if err != nil {
			return "", err
		}
		defer p.Free()
		v, err := p.LookupStorageVolByName(volume)
		if err != nil {
			return "", err
		}
		defer v.Free()
		return v.GetPath()
	})
}

// hostSMBIOS is what the host's own firmware says. A host that cannot tell shows
// its guests nothing either.
func (h *Host) hostSMBIOS(ctx context.Context) lifeboat.SMBIOS {
	text, err := onHost(ctx, h, "read the host's SMBIOS", func(c *lv.Connect) (string, error) { return c.GetSysinfo(0) })
	var info struct {
		Entries []libvirtxml.DomainSysInfoEntry `xml:"system>entry"`
	}
	if err != nil || xml.Unmarshal([]byte(text), &info) != nil {
		return lifeboat.SMBIOS{}
	}
	return smbios(info.Entries)
}
