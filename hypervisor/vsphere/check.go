package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

const (
	// oldSnapshot is the age from which a snapshot of somebody else is mentioned:
	// it grows, and keeps ranges from being read.
	oldSnapshot = 7 * 24 * time.Hour
	// mostChecked is how many machines are asked about privileges: those of more
	// follow from the same role.
	mostChecked = 200
)

// Check says what works on this server and what does not, without changing
// anything.
func (h *Host) Check(ctx context.Context) []hypervisor.Finding {
	c, err := h.client(ctx)
	if err != nil {
		return []hypervisor.Finding{failed("server", err)}
	}
	about := c.ServiceContent.About
	findings := []hypervisor.Finding{{
		What: "server", OK: true,
		Detail: words(fmt.Sprintf("%s (API %s), signed in as %s", about.FullName, about.ApiVersion, h.o.User)),
	}}
	if !c.IsVC() {
		findings = append(findings, h.checkLicence(ctx, c))
	}
	all, err := h.machines(ctx, c, machineProperties)
	if err != nil {
		return append(findings, failed("machines", h.explain("list the machines", "nothing was done", err)))
	}
	all = slices.DeleteFunc(all, func(f found) bool { return f.vm.Config == nil })
	findings = append(findings, checkMachines(all), checkTracking(all), checkTools(all), checkSnapshots(all, time.Now()))
	findings = append(findings, h.checkPrivileges(ctx, c, all)...)
	findings = append(findings, h.checkMemory(ctx, c))
	findings = append(findings, h.checkDatastores(ctx, c)...)
	return append(findings, h.checkPlace(ctx, c))
}

// failed is a finding about something that could not be looked at.
func failed(what string, err error) hypervisor.Finding {
	detail := err.Error()
	var p *lifeboat.Problem
	if errors.As(err, &p) {
		detail = p.What + "; " + p.Next
	}
	return hypervisor.Finding{What: what, Detail: hypervisor.Printable(detail)}
}

// checkLicence tells a free ESXi, whose API only reads.
func (h *Host) checkLicence(ctx context.Context, c *vim25.Client) hypervisor.Finding {
	f := hypervisor.Finding{What: "licence"}
	if c.ServiceContent.LicenseManager == nil {
		f.Detail = "the server tells none"
		return f
	}
	var m mo.LicenseManager
	if err := property.DefaultCollector(c).RetrieveOne(ctx, *c.ServiceContent.LicenseManager, []string{"licenses"}, &m); err != nil {
		return failed("licence", err)
	}
	var names []string
	for _, l := range m.Licenses {
		names = append(names, words(l.Name))
		if strings.HasPrefix(l.EditionKey, "esxBasic") {
			f.Detail = words(l.Name) + ": with the free licence programs may look and change nothing, so machines can be neither exported nor built; give it a licence with the vSphere API, or put it under a vCenter"
			return f
		}
	}
	f.OK, f.Detail = true, strings.Join(names, ", ")
	return f
}

// namesOf joins the names of machines, some of them if there are many.
func namesOf(list []*found) string {
	var names []string
	for _, f := range list[:min(len(list), mostNames)] {
		names = append(names, words(f.name()))
	}
	if more := len(list) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// those returns the machines of which something is true.
func those(all []found, is func(*found) bool) (list []*found) {
	for i := range all {
		if is(&all[i]) {
			list = append(list, &all[i])
		}
	}
	return list
}

func checkMachines(all []found) hypervisor.Finding {
	var parts []string
	for i := range all {
		f := &all[i]
		if refused := f.exportable(nil); len(refused) > 0 && len(parts) < mostNames {
			parts = append(parts, words(f.name())+": "+refused[0].why)
		}
	}
	if len(parts) == 0 {
		return hypervisor.Finding{What: "machines", OK: true, Detail: fmt.Sprintf("%d, and all can be exported", len(all))}
	}
	return hypervisor.Finding{What: "machines", Detail: fmt.Sprintf("%d; some cannot be exported as they are: %s", len(all), strings.Join(parts, "; "))}
}

// checkTracking says for which machines only what changed can be read.
func checkTracking(all []found) hypervisor.Finding {
	f := hypervisor.Finding{What: "change tracking", OK: true}
	on := those(all, func(f *found) bool { return isTrue(f.vm.Config.ChangeTrackingEnabled) })
	old := those(all, func(f *found) bool { return !f.vm.Config.Template && hardwareVersion(f.vm.Config.Version) < 7 })
	f.Detail = fmt.Sprintf("on for %d of %d machines; the first export turns it on for the others", len(on), len(all))
	if len(old) > 0 {
		f.OK, f.Detail = false, f.Detail+"; too old for it, and read whole each time: "+namesOf(old)+" (upgrade the hardware version while the machine is off)"
	}
	return f
}

func checkTools(all []found) hypervisor.Finding {
	running := those(all, func(f *found) bool { return f.power() == hypervisor.PowerOn })
	var without []*found
	for _, f := range running {
		if runs, _ := f.toolsRun(); !runs {
			without = append(without, f)
		}
	}
	if len(without) == 0 {
		return hypervisor.Finding{What: "VMware Tools", OK: true, Detail: fmt.Sprintf("run in all %d running machines", len(running))}
	}
	return hypervisor.Finding{What: "VMware Tools", Detail: fmt.Sprintf("do not run in %d of %d running machines, whose points are as after a power cut: %s", len(without), len(running), namesOf(without))}
}

// checkSnapshots finds snapshots that somebody forgot, us among them.
func checkSnapshots(all []found, now time.Time) hypervisor.Finding {
	left := those(all, func(f *found) bool { list, _ := ours(f.vm.Snapshot); return len(list) > 0 })
	old := those(all, func(f *found) bool {
		return slices.ContainsFunc(snapshots(f.vm.Snapshot), func(s types.VirtualMachineSnapshotTree) bool {
			return !strings.HasPrefix(s.Name, snapshotPrefix) && now.Sub(s.CreateTime) > oldSnapshot
		})
	})
	merge := those(all, func(f *found) bool { return f.vm.Runtime.ConsolidationNeeded })
	var parts []string
	add := func(list []*found, words string) {
		if len(list) > 0 {
			parts = append(parts, words+": "+namesOf(list))
		}
	}
	add(left, "Lifeboat's own, of an export that runs or died (the next export removes it)")
	add(old, "older than a week, which grow and make exports slower")
	add(merge, "left disks behind that the server should merge (Consolidate)")
	if len(parts) == 0 {
		return hypervisor.Finding{What: "snapshots", OK: true, Detail: "none that is old or left over"}
	}
	return hypervisor.Finding{What: "snapshots", Detail: strings.Join(parts, "; ")}
}

// checkMemory says what the hosts have free for recovered machines.
func (h *Host) checkMemory(ctx context.Context, c *vim25.Client) hypervisor.Finding {
	hosts, err := h.hostSystems(ctx, c)
	if err != nil {
		return failed("free memory", err)
	}
	total, free := memoryOf(hosts)
	return hypervisor.Finding{What: "free memory", OK: free > 0, Detail: fmt.Sprintf("%s of %s on %d hosts", size(free), size(total), len(hosts))}
}

// checkDatastores says what is free on each: a snapshot needs room while its
// machine is exported.
func (h *Host) checkDatastores(ctx context.Context, c *vim25.Client) []hypervisor.Finding {
	var stores []mo.Datastore
	if err := h.everything(ctx, c, c.ServiceContent.RootFolder, "Datastore", []string{"name", "summary"}, &stores); err != nil {
		return []hypervisor.Finding{failed("datastores", err)}
	}
	slices.SortFunc(stores, func(a, b mo.Datastore) int { return strings.Compare(a.Name, b.Name) })
	var findings []hypervisor.Finding
	for _, s := range stores {
		f := hypervisor.Finding{What: "datastore " + words(plainName(s.Name)), OK: true}
		f.Detail = fmt.Sprintf("%s of %s free", size(s.Summary.FreeSpace), size(s.Summary.Capacity))
		switch {
		case !s.Summary.Accessible:
			f.OK, f.Detail = false, "the server cannot reach it"
		case s.Summary.FreeSpace < snapshotReserve(s.Summary.Capacity):
			f.OK, f.Detail = false, f.Detail+": little for the snapshot of a busy machine; make room before it is exported"
		}
		findings = append(findings, f)
	}
	return findings
}

// checkPlace says whether it is clear where a recovered machine would go.
func (h *Host) checkPlace(ctx context.Context, c *vim25.Client) hypervisor.Finding {
	p, err := h.place(ctx, c)
	if err != nil {
		return failed("place for recoveries", err)
	}
	return hypervisor.Finding{What: "place for recoveries", OK: true,
		Detail: words(fmt.Sprintf("data centre %s, datastore %s", plainName(p.datacenter), plainName(p.datastore.Name)))}
}

// checkPrivileges compares what the user may do with what Lifeboat needs: once
// for exports, once for recoveries.
func (h *Host) checkPrivileges(ctx context.Context, c *vim25.Client, all []found) []hypervisor.Finding {
	objects, err := h.scopes(ctx, c, all)
	if err == nil {
		var lacks []lack
		if lacks, err = h.lacks(ctx, c, objects); err == nil {
			return []hypervisor.Finding{
				told("privileges to export", lacks, false), told("privileges to recover", lacks, true),
			}
		}
	}
	return []hypervisor.Finding{failed("privileges", h.explain("ask what "+h.o.User+" may do", "nothing was done", err))}
}

// lack is a privilege that is missing on some objects.
type lack struct {
	privilege
	missing, of int
}

// told words what is missing of one of the two lists.
func told(what string, lacks []lack, recover bool) hypervisor.Finding {
	var parts []string
	for _, l := range lacks {
		if l.recover == recover && l.of == 0 && l.on != onMachine {
			return hypervisor.Finding{What: what, Detail: "not known before it is clear where machines go: on which " + string(l.on)}
		}
		if l.recover != recover || l.missing == 0 {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s (%s: to %s) on %d of %d: %s", l.id, l.name, l.why, l.missing, l.of, l.on))
	}
	if len(parts) == 0 {
		return hypervisor.Finding{What: what, OK: true, Detail: "all that are needed"}
	}
	return hypervisor.Finding{What: what, Detail: "missing: " + strings.Join(parts, "; ")}
}

// scopes are the objects that privileges are asked for.
func (h *Host) scopes(ctx context.Context, c *vim25.Client, all []found) (map[scope][]types.ManagedObjectReference, error) {
	objects := map[scope][]types.ManagedObjectReference{}
	for i := range all[:min(len(all), mostChecked)] {
		objects[onMachine] = append(objects[onMachine], all[i].ref)
		for _, store := range all[i].vm.Datastore {
			if !slices.Contains(objects[onDatastore], store) {
				objects[onDatastore] = append(objects[onDatastore], store)
			}
		}
	}
	p, err := h.place(ctx, c)
	var unclear *lifeboat.Problem
	if errors.As(err, &unclear) {
		// It is said elsewhere that the place is not clear.
		return objects, nil
	}
	if err != nil {
		return nil, err
	}
	objects[onFolder] = []types.ManagedObjectReference{p.folder}
	objects[onPool] = []types.ManagedObjectReference{p.pool}
	objects[onNetwork] = p.networks
	if !slices.Contains(objects[onDatastore], p.datastore.Self) {
		objects[onDatastore] = append(objects[onDatastore], p.datastore.Self)
	}
	return objects, nil
}

// lacks asks the server about every privilege on the objects of its scope.
func (h *Host) lacks(ctx context.Context, c *vim25.Client, objects map[scope][]types.ManagedObjectReference) ([]lack, error) {
	var s mo.SessionManager
	if err := property.DefaultCollector(c).RetrieveOne(ctx, *c.ServiceContent.SessionManager, []string{"currentSession"}, &s); err != nil {
		return nil, err
	}
	if s.CurrentSession == nil || c.ServiceContent.AuthorizationManager == nil {
		return nil, errors.New("the server does not say who is signed in")
	}
	lacks := make([]lack, len(privileges))
	for i, p := range privileges {
		lacks[i].privilege = p
	}
	for on, refs := range objects {
		var ids []string
		for _, p := range privileges {
			if p.on == on {
				ids = append(ids, p.id)
			}
		}
		if len(refs) == 0 {
			continue
		}
		res, err := methods.HasPrivilegeOnEntities(ctx, c, &types.HasPrivilegeOnEntities{
			This: *c.ServiceContent.AuthorizationManager, Entity: refs, SessionId: s.CurrentSession.Key, PrivId: ids,
		})
		if err != nil {
			return nil, err
		}
		for i := range lacks {
			if lacks[i].on != on {
				continue
			}
			for _, entity := range res.Returnval {
				lacks[i].of++
				for _, one := range entity.PrivAvailability {
					if one.PrivId == lacks[i].id && !one.IsGranted {
						lacks[i].missing++
					}
				}
			}
		}
	}
	return lacks, nil
}
