//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"

	lv "libvirt.org/go/libvirt"

	"lifeboat"
	"lifeboat/hypervisor"
)

// leastLibvirt is the first version whose backups we rely on: with earlier ones
// change tracking has to be switched on by hand.
const leastLibvirt = 7*1000000 + 2*1000

// leastOverride is the first version that hands a device's properties to QEMU
// past its own words (qemu:override).
const leastOverride = 8*1000000 + 2*1000

// Check says what works on this host, without changing anything.
func (h *Host) Check(ctx context.Context) []hypervisor.Finding {
	reached, ok := h.checkReached(ctx)
	if !ok {
		return []hypervisor.Finding{reached, h.checkLooking(ctx)}
	}
	findings := []hypervisor.Finding{reached}
	findings = append(findings, h.checkAbilities(ctx)...)
	findings = append(findings, h.checkQEMU(ctx), h.checkKVM(ctx))
	findings = append(findings, h.checkMemory(ctx), h.checkPool(ctx), h.checkScratch(ctx))
	return append(findings, h.checkMachines(ctx)...)
}

// words is an error for a finding: what happened, and what to do about it.
func words(err error) string {
	var p *lifeboat.Problem
	if errors.As(err, &p) {
		return p.Error() + "; " + p.Next
	}
	return hypervisor.Printable(err.Error())
}

// version is how libvirt numbers a version.
func version(n uint32) string {
	return fmt.Sprintf("%d.%d.%d", n/1000000, n/1000%1000, n%1000)
}

func (h *Host) checkReached(ctx context.Context) (hypervisor.Finding, bool) {
	f := hypervisor.Finding{What: "libvirt"}
	n, err := onHost(ctx, h, "ask libvirt for its version", func(c *lv.Connect) (uint32, error) { return c.GetLibVersion() })
	if err != nil {
		f.Detail = words(err)
		return f, false
	}
	f.OK = n >= leastLibvirt
	f.Detail = fmt.Sprintf("version %s answers at %s", version(n), h.uri.Redacted())
	switch {
	case f.OK && n < leastOverride:
		f.Detail += fmt.Sprintf("; before %s the guest of a machine booted from a drive may see read errors while the drive is away, and SATA disks get no world wide name", version(leastOverride))
	case !f.OK:
		f.Detail += fmt.Sprintf("; machines that run can be exported from version %s on", version(leastLibvirt))
	}
	return f, true
}

// lookOnly is what to do for a user who may look at a host and no more.
const lookOnly = "this user may look at the host and not manage it; put him into the group libvirt there: usermod -aG libvirt NAME"

// checkLooking sees whether a host that does not let this user manage it lets him
// look.
func (h *Host) checkLooking(ctx context.Context) hypervisor.Finding {
	f := hypervisor.Finding{What: "privileges", Detail: "not known: the host was not reached"}
	c, err := blocking(ctx, func() (*lv.Connect, error) {
		if err := events(); err != nil {
			return nil, err
		}
		return lv.NewConnectReadOnly(h.address())
	}, closeConnection)
	if err == nil {
		closeConnection(c)
		f.Detail = lookOnly
	}
	return f
}

func (h *Host) checkQEMU(ctx context.Context) hypervisor.Finding {
	f := hypervisor.Finding{What: "QEMU"}
	n, err := onHost(ctx, h, "ask for QEMU's version", func(c *lv.Connect) (uint32, error) { return c.GetVersion() })
	if err != nil {
		f.Detail = words(err)
		return f
	}
	f.OK, f.Detail = true, "version "+version(n)
	return f
}

func (h *Host) checkKVM(ctx context.Context) hypervisor.Finding {
	f := hypervisor.Finding{What: "KVM"}
	facts, err := onHost(ctx, h, "read the host's capabilities", func(c *lv.Connect) (hostFacts, error) {
		text, err := c.GetCapabilities()
		if err != nil {
			return hostFacts{}, err
		}
		return factsOf(text)
	})
	switch {
	case err != nil:
		f.Detail = words(err)
	case !facts.kvm:
		f.Detail = "libvirt does not offer it; machines run without it, several times slower"
	case h.o.KVM == nil || !h.local():
		f.OK, f.Detail = true, "libvirt offers it"
	default:
		usable, why := h.o.KVM(ctx)
		if f.OK, f.Detail = usable, "a small guest ran under it"; !usable {
			f.Detail = why + "; machines run without it, several times slower"
		}
	}
	return f
}

// checkAbilities says what this user may do, and what libvirt can build and do
// with this QEMU. libvirt gives the answer only to who may manage the host. Finer
// rules than that (access_drivers in libvirtd.conf) show when something is
// refused.
func (h *Host) checkAbilities(ctx context.Context) []hypervisor.Finding {
	rights := hypervisor.Finding{What: "privileges", OK: true, Detail: "this user may manage the host"}
	if h.local() && h.uri.Path == "/system" && os.Geteuid() != 0 {
		rights.OK, rights.Detail = false, "this user may manage the host; exports and boots from a drive need root on it besides: run them with sudo"
	}
	text, err := onHost(ctx, h, "read what machines may have", func(c *lv.Connect) (string, error) {
		return c.GetDomainCapabilities("", "x86_64", "q35", "", 0)
	})
	if isCode(err, lv.ERR_OPERATION_DENIED, lv.ERR_ACCESS_DENIED) {
		rights.OK, rights.Detail = false, lookOnly
		return []hypervisor.Finding{rights}
	}
	var findings []hypervisor.Finding
	if err == nil {
		findings, err = abilityFindings(text)
	}
	if err != nil {
		findings = []hypervisor.Finding{{What: "machines' hardware", Detail: words(err)}}
	}
	return append([]hypervisor.Finding{rights}, findings...)
}

// leastMemory is what a host needs beside its own machines to boot one.
const leastMemory = 512 << 20

func (h *Host) checkMemory(ctx context.Context) hypervisor.Finding {
	f := hypervisor.Finding{What: "free memory"}
	free, err := onHost(ctx, h, "ask for the free memory", freeMemory)
	if err != nil {
		f.Detail = words(err)
		return f
	}
	f.OK, f.Detail = free >= leastMemory, fmt.Sprintf("%d MiB", free>>20)
	return f
}

func (h *Host) checkPool(ctx context.Context) hypervisor.Finding {
	f := hypervisor.Finding{What: "space for machines"}
	p, err := h.pool(ctx, h.o.Pool)
	if err != nil {
		f.Detail = words(err)
		return f
	}
	f.OK, f.Detail = p.free >= leastSpace, fmt.Sprintf("%d MiB free in storage pool %s (%s)", p.free>>20, p.name, p.path)
	return f
}

func (h *Host) checkScratch(ctx context.Context) hypervisor.Finding {
	f := hypervisor.Finding{What: "space for exports"}
	where := folder{h: h, parent: h.o.ScratchDir}
	var err error
	if !h.local() || where.parent == "" {
		if where.parent, where.pool, err = h.scratchPool(ctx); err != nil {
			f.Detail = words(err)
			return f
		}
	}
	free, total, err := where.free(ctx)
	if err != nil {
		f.Detail = words(err)
		return f
	}
	reserve := where.reserve(total)
	f.OK = free > reserve
	f.Detail = fmt.Sprintf("%d MiB free in %s, of which %d MiB are left alone", free>>20, where.parent, reserve>>20)
	return f
}

// checkMachines looks at each machine: whether it can be exported, whether its
// changes are tracked, and whether its agent answers.
func (h *Host) checkMachines(ctx context.Context) []hypervisor.Finding {
	all, err := h.domains(ctx)
	if err != nil {
		return []hypervisor.Finding{{What: "machines", Detail: words(err)}}
	}
	findings := []hypervisor.Finding{{What: "machines", OK: true, Detail: fmt.Sprintf("%d on this host", len(all))}}
	for _, d := range all {
		s, err := d.look(ctx)
		switch {
		case errors.Is(err, hypervisor.ErrMachineGone):
		case err != nil:
			findings = append(findings, hypervisor.Finding{What: "machine " + d.name, Detail: words(err)})
		default:
			findings = append(findings, machineFindings(s, h.untrackedBecause(s))...)
			if keys := apart(h.scratchFolder(), s.disks); len(keys) > 0 {
				findings = append(findings, hypervisor.Finding{What: "scratch space of " + d.name, Detail: scratchApart(keys)})
			}
		}
	}
	return findings
}
