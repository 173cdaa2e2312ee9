package qemu

import (
	"context"

	"lifeboat/hypervisor"
)

// Segment is a private network that only the machines on it see. Nothing is
// routed out of it; what leads in are its forwards.
type Segment struct {
	// Name is what the machines' hypervisor.Network says.
	Name string
	// CIDR is the network that the guests believe to be on, and HostAddress the
	// address in it that the gateway answers at.
	CIDR        string
	HostAddress string
	// Forwards lead from this host's loopback to guests, which keep the
	// addresses they have in production.
	Forwards []SegmentForward
}

// SegmentForward leads from a TCP port of this host's loopback to a port of a
// guest on the segment.
type SegmentForward struct {
	HostPort  int
	Address   string
	GuestPort int
}

// OpenSegment starts the gateway of a segment. It runs on its own, like the
// machines, until CloseSegment. Machines on the segment see each other without
// it; it is needed for forwards alone.
func (h *Host) OpenSegment(ctx context.Context, s Segment) error { return hypervisor.ErrUnsupported }

// CloseSegment stops the gateway of a segment; one that does not run is not an
// error.
func (h *Host) CloseSegment(ctx context.Context, name string) error {
	return hypervisor.ErrUnsupported
}
