package vsphere

// scope is on what object a privilege is asked for.
type scope string

// The objects. A role that is given on the data centre, and passed on to what is
// in it, covers all of them.
const (
	onMachine   scope = "machine"
	onDatastore scope = "datastore"
	onFolder    scope = "folder for machines"
	onPool      scope = "resource pool"
	onNetwork   scope = "network"
)

// privilege is one that Lifeboat needs.
type privilege struct {
	// id is the API's, name what the screens of vSphere 8 call it.
	id, name string
	on       scope
	// recover: needed to bring machines back, and not to export them.
	recover bool
	// why is what it is needed for, in a few words.
	why string
}

// privileges are the least that Lifeboat works with, beside the reading that
// every role has. docs/reference/vsphere-host.md lists them, and a test compares
// the two.
var privileges = []privilege{
	{"VirtualMachine.State.CreateSnapshot", "Virtual machine, Snapshot management, Create snapshot", onMachine, false, "hold a machine still"},
	{"VirtualMachine.State.RemoveSnapshot", "Virtual machine, Snapshot management, Remove snapshot", onMachine, false, "let it go again"},
	{"VirtualMachine.State.RenameSnapshot", "Virtual machine, Snapshot management, Rename snapshot", onMachine, false, "say in the snapshot that the export is alive"},
	{"VirtualMachine.Config.ChangeTracking", "Virtual machine, Change configuration, Toggle disk change tracking", onMachine, false, "turn change tracking on"},
	{"VirtualMachine.Provisioning.DiskRandomRead", "Virtual machine, Provisioning, Allow read-only disk access", onMachine, false, "ask what changed"},
	{"VirtualMachine.Provisioning.GetVmFiles", "Virtual machine, Provisioning, Allow virtual machine download", onMachine, false, "read the settings file and the firmware's"},
	{"VApp.Export", "vApp, Export", onMachine, false, "read disks as a stream"},
	{"Datastore.Browse", "Datastore, Browse datastore", onDatastore, false, "find a machine's files"},
	{"Datastore.FileManagement", "Datastore, Low level file operations", onDatastore, false, "read ranges of a disk's file, and the machine's small files"},
	{"VirtualMachine.Inventory.Create", "Virtual machine, Edit inventory, Create new", onFolder, true, "build a machine"},
	{"VirtualMachine.Inventory.Delete", "Virtual machine, Edit inventory, Remove", onFolder, true, "remove a machine that Lifeboat built"},
	{"VirtualMachine.Config.AddNewDisk", "Virtual machine, Change configuration, Add new disk", onFolder, true, "make its disks"},
	{"VirtualMachine.Config.RemoveDisk", "Virtual machine, Change configuration, Remove disk", onFolder, true, "take out disks that are not its own before it is removed"},
	{"VirtualMachine.Config.AddRemoveDevice", "Virtual machine, Change configuration, Add or remove device", onFolder, true, "make its cards and controllers"},
	{"VirtualMachine.Config.EditDevice", "Virtual machine, Change configuration, Modify device settings", onFolder, true, "plug in a card that was unplugged"},
	{"VirtualMachine.Interact.DeviceConnection", "Virtual machine, Interaction, Device connection", onFolder, true, "the same while the machine runs"},
	{"VirtualMachine.Config.AdvancedConfig", "Virtual machine, Change configuration, Advanced configuration", onFolder, true, "write Lifeboat's id into it"},
	{"VirtualMachine.Config.Settings", "Virtual machine, Change configuration, Change settings", onFolder, true, "set firmware and boot order"},
	{"VirtualMachine.Config.CPUCount", "Virtual machine, Change configuration, Change CPU count", onFolder, true, "set its processors"},
	{"VirtualMachine.Config.Memory", "Virtual machine, Change configuration, Change memory", onFolder, true, "set its memory"},
	{"VirtualMachine.Interact.PowerOn", "Virtual machine, Interaction, Power on", onFolder, true, "start it"},
	{"VirtualMachine.Interact.PowerOff", "Virtual machine, Interaction, Power off", onFolder, true, "stop it"},
	{"VirtualMachine.Interact.CreateScreenshot", "Virtual machine, Interaction, Create screenshot", onFolder, true, "see its screen"},
	{"VApp.Import", "vApp, Import", onPool, true, "build a machine with the bytes of its disks"},
	{"Resource.AssignVMToPool", "Resource, Assign virtual machine to resource pool", onPool, true, "put it into a pool"},
	{"Datastore.AllocateSpace", "Datastore, Allocate space", onDatastore, true, "make its disks"},
	{"Network.Assign", "Network, Assign network", onNetwork, true, "plug its cards in"},
}
