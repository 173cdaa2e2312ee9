package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// place is where a new machine goes.
type place struct {
	datacenter string
	pool       types.ManagedObjectReference
	folder     types.ManagedObjectReference
	datastore  mo.Datastore
	networks   []types.ManagedObjectReference
}

// place finds where a new machine goes: what the options name, or the only one
// there is.
func (h *Host) place(ctx context.Context, c *vim25.Client) (*place, error) {
	var dcs []mo.Datacenter
	if err := h.everything(ctx, c, c.ServiceContent.RootFolder, "Datacenter", []string{"name", "vmFolder"}, &dcs); err != nil {
		return nil, err
	}
	dc, err := pick(h, "data centre", "datacenter", h.o.Datacenter, dcs, func(d mo.Datacenter) string { return d.Name })
	if err != nil {
		return nil, err
	}
	var computes []mo.ComputeResource
	if err := h.everything(ctx, c, dc.Self, "ComputeResource", []string{"name", "resourcePool", "datastore", "network"}, &computes); err != nil {
		return nil, err
	}
	compute, err := pick(h, "cluster or host", "cluster", h.o.Cluster, computes, func(r mo.ComputeResource) string { return r.Name })
	if err != nil {
		return nil, err
	}
	if compute.ResourcePool == nil {
		return nil, errors.New("the cluster has no resource pool")
	}
	p := &place{datacenter: dc.Name, pool: *compute.ResourcePool, folder: dc.VmFolder, networks: compute.Network}
	if p.datastore, err = h.pickDatastore(ctx, c, compute.Datastore); err != nil {
		return nil, err
	}
	if h.o.Pool != "" {
		var pools []mo.ResourcePool
		if err := h.everything(ctx, c, *compute.ResourcePool, "ResourcePool", []string{"name"}, &pools); err != nil {
			return nil, err
		}
		pool, err := pick(h, "resource pool", "pool", h.o.Pool, pools, func(r mo.ResourcePool) string { return r.Name })
		if err != nil {
			return nil, err
		}
		p.pool = pool.Self
	}
	if h.o.Folder != "" {
		if p.folder, err = h.pickFolder(ctx, c, dc); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// everything reads all objects of a kind below one.
func (h *Host) everything(ctx context.Context, c *vim25.Client, below types.ManagedObjectReference, kind string, props []string, into any) error {
	v, err := view.NewManager(c).CreateContainerView(ctx, below, []string{kind}, true)
	if err != nil {
		return err
	}
	defer func() { _ = v.Destroy(context.WithoutCancel(ctx)) }()
	return v.Retrieve(ctx, []string{kind}, props, into)
}

// pickDatastore takes the datastore of the options, or the only one that can be
// written.
func (h *Host) pickDatastore(ctx context.Context, c *vim25.Client, refs []types.ManagedObjectReference) (mo.Datastore, error) {
	var all []mo.Datastore
	if len(refs) > 0 {
		if err := property.DefaultCollector(c).Retrieve(ctx, refs, []string{"name", "summary"}, &all); err != nil {
			return mo.Datastore{}, err
		}
	}
	all = slices.DeleteFunc(all, func(d mo.Datastore) bool {
		return h.o.Datastore == "" && (!d.Summary.Accessible || inMaintenance(d.Summary.MaintenanceMode))
	})
	return pick(h, "datastore", "datastore", h.o.Datastore, all, func(d mo.Datastore) string { return d.Name })
}

func inMaintenance(mode string) bool { return mode != "" && mode != "normal" }

// pickFolder finds the folder for machines that the options name, by its name or
// by its path below the data centre's folder for machines.
func (h *Host) pickFolder(ctx context.Context, c *vim25.Client, dc mo.Datacenter) (types.ManagedObjectReference, error) {
	at := dc.VmFolder
	for _, part := range strings.Split(strings.Trim(h.o.Folder, "/"), "/") {
		var folders []mo.Folder
		if err := h.everything(ctx, c, at, "Folder", []string{"name", "parent"}, &folders); err != nil {
			return at, err
		}
		folders = slices.DeleteFunc(folders, func(f mo.Folder) bool { return f.Parent == nil || *f.Parent != at })
		folder, err := pick(h, "folder", "folder", part, folders, func(f mo.Folder) string { return f.Name })
		if err != nil {
			return at, err
		}
		at = folder.Self
	}
	return at, nil
}

// mostNames is how many names a problem lists.
const mostNames = 8

// pick takes the one with the wanted name, or the only one.
func pick[T any](h *Host, what, option, want string, all []T, nameOf func(T) string) (T, error) {
	var names []string
	var found []T
	for _, one := range all {
		name := plainName(nameOf(one))
		names = append(names, words(name))
		if want == "" || name == want {
			found = append(found, one)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	slices.Sort(names)
	p := &lifeboat.Problem{
		Safe: "nothing was done",
		Next: fmt.Sprintf("say which one: %s of host %s in site.yaml, one of: %s", option, h.o.Name, strings.Join(names[:min(len(names), mostNames)], ", ")),
		Err:  errNoPlace,
	}
	switch {
	case len(all) == 0:
		p.What = fmt.Sprintf("host %s: there is no %s that %s may see", h.o.Name, what, h.o.User)
		p.Next = "give the user the role in docs/reference/vsphere-host.md on it"
	case want != "" && len(found) == 0:
		p.What = fmt.Sprintf("host %s: there is no %s %s", h.o.Name, what, want)
	case want != "":
		p.What = fmt.Sprintf("host %s: there are %d of the name %s (%s)", h.o.Name, len(found), want, what)
	default:
		p.What = fmt.Sprintf("host %s has %d of these: %s", h.o.Name, len(found), what)
	}
	var none T
	return none, p
}

var errNoPlace = errors.New("no place for a new machine")

// cables are the backings of a machine's cards, and whether they are plugged in,
// for the networks of a definition.
func (h *Host) cables(ctx context.Context, c *vim25.Client, p *place, d *hypervisor.Definition) ([]types.BaseVirtualDeviceBackingInfo, error) {
	list := make([]types.BaseVirtualDeviceBackingInfo, len(d.Machine.NICs))
	for i := range d.Machine.NICs {
		network := hypervisor.Network{Kind: hypervisor.NetworkNone}
		if i < len(d.Networks) {
			network = d.Networks[i]
		}
		switch network.Kind {
		case hypervisor.NetworkNone, "":
			// A card has to be in some network even when its plug is out.
			if len(p.networks) == 0 {
				return nil, h.noNetwork("any", nil)
			}
			backing, err := h.backing(ctx, c, p.networks[0])
			if err != nil {
				return nil, err
			}
			list[i] = backing
		case hypervisor.NetworkBridge, hypervisor.NetworkNamed:
			backing, err := h.networkNamed(ctx, c, p, network.Name)
			if err != nil {
				return nil, err
			}
			list[i] = backing
		default:
			return nil, &lifeboat.Problem{
				What: fmt.Sprintf("host %s: vSphere has no network of the kind %s", h.o.Name, network.Kind),
				Safe: "nothing was done",
				Next: "give the name of a port group (--network network:NAME; for a drill one without an uplink), or --network none",
				Err:  hypervisor.ErrUnsupported,
			}
		}
	}
	return list, nil
}

// plugged says whether card i of a definition has a cable.
func plugged(d *hypervisor.Definition, i int) bool {
	return i < len(d.Networks) && d.Networks[i].Kind != hypervisor.NetworkNone && d.Networks[i].Kind != ""
}

// networkNamed finds a network or port group that machines of the place may use.
func (h *Host) networkNamed(ctx context.Context, c *vim25.Client, p *place, name string) (types.BaseVirtualDeviceBackingInfo, error) {
	var names []string
	var found []types.ManagedObjectReference
	for _, ref := range p.networks {
		var n mo.Network
		if err := property.DefaultCollector(c).RetrieveOne(ctx, ref, []string{"name"}, &n); err != nil {
			return nil, err
		}
		names = append(names, plainName(n.Name))
		if plainName(n.Name) == name {
			found = append(found, ref)
		}
	}
	if len(found) != 1 {
		return nil, h.noNetwork(name, names)
	}
	return h.backing(ctx, c, found[0])
}

func (h *Host) noNetwork(name string, names []string) error {
	slices.Sort(names)
	for i := range names {
		names[i] = words(names[i])
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("host %s: there is not exactly one network %q for machines", h.o.Name, name),
		Safe: "nothing was done",
		Next: "name one of: " + strings.Join(names[:min(len(names), mostNames)], ", "),
		Err:  errNoPlace,
	}
}

// backing is what a card's definition says of a network.
func (h *Host) backing(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) (types.BaseVirtualDeviceBackingInfo, error) {
	network, ok := object.NewReference(c, ref).(object.NetworkReference)
	if !ok {
		return nil, fmt.Errorf("machines cannot be plugged into a %s", ref.Type)
	}
	return network.EthernetCardBackingInfo(ctx)
}
