package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
)

func TestAShelvedMachineIsOffTheHostAndKeepsItsDisks(t *testing.T) {
	ctx := context.Background()
	h := newHost(t)
	def := hypervisor.Definition{Name: "db", Recovery: "run", Machine: lifeboat.Machine{
		ID: "0123456789abcdef0123456789abcdef", Name: "db", CPUs: 1, MemoryBytes: 64 << 20, Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}}}
	for range 2 { // its name is free again
		if err := h.Define(ctx, def); err != nil {
			t.Fatal(err)
		}
		m, err := h.find("db")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.path("written"), []byte("rows"), 0o600); err != nil {
			t.Fatal(err)
		}
		folder, err := h.Shelve(ctx, "db")
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(folder, "written")); err != nil || string(data) != "rows" {
			t.Errorf("what it wrote is not in %s: %q, %v", folder, data, err)
		}
		if listed, err := h.List(ctx); err != nil || len(listed) > 0 {
			t.Errorf("the host lists %v, %v", listed, err)
		}
	}
	if _, err := h.Shelve(ctx, "db"); !errors.Is(err, hypervisor.ErrNoMachine) {
		t.Errorf("a machine that is not there: %v", err)
	}
}
