//go:build !libvirt_dlopen || !cgo

package libvirt

import (
	"lifeboat"
	"lifeboat/hypervisor"
)

// Host is never made by a program that has no libvirt in it.
type Host struct{ hypervisor.Host }

// Built says whether libvirt is in this program.
const Built = false

// Open says that this program has no libvirt in it.
func Open(o Options) (*Host, error) {
	return nil, &lifeboat.Problem{
		What: "host " + o.Name + " is under libvirt, which is not in this program",
		Safe: "nothing was done",
		Next: "use the program of `make build` (bin/lifeboat) on a computer with libvirt's client library; the one on a drive boots machines on plain QEMU",
		Err:  hypervisor.ErrUnsupported,
	}
}
