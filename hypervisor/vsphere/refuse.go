package vsphere

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

var errRefused = fmt.Errorf("%w: hold this machine still", hypervisor.ErrUnsupported)

// refusal is why a machine, or one disk of it, cannot be exported.
type refusal struct {
	// disk is the key, or empty for the whole machine.
	disk string
	// why is a sentence about the machine or the disk without its end, next what
	// to do about it.
	why, next string
}

// leaveOut is what to do about a disk that no snapshot holds still.
const leaveOut = "export what is in it by other means, and leave it out (docs/how-to/leave-out-a-disk.md)"

// exportable returns why a machine, or some of its disks, cannot be exported as
// things are; nothing if all can. Disks in exclude are not asked for.
func (f *found) exportable(exclude map[string]bool) []refusal {
	var list []refusal
	if r, refused := f.refusedWhole(); refused {
		list = append(list, r)
	}
	if r, refused := f.refusedDevice(); refused {
		list = append(list, r)
	}
	for _, d := range f.vdisks() {
		if exclude[d.Key] {
			continue
		}
		if why, next := refusedDisk(d); why != "" {
			list = append(list, refusal{disk: d.Key, why: fmt.Sprintf("its disk %s %s", d.Key, why), next: next})
		}
	}
	return list
}

// refusedWhole looks at what kind of machine it is, and what it is doing.
func (f *found) refusedWhole() (refusal, bool) {
	r, c := &f.vm.Runtime, f.vm.Config
	switch {
	case c.Template:
		return refusal{why: "it is a template", next: "templates do not change: deploy a machine from it and export that, or keep it as an OVF"}, true
	case c.ManagedBy != nil && c.ManagedBy.ExtensionKey == "com.vmware.vim.eam":
		return refusal{why: "it belongs to vSphere itself, which makes such machines anew", next: "leave it out"}, true
	case r.ConnectionState != "" && r.ConnectionState != types.VirtualMachineConnectionStateConnected:
		return refusal{why: fmt.Sprintf("the server cannot reach it (%s)", words(string(r.ConnectionState))), next: "see the machine's host and datastore on the server"}, true
	case r.PowerState == types.VirtualMachinePowerStateSuspended:
		return refusal{why: "it is suspended: a part of it is in memory that no disk holds", next: "resume it or shut it down"}, true
	case faultTolerant(r.FaultToleranceState):
		return refusal{why: "it has a second self (Fault Tolerance), and the server takes no snapshot of such", next: "export it from inside, or turn Fault Tolerance off for the time of the export"}, true
	case slices.Contains(f.vm.DisabledMethod, "CreateSnapshot_Task"):
		return refusal{why: "the server takes no snapshot of it now (a migration, or another backup)", next: "try again when that has ended; if nothing goes on, see VMware's KB 2008957 about disabled methods"}, true
	}
	return refusal{}, false
}

func faultTolerant(s types.VirtualMachineFaultToleranceState) bool {
	return s != "" && s != types.VirtualMachineFaultToleranceStateNotConfigured &&
		s != types.VirtualMachineFaultToleranceStateDisabled
}

// refusedDevice looks for hardware of the host inside the machine: the server
// takes no snapshot while that runs.
func (f *found) refusedDevice() (refusal, bool) {
	if f.vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff {
		return refusal{}, false
	}
	for _, d := range f.vm.Config.Hardware.Device {
		what := ""
		switch d.(type) {
		case *types.VirtualPCIPassthrough:
			what = "a device of its host (PCI passthrough or a virtual GPU)"
		case *types.VirtualSriovEthernetCard:
			what = "a network card of its host (SR-IOV)"
		case *types.VirtualSCSIPassthrough:
			what = "a SCSI device of its host"
		default:
			continue
		}
		return refusal{why: "it has " + what + ", and the server takes no snapshot of such while it runs", next: "shut it down for the export, or take the device out"}, true
	}
	return refusal{}, false
}

// refusedDisk says why a disk cannot be held still or read; "" if it can.
func refusedDisk(d vdisk) (why, next string) {
	mode, sharing, encrypted := "", "", false
	switch b := d.device.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		mode, sharing, encrypted = b.DiskMode, b.Sharing, b.KeyId != nil
	case *types.VirtualDiskSeSparseBackingInfo:
		mode, encrypted = b.DiskMode, b.KeyId != nil
	case *types.VirtualDiskSparseVer2BackingInfo:
		mode, encrypted = b.DiskMode, b.KeyId != nil
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		mode, sharing = b.DiskMode, b.Sharing
		if b.CompatibilityMode == string(types.VirtualDiskCompatibilityModePhysicalMode) {
			return "is a volume of the storage system (RDM in physical mode), of which there are no snapshots", leaveOut
		}
	default:
		return "is kept in a way that this program does not know", leaveOut
	}
	switch {
	case strings.HasPrefix(mode, "independent"):
		return "is independent: snapshots leave it out", "make it dependent while the machine is off, or " + leaveOut
	case d.controller.shared || sharing == string(types.VirtualDiskSharingSharingMultiWriter):
		return "is shared with other machines: the server takes no snapshot of such", leaveOut
	case encrypted:
		return "is encrypted by vSphere: its bytes cannot be had without its key server", "decrypt it (storage policy), or " + leaveOut
	}
	return "", ""
}

// refusedWords joins refusals to one sentence for a list, or "".
func refusedWords(list []refusal) string {
	var parts []string
	for _, r := range list {
		parts = append(parts, r.why+"; "+r.next)
	}
	return hypervisor.Printable(strings.Join(parts, "; "))
}

// refuse is the Problem for a machine that cannot be exported, or nil.
func (h *Host) refuse(f *found, list []refusal) error {
	if len(list) == 0 {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("host %s: %s cannot be exported: %s", h.o.Name, words(f.name()), list[0].why),
		Safe: "nothing was done, and the machine goes on as it is",
		Next: list[0].next,
		Err:  errRefused,
	}
}
