// Package libvirt runs and reads machines of a libvirtd with QEMU, on this
// computer or another.
//
// It owns the backup jobs, checkpoints and scratch files that it makes, and the
// domains, disks and networks that Define and Settle make. It promises what
// hypervisor.Host promises. It never changes a domain of production beyond a
// checkpoint, and never gives a network of its own an address on the host.
//
// libvirt's client library is loaded when a host is opened. A program that was
// built without cgo has none of it, and says so.
package libvirt

import (
	"context"

	"lifeboat/hypervisor"
)

// Kind is what definitions and derived ids call this kind of host.
const Kind = "libvirt"

// Options say which libvirtd, and where Lifeboat may put what on its host.
type Options struct {
	// Name is what the operator called the host.
	Name string
	// URI is libvirt's, for example "qemu:///system" or
	// "qemu+ssh://root@kvm1/system". Credentials are libvirt's business.
	URI string
	// Pool is the storage pool for overlays and for disks that Settle writes;
	// empty means "default".
	Pool string
	// ScratchDir is a folder on the host that keeps, while a machine is exported,
	// what its guest overwrites. Empty means a folder in the pool.
	ScratchDir string
	// ScratchReserveBytes of its file system are left alone: a still that would
	// need them breaks instead. Zero means 1 GiB, or a twentieth of a small file
	// system.
	ScratchReserveBytes int64
	// NoTracking keeps no checkpoints on machines: every export reads all of their
	// disks, and takes away the checkpoints of earlier ones.
	NoTracking bool
	// Notes keep the checkpoints that libvirt may lose. Nil keeps none.
	Notes hypervisor.Notes
	// KVM is asked, on this computer, whether guests really run under KVM. Nil
	// believes libvirt, which only looks whether the device is there.
	KVM func(ctx context.Context) (usable bool, why string)
	// Note receives what an operator should know though nothing failed. It may
	// be nil.
	Note func(machine, text string)
}
