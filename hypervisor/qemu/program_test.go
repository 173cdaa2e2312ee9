package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"lifeboat"

	"lifeboat/hypervisor"
)

// fakeProgram is a QEMU that says something and ends.
func fakeProgram(t *testing.T, name, says string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, []byte("#!/bin/sh\necho \""+says+"\" >&2\nexit 1\n"), 0o700))
	return path
}

func TestQEMUIsFoundWhereRedHatHidesIt(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("what is found there runs this computer's own kind of processor; needs amd64")
	}
	was := libexecProgram
	t.Cleanup(func() { libexecProgram = was })
	hidden := fakeProgram(t, "qemu-kvm", "")
	plain := fakeProgram(t, plainProgram, "")
	libexecProgram = hidden

	t.Setenv("PATH", filepath.Dir(plain))
	if path, err := Program(); err != nil || path != plain {
		t.Errorf("with both it is %q (%v)", path, err)
	}
	t.Setenv("PATH", t.TempDir())
	if path, err := Program(); err != nil || path != hidden {
		t.Errorf("with the hidden one it is %q (%v)", path, err)
	}
	h, err := Open(Options{Dir: t.TempDir(), RunDir: t.TempDir()})
	must(t, err)
	if path, err := h.program(); err != nil || path != hidden {
		t.Errorf("a host takes %q (%v)", path, err)
	}
	libexecProgram = filepath.Join(t.TempDir(), "none")
	_, err = Program()
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.Next, "install") {
		t.Errorf("with none it says %v", err)
	}
}

func TestAGatewayWithoutAUserNetworkIsToldInWords(t *testing.T) {
	fake := fakeProgram(t, "qemu-kvm", "qemu-kvm: -netdev user,id=user: network backend 'user' is not compiled into this binary")
	h, err := Open(Options{Dir: t.TempDir(), RunDir: t.TempDir(), Binary: fake})
	must(t, err)
	_, err = h.OpenGateway(t.Context(), hypervisor.Segment{Name: "drill 3", CIDR: "10.77.0.0/24", HostAddress: "10.77.0.1",
		Forwards: []hypervisor.SegmentForward{{HostPort: freePort(t), Address: "10.77.0.10", GuestPort: 80}}})
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.What, "no user network") || strings.Contains(p.Next, "ports") {
		t.Errorf("it says %v", err)
	}
}
