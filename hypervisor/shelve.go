package hypervisor

import "context"

// Shelver is a [Host] that takes a machine off itself and keeps it: after a
// recovery that went wrong its name is free again, and nothing that it wrote is
// lost.
type Shelver interface {
	// Shelve takes a machine that is off from the host's inventory, with its
	// definition and its disks as they are, and says where they are from then on: a
	// folder on the host. One that has power is [ErrMachineRunning]. It does it whole
	// or not at all.
	Shelve(ctx context.Context, machine string) (folder string, err error)
}
