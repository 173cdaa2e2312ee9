//go:build libvirt_dlopen && cgo

package libvirt

import (
	"errors"
	"strings"
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

func TestAWordThatMeansTwoMachinesIsRefusedAndBothAreNamed(t *testing.T) {
	d := libvirtd.Start(t)
	h := openOn(t, d)
	first := defineSmall(t, d, "web01", "")
	// One that is called by the UUID of the other, and a copy that carries its id.
	second := defineSmall(t, d, first, "")
	third := defineSmall(t, d, "web01-drill", "<metadata>"+ours{ID: hypervisor.DerivedID(Kind, first), Recovery: "r1"}.text()+"</metadata>")
	_, err := h.find(t.Context(), first)
	wantProblem(t, err, "2 machines of host kvm1", "kvm1/"+second)
	err = h.PowerOn(t.Context(), hypervisor.DerivedID(Kind, first))
	wantProblem(t, err, "web01-drill", "kvm1/"+third)
	if found, err := h.find(t.Context(), "web01"); err != nil || found.uuid != first {
		t.Errorf("find by the name that is one: %+v, %v", found, err)
	}
	// One whose metadata is broken does not hide the others.
	defineSmall(t, d, "broken", "<metadata>"+ours{ID: "x"}.text()+"</metadata>")
	if found, err := h.find(t.Context(), hypervisor.DerivedID(Kind, second)); err != nil || found.uuid != second {
		t.Errorf("find beside a broken one: %+v, %v", found, err)
	}
	if _, err := h.find(t.Context(), strings.Repeat("9", 32)); !errors.Is(err, hypervisor.ErrNoMachine) || !strings.Contains(err.Error(), "broken") {
		t.Errorf("find of an id that the broken one may have: %v", err)
	}
}
