package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// machineProperties are what a machine is described from.
var machineProperties = []string{
	"name", "parent", "config", "guest", "runtime", "snapshot", "layoutEx",
	"datastore", "network", "resourcePool", "disabledMethod", "capability",
}

// What Lifeboat writes into the settings (ExtraConfig) of machines that it makes.
const (
	// settingMachine is the Lifeboat id.
	settingMachine = "lifeboat.machineId"
	// settingFor is the instance UUID of the machine that settingMachine was
	// written for. A clone inherits every setting and gets an instance UUID of
	// its own: it is another machine with another history. Where this setting is
	// missing an operator wrote the id by hand, and it counts.
	settingFor = "lifeboat.machineFor"
	// settingDisks are the keys of the disks, "ID=KEY,ID=KEY", by the ids in the
	// disks' own files. It counts together with settingFor.
	settingDisks = "lifeboat.diskKeys"
	// settingRecovery is the run that boots the machine from a drive.
	settingRecovery = "lifeboat.recovery"
	// settingUncabled are the numbers of the network cards without a cable.
	settingUncabled = "lifeboat.uncabled"
)

// found is a machine of the host as it was when it was looked at.
type found struct {
	ref types.ManagedObjectReference
	vm  mo.VirtualMachine
}

// name is what people call the machine.
func (f *found) name() string { return plainName(f.vm.Name) }

// plainName undoes what vSphere does to the three characters that would disturb
// an inventory path.
func plainName(name string) string {
	return strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`, "%25", "%").Replace(name)
}

// vsphereName is the name as vSphere has it.
func vsphereName(name string) string {
	return strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c").Replace(name)
}

// hostID is the host's own id: the instance UUID, which is unique under one
// vCenter, or on an ESXi that gives none the one in the firmware.
func (f *found) hostID() string {
	if f.vm.Config == nil {
		return ""
	}
	if f.vm.Config.InstanceUuid != "" {
		return strings.ToLower(f.vm.Config.InstanceUuid)
	}
	return strings.ToLower(f.vm.Config.Uuid)
}

// setting is a value of the machine's ExtraConfig, or "".
func (f *found) setting(key string) string {
	if f.vm.Config == nil {
		return ""
	}
	for _, o := range f.vm.Config.ExtraConfig {
		if v := o.GetOptionValue(); v != nil && v.Key == key {
			text, _ := v.Value.(string)
			return text
		}
	}
	return ""
}

// id is the Lifeboat id.
func (f *found) id() string {
	id := strings.ToLower(f.setting(settingMachine))
	writtenFor := f.setting(settingFor)
	if isID(id) && (writtenFor == "" || strings.EqualFold(writtenFor, f.hostID())) {
		return id
	}
	return hypervisor.DerivedID(Kind, f.hostID())
}

// isID says whether text is a Lifeboat id: 32 hex digits.
func isID(text string) bool {
	return len(text) == 32 && strings.Trim(text, "0123456789abcdef") == ""
}

// find returns the machine of that name, inventory path ("/DC/vm/folder/name"),
// Lifeboat id, or UUID. A word that means several machines is refused with their
// paths.
func (h *Host) find(ctx context.Context, word string) (*found, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	refs, err := h.meant(ctx, c, word)
	if err != nil {
		return nil, h.explain("look for "+words(word), "nothing was done", err)
	}
	switch len(refs) {
	case 0:
		return nil, fmt.Errorf("%q on host %q: %w", words(word), h.o.Name, hypervisor.ErrNoMachine)
	case 1:
		return h.look(ctx, c, refs[0])
	default:
		return nil, h.ambiguous(ctx, c, word, refs)
	}
}

// look reads everything about one machine.
func (h *Host) look(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) (*found, error) {
	f := &found{ref: ref}
	if err := property.DefaultCollector(c).RetrieveOne(ctx, ref, machineProperties, &f.vm); err != nil {
		return nil, h.explain("read the machine "+ref.Value, "nothing was done", err)
	}
	if f.vm.Config == nil {
		return nil, h.unreadable(f)
	}
	return f, nil
}

// unreadable words a machine without a configuration: its datastore is away, or
// its files are, or the user may not look.
func (h *Host) unreadable(f *found) error {
	state := string(f.vm.Runtime.ConnectionState)
	if state == "" {
		state = "unknown"
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("host %s: the machine %s cannot be read (the server says: %s)", h.o.Name, words(f.name()), words(state)),
		Safe: "nothing was done",
		Next: "see the machine on the server: its datastore may be away, its files gone, or the user may not look at it",
		Err:  hypervisor.ErrMachineGone,
	}
}

// meant returns the machines that a word may mean.
func (h *Host) meant(ctx context.Context, c *vim25.Client, word string) ([]types.ManagedObjectReference, error) {
	props := []string{"name", "config.instanceUuid", "config.uuid"}
	id := isID(strings.ToLower(word))
	if id {
		// Large: every setting of every machine.
		props = append(props, "config.extraConfig")
	}
	all, err := h.machines(ctx, c, props)
	if err != nil {
		return nil, err
	}
	last := word[strings.LastIndex(word, "/")+1:]
	var refs []types.ManagedObjectReference
	for i := range all {
		f := &all[i]
		switch {
		case f.name() == word, strings.EqualFold(f.hostID(), word), id && f.id() == strings.ToLower(word):
			refs = append(refs, f.ref)
		case strings.HasPrefix(word, "/") && f.vm.Name == last:
			path, err := find.InventoryPath(ctx, c, f.ref)
			if err != nil {
				return nil, err
			}
			if path == word {
				refs = append(refs, f.ref)
			}
		}
	}
	return refs, nil
}

func (h *Host) ambiguous(ctx context.Context, c *vim25.Client, word string, refs []types.ManagedObjectReference) error {
	const most = 4 // a line that can still be read
	var paths []string
	for _, ref := range refs[:min(len(refs), most)] {
		path, err := find.InventoryPath(ctx, c, ref)
		if err != nil {
			path = ref.Value
		}
		paths = append(paths, words(path))
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%q is %d machines of host %s: %s", words(word), len(refs), h.o.Name, strings.Join(paths, " and ")),
		Safe: "nothing was done",
		Next: "say which one by its hostId: lifeboat machine list --json",
		Err:  errAmbiguous,
	}
}

var errAmbiguous = errors.New("several machines have this name")

// machines reads the given properties of every machine in the part of the
// inventory that the options name, in one call (the server may cut it into
// pages). Machines that vanish meanwhile are left out.
func (h *Host) machines(ctx context.Context, c *vim25.Client, props []string) ([]found, error) {
	// A view belongs to its session: if that ended between the two calls the
	// second one does not know the view.
	all, err := h.retrieve(ctx, c, props)
	if isMissing(err) {
		all, err = h.retrieve(ctx, c, props)
	}
	return all, err
}

func (h *Host) retrieve(ctx context.Context, c *vim25.Client, props []string) ([]found, error) {
	root, err := h.root(ctx, c)
	if err != nil {
		return nil, err
	}
	v, err := view.NewManager(c).CreateContainerView(ctx, root, []string{"VirtualMachine"}, true)
	if err != nil {
		return nil, err
	}
	defer func() { _ = v.Destroy(context.WithoutCancel(ctx)) }()
	var content []types.ObjectContent
	if err := v.Retrieve(ctx, []string{"VirtualMachine"}, props, &content); err != nil {
		return nil, err
	}
	all := make([]found, 0, len(content))
	for _, object := range content {
		f := found{ref: object.Obj}
		// What is missing is looked at where it is needed.
		object.MissingSet = nil
		if err := mo.LoadObjectContent([]types.ObjectContent{object}, &f.vm); err != nil {
			return nil, err
		}
		if f.vm.Name == "" {
			continue
		}
		all = append(all, f)
	}
	slices.SortStableFunc(all, func(a, b found) int { return strings.Compare(a.name(), b.name()) })
	return all, nil
}

// root is where machines are looked for: the data centre of the options, or all.
func (h *Host) root(ctx context.Context, c *vim25.Client) (types.ManagedObjectReference, error) {
	if h.o.Datacenter == "" {
		return c.ServiceContent.RootFolder, nil
	}
	dc, err := find.NewFinder(c).Datacenter(ctx, h.o.Datacenter)
	if err != nil {
		return types.ManagedObjectReference{}, &lifeboat.Problem{
			What: fmt.Sprintf("host %s: there is no data centre %s that %s may see", h.o.Name, h.o.Datacenter, h.o.User),
			Safe: "nothing was done",
			Next: "correct datacenter of this host in site.yaml, or give the user the role on it",
			Err:  err,
		}
	}
	return dc.Reference(), nil
}

// datastoreURL is where a file of a datastore is fetched from or put to. Path is
// as in "[datastore1] web01/web01.vmx".
func (h *Host) datastoreURL(ctx context.Context, c *vim25.Client, f *found, path string) (*url.URL, error) {
	var p object.DatastorePath
	if !p.FromString(path) {
		return nil, fmt.Errorf("the server names a file in no form that is known: %q", words(path))
	}
	dc, err := datacenterOf(ctx, c, f.ref)
	if err != nil {
		return nil, err
	}
	u := *h.url
	u.Path = "/folder/" + p.Path
	u.RawQuery = url.Values{"dcPath": {dc}, "dsName": {p.Datastore}}.Encode()
	return &u, nil
}

// datacenterOf is the inventory path of the data centre of a machine, without
// its leading slash, as the file service wants it ("ha-datacenter" on an ESXi).
func datacenterOf(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) (string, error) {
	above, err := untilDatacenter(ctx, c, ref)
	if err != nil {
		return "", err
	}
	var path []string
	for _, entity := range above[1:] {
		path = append(path, entity.Name)
	}
	return strings.Join(path, "/"), nil
}

// datacenterRef is the data centre itself.
func datacenterRef(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) (*types.ManagedObjectReference, error) {
	above, err := untilDatacenter(ctx, c, ref)
	if err != nil {
		return nil, err
	}
	return &above[len(above)-1].Self, nil
}

// untilDatacenter is the way from the root folder to the data centre.
func untilDatacenter(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) ([]mo.ManagedEntity, error) {
	above, err := mo.Ancestors(ctx, c, c.ServiceContent.PropertyCollector, ref)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(above, func(e mo.ManagedEntity) bool { return e.Self.Type == "Datacenter" })
	if at < 1 {
		return nil, errors.New("the machine stands in no data centre")
	}
	return above[:at+1], nil
}
