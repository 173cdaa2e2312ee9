package qemu

import (
	"os/exec"
	"testing"
	"time"
)

func TestTheBootImageOfTheProbeRunsToItsEnd(t *testing.T) {
	needQEMU(t)
	binary, err := exec.LookPath("qemu-system-x86_64")
	must(t, err)
	// Without KVM, and on a busy machine: what is proved here is the image.
	took, err := runBootImage(t.Context(), binary, AcceleratorTCG, bootCeiling)
	must(t, err)
	t.Logf("took %v", took)
}

func TestTheProbeAnswersInWordsAndKeepsItsAnswer(t *testing.T) {
	needQEMU(t)
	dir := t.TempDir()
	path, err := Program()
	usable, why := probeKVM(t.Context(), path, err, dir)
	t.Logf("usable %v: %s", usable, why)
	if why == "" {
		t.Error("the probe gives no reason")
	}
	began := time.Now()
	again, _ := probeKVM(t.Context(), path, err, dir)
	if again != usable || time.Since(began) > time.Second {
		t.Errorf("the second answer is %v after %v", again, time.Since(began))
	}
}
