//go:build libvirt_dlopen && cgo

package libvirt

import (
	"errors"
	"testing"

	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

// openOn is a host at a test's daemon.
func openOn(t *testing.T, d *libvirtd.Daemon) *Host {
	t.Helper()
	h, err := Open(Options{Name: "kvm1", URI: d.URI})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func TestAMachineIsFoundByNameUUIDAndID(t *testing.T) {
	d := libvirtd.Start(t)
	h := openOn(t, d)
	uuid := defineSmall(t, d, "web01", "")
	for _, word := range []string{"web01", uuid, hypervisor.DerivedID(Kind, uuid)} {
		found, err := h.find(t.Context(), word)
		if err != nil || found.uuid != uuid {
			t.Errorf("find(%q) = %v, %v, want the machine", word, found, err)
		}
	}
	if _, err := h.find(t.Context(), "web02"); !errors.Is(err, hypervisor.ErrNoMachine) {
		t.Errorf("find of an unknown name: %v, want ErrNoMachine", err)
	}
}
