//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"time"

	"lifeboat/hypervisor"
)

// What stands here is replaced by its owner, method by method.

func (h *Host) Check(ctx context.Context) []hypervisor.Finding { return nil }
func (h *Host) Freeze(ctx context.Context, machine string, o hypervisor.FreezeOptions) (hypervisor.Still, error) {
	return nil, hypervisor.ErrUnsupported
}
func (h *Host) Define(ctx context.Context, d hypervisor.Definition) error {
	return hypervisor.ErrUnsupported
}
func (h *Host) PowerOn(ctx context.Context, machine string) error { return hypervisor.ErrUnsupported }
func (h *Host) PowerOff(ctx context.Context, machine string, grace time.Duration) error {
	return hypervisor.ErrUnsupported
}
func (h *Host) Settle(ctx context.Context, machine string, progress func(done, total int64)) error {
	return hypervisor.ErrUnsupported
}
func (h *Host) Screenshot(ctx context.Context, machine string) ([]byte, error) {
	return nil, hypervisor.ErrUnsupported
}
func (h *Host) Console(ctx context.Context, machine string) (hypervisor.Console, error) {
	return hypervisor.Console{}, hypervisor.ErrUnsupported
}
func (h *Host) Remove(ctx context.Context, machine string) error { return hypervisor.ErrUnsupported }
func (h *Host) Abilities() hypervisor.Abilities                  { return hypervisor.Abilities{} }
func (h *Host) OpenGateway(ctx context.Context, s hypervisor.Segment) (hypervisor.Gateway, error) {
	return nil, hypervisor.ErrUnsupported
}
func (h *Host) NoRoot(ctx context.Context, machine string) (string, error) { return "", nil }
