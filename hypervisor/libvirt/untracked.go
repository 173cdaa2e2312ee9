//go:build libvirt_dlopen && cgo

package libvirt

import "context"

// Two reasons for a full read that lie with the machine or its host, and not
// with an export.
const (
	whySnapshots   = "the machine has internal snapshots: with change tracking beside them virsh snapshot-revert would stop it"
	whySwitchedOff = "change tracking is switched off for this host (noTracking in site.yaml)"
)

// untrackedBecause is why the changes of a machine are not tracked, or "".
// QEMU loads no internal snapshot into an image that records changes: with
// libvirt 9.0 a machine that was to go back to one ended shut off.
func (h *Host) untrackedBecause(s *sight) string {
	switch {
	case h.o.NoTracking:
		return whySwitchedOff
	case s.snapshots > 0:
		return whySnapshots
	}
	return ""
}

// dropCheckpoints takes the checkpoints of earlier exports out of a machine that
// is not tracked any more. What cannot be removed now is left for the
// next export.
func (s *still) dropCheckpoints(ctx context.Context, have []checkpoint) {
	var names []string
	for _, c := range have {
		names = append(names, c.Name)
	}
	if err := s.removeCheckpoints(ctx, names); err != nil {
		s.domain.h.note(s.domain.name, "change tracking of earlier exports is still there: "+err.Error())
	}
}
