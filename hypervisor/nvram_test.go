package hypervisor_test

import (
	"os"
	"path/filepath"
	"testing"

	"lifeboat/hypervisor"
)

func TestOnlyFirmwareForQEMUsVariablesAreTaken(t *testing.T) {
	for name, data := range map[string][]byte{
		"nothing": nil, "VMware's": append([]byte("MRVN"), make([]byte, 8<<10)...),
		"an image": append([]byte("QFI\xfb"), make([]byte, 8<<10)...), "zeros": make([]byte, 8<<10),
	} {
		if hypervisor.IsVariableStore(data) {
			t.Errorf("%s is taken", name)
		}
	}
	stores, _ := filepath.Glob("/usr/share/OVMF/OVMF_VARS*.fd")
	if len(stores) == 0 {
		t.Skip("UEFI firmware is missing: apt-get install ovmf")
	}
	for _, path := range stores {
		if data, err := os.ReadFile(path); err != nil || !hypervisor.IsVariableStore(data) {
			t.Errorf("%s is not taken (%v)", path, err)
		}
	}
}
