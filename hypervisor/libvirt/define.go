//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	lv "libvirt.org/go/libvirt"

	"lifeboat"
	"lifeboat/hypervisor"
)

// leastSpace is what has to be free for the overlay of a machine that is booted
// from a drive: without it the guest would stop within seconds.
const leastSpace = 64 << 20

// Define builds a machine from its description and leaves it off. A name that
// exists is refused.
//
// The domain comes first, with a mark that it is not complete and the names of
// all files that will be made for it. So there is no file that no machine knows
// of, whenever this process dies: Remove finds them all.
func (h *Host) Define(ctx context.Context, d hypervisor.Definition) error {
	plan, err := h.planDefinition(ctx, &d)
	if err != nil {
		return err
	}
	if err := h.defineXML(ctx, d, plan.build, true); err != nil {
		return fmt.Errorf("define %s: %w", plan.build.name, err)
	}
	made := &domain{h: h, name: plan.build.name, uuid: plan.build.uuid}
	err = plan.makeFiles(ctx, d)
	if err == nil {
		err = made.prepare(ctx)
	}
	if err == nil {
		err = h.defineXML(ctx, d, plan.build, false)
	}
	if err == nil {
		return nil
	}
	undone := made.remove(context.WithoutCancel(ctx), plan.build.ours)
	return errors.Join(h.noSpace(plan, err), undone)
}

// definePlan is what Define has decided to do, before it changes anything.
type definePlan struct {
	pool  *pool
	build build
	// nvram is the volume for the firmware's variables, or empty.
	nvram string
}

// planDefinition checks a definition and decides everything. It fills in what the
// machine lacks: an id, Ethernet addresses.
func (h *Host) planDefinition(ctx context.Context, d *hypervisor.Definition) (*definePlan, error) {
	if d.Name == "" {
		d.Name = d.Machine.Name
	}
	if err := h.refuse(ctx, *d); err != nil {
		return nil, err
	}
	if d.Machine.ID == "" {
		d.Machine.ID = newID()
	}
	d.Machine.NICs = withMACs(d.Machine.ID, d.Machine.NICs, d.NewMACs)
	uuid, err := h.domainUUID(ctx, *d)
	if err != nil {
		return nil, err
	}
	facts, err := h.facts(ctx)
	if err != nil {
		return nil, err
	}
	p, err := h.pool(ctx, h.o.Pool)
	if err != nil {
		return nil, err
	}
	plan := &definePlan{pool: p, build: build{
		name: libvirtName(d.Name), uuid: uuid, kvm: h.kvm(ctx, facts, d.Name), disks: map[string]diskFile{},
		ours: oursOf(&d.Machine, d.Recovery, p.name),
	}}
	plan.build.ours.Domain = uuid
	if plan.build.name != d.Name {
		plan.build.ours.Name = d.Name
	}
	for _, b := range d.Disks {
		if b.NBD != nil {
			// They know the files of a machine, and no sockets of disk servers.
			plan.build.unconfined = facts.confining
		}
	}
	if !strings.EqualFold(uuid, d.Machine.UUID) {
		plan.build.ours.UUID = strings.ToLower(d.Machine.UUID)
	}
	return plan, plan.nameFiles(*d)
}

// nameFiles decides where everything of the machine will be.
func (plan *definePlan) nameFiles(d hypervisor.Definition) error {
	b := &plan.build
	volume := func(rest string) string {
		name := volumeName(b.name, b.uuid, rest)
		b.ours.Made = append(b.ours.Made, name)
		return name
	}
	for _, disk := range d.Machine.Disks {
		switch backing := d.Disks[disk.Key]; {
		case backing.File != nil:
			path, err := filepath.Abs(backing.File.Path)
			if err != nil {
				return err
			}
			b.disks[disk.Key] = diskFile{path: path, format: backing.File.Format}
		case backing.Copy != nil:
			b.disks[disk.Key] = diskFile{path: plan.pool.file(volume(disk.Key + ".raw")), format: "raw"}
		default:
			b.disks[disk.Key] = diskFile{path: plan.pool.file(volume(disk.Key + ".qcow2")), format: "qcow2", base: backing.NBD}
		}
	}
	if d.Machine.Firmware.Kind == lifeboat.FirmwareUEFI {
		plan.nvram = volume("nvram.fd")
		b.nvram = plan.pool.file(plan.nvram)
	}
	b.serialLog = plan.pool.file(volume("serial.log"))
	return nil
}

// makeFiles makes the disks and puts the firmware's variables in place.
func (plan *definePlan) makeFiles(ctx context.Context, d hypervisor.Definition) error {
	if plan.pool.free < leastSpace {
		return fmt.Errorf("%d MiB are free: %w", plan.pool.free>>20, errNoSpace)
	}
	for _, disk := range d.Machine.Disks {
		backing, file := d.Disks[disk.Key], plan.build.disks[disk.Key]
		if backing.File != nil {
			continue
		}
		volume := filepath.Base(file.path)
		if err := plan.pool.make(ctx, volume, file.format, disk.SizeBytes); err != nil {
			return fmt.Errorf("make disk %s: %w", disk.Key, err)
		}
		if backing.Copy == nil {
			continue
		}
		if err := plan.pool.upload(ctx, volume, backing.Copy); err != nil {
			return fmt.Errorf("copy disk %s: %w", disk.Key, err)
		}
	}
	if nvram := d.Machine.Firmware.NVRAM; plan.nvram != "" && len(nvram) > 0 {
		if err := plan.pool.make(ctx, plan.nvram, "raw", int64(len(nvram))); err != nil {
			return fmt.Errorf("keep the firmware's variables: %w", err)
		}
		if err := plan.pool.upload(ctx, plan.nvram, bytesReader(nvram)); err != nil {
			return fmt.Errorf("keep the firmware's variables: %w", err)
		}
	}
	if t := d.Machine.TPM; t != nil && len(t.State) > 0 {
		if err := plan.pool.h.putTPM(ctx, plan.build.uuid, t); err != nil {
			if ctx.Err() != nil {
				return err
			}
			// Most guests start without, and the others ask for their recovery key.
			plan.pool.h.note(d.Name, "its TPM is a new one, so a disk that was sealed with it asks for its recovery key: "+err.Error())
		}
	}
	return nil
}

// defineXML tells libvirt of the machine.
func (h *Host) defineXML(ctx context.Context, d hypervisor.Definition, b build, making bool) error {
	b.ours.Making = making
	text, err := domainXML(d, b)
	if err != nil {
		return err
	}
	return h.defineText(ctx, b.name, text)
}

func (h *Host) defineText(ctx context.Context, name, text string) error {
	return h.do(ctx, "define "+name, func(c *lv.Connect) error {
		dom, err := c.DomainDefineXML(text)
		if err != nil {
			return err
		}
		return dom.Free()
	})
}

// refuse says what is wrong with a definition before anything is changed.
func (h *Host) refuse(ctx context.Context, d hypervisor.Definition) error {
	if err := checkDefinition(d); err != nil {
		return fmt.Errorf("define %s: %w", d.Name, err)
	}
	if err := h.refuseRemote(d); err != nil {
		return err
	}
	_, err := h.named(ctx, libvirtName(d.Name))
	if isCode(err, lv.ERR_NO_DOMAIN) {
		return nil
	}
	if err != nil {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: host %q has a machine of that name already", d.Name, h.o.Name),
		Safe: "nothing was changed",
		Next: "choose another name, or remove the one that is there",
		Err:  fs.ErrExist,
	}
}

// refuseRemote refuses what needs the disks or the network of this computer where
// libvirtd is on another.
func (h *Host) refuseRemote(d hypervisor.Definition) error {
	if h.local() {
		return nil
	}
	for key, b := range d.Disks {
		if b.NBD != nil || b.File != nil {
			return fmt.Errorf("define %s: disk %s is on this computer and host %q is another: %w", d.Name, key, h.o.Name, hypervisor.ErrUnsupported)
		}
	}
	for _, n := range d.Networks {
		if n.Kind == hypervisor.NetworkSegment {
			return h.noSegments()
		}
	}
	return nil
}

// named is the UUID of the domain of that name.
func (h *Host) named(ctx context.Context, name string) (string, error) {
	return onHost(ctx, h, "look for "+name, func(c *lv.Connect) (string, error) {
		dom, err := c.LookupDomainByName(name)
		if err != nil {
			return "", err
		}
		defer dom.Free()
		return dom.GetUUIDString()
	})
}

// domainUUID is the UUID that libvirt will know the machine by. It is the
// machine's own, which its guest sees, except where production may have it: a
// drill gets another one, and so does a machine that only sees private networks
// while the other is there.
func (h *Host) domainUUID(ctx context.Context, d hypervisor.Definition) (string, error) {
	if d.Machine.UUID == "" || d.Throwaway || d.NewMACs {
		return newUUID(), nil
	}
	uuid := strings.ToLower(d.Machine.UUID)
	if !uuidForm.MatchString(uuid) {
		return "", fmt.Errorf("define %s: its UUID %q is not one", d.Name, hypervisor.GuestWords(d.Machine.UUID))
	}
	name, err := onHost(ctx, h, "look for "+uuid, func(c *lv.Connect) (string, error) {
		dom, err := c.LookupDomainByUUIDString(uuid)
		if err != nil {
			return "", err
		}
		defer dom.Free()
		return dom.GetName()
	})
	switch {
	case isCode(err, lv.ERR_NO_DOMAIN):
		return uuid, nil
	case err != nil:
		return "", err
	case private(d):
		return newUUID(), nil
	}
	return "", &lifeboat.Problem{
		What: fmt.Sprintf("%s: host %q has the machine already, as %q: both would be on the same network", d.Name, h.o.Name, name),
		Safe: "nothing was changed",
		Next: fmt.Sprintf("look at the one that is there (virsh dominfo '%s'); if it is lost, undefine it with its disks kept (virsh undefine --keep-nvram '%s'), else boot this one on a private network: --network segment", name, name),
		Err:  fs.ErrExist,
	}
}

// private says that no card of the machine leads to a network of the host.
func private(d hypervisor.Definition) bool {
	for i := range d.Machine.NICs {
		if i >= len(d.Networks) {
			break
		}
		switch d.Networks[i].Kind {
		case hypervisor.NetworkSegment, hypervisor.NetworkNone, "":
		default:
			return false
		}
	}
	return true
}

// errNoSpace: the pool is full.
var errNoSpace = errors.New("no space left in the storage pool")

// noSpace turns a full pool into words; other errors are wrapped.
func (h *Host) noSpace(plan *definePlan, err error) error {
	if !errors.Is(err, errNoSpace) && !strings.Contains(err.Error(), "No space left on device") {
		var p *lifeboat.Problem
		if errors.As(err, &p) {
			return err
		}
		return fmt.Errorf("define %s: %w", plan.build.name, err)
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: no space for its disks in storage pool %q of host %q", plan.build.name, plan.pool.name, h.o.Name),
		Safe: "the drive was not written, and nothing was left in that pool",
		Next: "free some space in " + plan.pool.path + ", or name another pool in the site file",
		Err:  err,
	}
}
