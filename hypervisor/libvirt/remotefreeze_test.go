//go:build libvirt_dlopen && cgo

package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

// TestAMachineOfAnotherComputerIsExported reaches the daemon by SSH: nothing of
// the host is a file here.
func TestAMachineOfAnotherComputerIsExported(t *testing.T) {
	daemon := libvirtd.Start(t)
	ssh := daemon.SSH(t)
	near := openHost(t, daemon)
	p := startProduction(t, daemon, near, "web01", "")
	p.write(t, 1<<20, 64<<10)
	h := openHost(t, daemon, func(o *Options) { o.URI, o.Pool = ssh.URI, near.o.Pool })
	far := *p
	far.h, far.d = h, &domain{h: h, name: p.d.name, uuid: p.d.uuid}

	t.Run("ItIsReadThroughTheTunnel", func(t *testing.T) {
		s := far.freeze(t, "drive-a", "")
		p.write(t, 1<<20, 64<<10)
		must(t, p.guest.Write(t.Context(), p.d.uuid, "vda", 1<<20, 64<<10, 0x99))
		got := make([]byte, 64<<10)
		must(t, s.disks["vda"].ReadAt(t.Context(), got, 1<<20))
		if got[0] != 0x77 || got[len(got)-1] != 0x77 {
			t.Errorf("it reads 0x%02x", got[0])
		}
		must(t, s.Release(t.Context()))
	})
	t.Run("WhatChangedIsKnown", func(t *testing.T) {
		token := far.commit(t, "drive-a", "")
		p.write(t, 2<<20, 4096)
		far.knows(t, "drive-a", token, 2<<20)
	})
	t.Run("WhatADeadExporterLeftInTheFolderGoesWithTheNext", func(t *testing.T) {
		f, err := far.d.exportFolder(t.Context())
		must(t, err)
		must(t, os.Mkdir(f.path, 0o700))
		must(t, os.WriteFile(filepath.Join(f.path, "vda.scratch"), []byte("old"), 0o600))
		must(t, far.freeze(t, "drive-a", "").Release(t.Context()))
	})
	t.Run("AnExporterThatIsKilledLeavesNothing", func(t *testing.T) {
		dieAt(t, h, p.d.uuid, "held", hypervisor.FreezeOptions{DriveID: "drive-b"})
		eventually(t, jobPatience, "nothing is left", func() bool { return len(leftovers(t, near, p.d.uuid)) == 0 })
	})
	t.Run("OffItIsRefusedInWords", func(t *testing.T) {
		must(t, near.PowerOff(t.Context(), p.d.uuid, 0))
		_, err := h.Freeze(t.Context(), p.d.uuid, hypervisor.FreezeOptions{DriveID: "drive-a"})
		if !errors.Is(err, hypervisor.ErrUnsupported) {
			t.Errorf("holding it gives %v", err)
		}
		wantProblem(t, err, "another computer", "run Lifeboat on that host")
	})
	if left := leftovers(t, near, p.d.uuid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
