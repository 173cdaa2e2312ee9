package main

import (
	"slices"
	"strings"

	"lifeboat"
)

// withAddresses returns network cards with the addresses that their guest had the
// last time it could be asked. A machine that was off for one export, or whose
// agent did not answer, would otherwise come back where no check and no forward
// finds it. SeenAt says how old they are.
func withAddresses(now, before []lifeboat.NIC) []lifeboat.NIC {
	now = slices.Clone(now)
	for i := range now {
		n := &now[i]
		if len(n.Addresses) > 0 || n.MAC == "" {
			continue
		}
		at := slices.IndexFunc(before, func(b lifeboat.NIC) bool { return strings.EqualFold(b.MAC, n.MAC) })
		if at < 0 || before[at].SeenAt.IsZero() {
			continue
		}
		b := before[at]
		n.Interface, n.Addresses, n.Gateway, n.DNS, n.SeenAt = b.Interface, b.Addresses, b.Gateway, b.DNS, b.SeenAt
	}
	return now
}
