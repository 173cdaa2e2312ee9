//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bytes"
	"os/exec"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
)

// TestATPMKeepsItsState: a guest that sealed a key to it does not start without.
func TestATPMKeepsItsState(t *testing.T) {
	for _, tool := range []string{"swtpm", "swtpm_setup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: build/need libvirt", tool)
		}
	}
	d, h := recoveryHost(t)
	m := plain("sealed")
	m.TPM = &lifeboat.TPM{Version: "2.0", Model: "crb"}
	state := func() []byte {
		t.Helper()
		found, err := h.find(t.Context(), m.Name)
		must(t, err)
		s, err := found.look(t.Context())
		must(t, err)
		got, err := found.readTPM(t.Context(), s)
		must(t, err)
		return got
	}
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m}))
	must(t, h.PowerOn(t.Context(), m.Name))
	must(t, h.PowerOff(t.Context(), m.Name, 0))
	m.TPM.State = state()
	if len(m.TPM.State) == 0 {
		t.Fatal("the module has no state")
	}
	h.removed(t, d, m.Name)
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m}))
	if got := state(); !bytes.Equal(got, m.TPM.State) {
		t.Errorf("the module has another state: %d bytes, not %d", len(got), len(m.TPM.State))
	}
	must(t, h.PowerOn(t.Context(), m.Name))
	h.removed(t, d, m.Name)
	gone(t, d)
}

func TestOnlyTheFilesOfATPMAreTaken(t *testing.T) {
	for _, name := range []string{"../../x.permall", "/etc/passwd", "tpm2-00.volatilestate"} {
		state, err := tarOf(map[string][]byte{name: {1}})
		must(t, err)
		if _, err := untarTPM(state); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := untarTPM([]byte("x")); err == nil {
		t.Error("what is no archive is taken")
	}
}
