//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"

	"lifeboat/hypervisor"
)

// What stands here is replaced by its owner, method by method.

func (h *Host) Check(ctx context.Context) []hypervisor.Finding { return nil }
func (h *Host) Define(ctx context.Context, d hypervisor.Definition) error {
	return hypervisor.ErrUnsupported
}
func (h *Host) Settle(ctx context.Context, machine string, progress func(done, total int64)) error {
	return hypervisor.ErrUnsupported
}
func (h *Host) Remove(ctx context.Context, machine string) error { return hypervisor.ErrUnsupported }
func (h *Host) OpenGateway(ctx context.Context, s hypervisor.Segment) (hypervisor.Gateway, error) {
	return nil, hypervisor.ErrUnsupported
}
