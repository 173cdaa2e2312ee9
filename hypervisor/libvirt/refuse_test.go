//go:build libvirt_dlopen && cgo

package libvirt

import (
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

func TestAnExportOfASharedDiskIsRefusedUnlessItIsLeftOut(t *testing.T) {
	d := libvirtd.Start(t)
	var notes []string
	h := openOn(t, d)
	h.o.Note = func(_, text string) { notes = append(notes, text) }
	makePool(t, d)
	image := d.Dir + "/cluster.raw"
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	own := d.Dir + "/own.raw"
	if err := os.WriteFile(own, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	defineSmall(t, d, "db01", "<devices><disk type='file' device='disk'><source file='"+image+"'/><target dev='vdb' bus='virtio'/><shareable/></disk>"+
		"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='"+own+"'/><target dev='vda' bus='virtio'/></disk>"+
		"<filesystem type='mount' accessmode='mapped'><source dir='/srv'/><target dir='srv'/></filesystem></devices>")
	_, err := h.Freeze(t.Context(), "db01", hypervisor.FreezeOptions{DriveID: "a"})
	wantProblem(t, err, "its disk vdb is shared with other machines", "leave it out")
	if !errors.Is(err, hypervisor.ErrUnsupported) {
		t.Errorf("%v, want ErrUnsupported", err)
	}
	list, err := h.List(t.Context())
	if err != nil || !strings.Contains(list[0].Refused, "vdb") {
		t.Errorf("list %+v, %v: it does not say why", list, err)
	}
	still, err := h.Freeze(t.Context(), "db01", hypervisor.FreezeOptions{DriveID: "a", Exclude: map[string]bool{"vdb": true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := still.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if !slices.ContainsFunc(notes, func(s string) bool { return strings.Contains(s, "shares a folder") }) {
		t.Errorf("nobody said that the shared folder is not kept: %q", notes)
	}
}

func TestAMachineThatIsBeingMigratedIsNotExported(t *testing.T) {
	from, to := libvirtd.Start(t), libvirtd.Start(t)
	source, target := openOn(t, from), openOn(t, to)
	makePool(t, from)
	makePool(t, to)
	// Memory that takes its time to cross: 24 MiB that cannot be left out.
	full := make([]byte, 24<<20)
	rand.Read(full)
	if err := os.WriteFile(from.Dir+"/memory", full, 0o644); err != nil {
		t.Fatal(err)
	}
	define(t, from, `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>web01</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='q35'>hvm</type></os>
		<qemu:commandline><qemu:arg value='-device'/><qemu:arg value='loader,file=`+from.Dir+`/memory,addr=0x1000000,force-raw=on'/></qemu:commandline></domain>`)
	from.Virsh(t, "start", "web01")
	from.Virsh(t, "migrate-setspeed", "web01", "1")
	migrate := exec.Command("virsh", "-c", from.URI, "migrate", "--live", "web01", to.URI, "tcp://127.0.0.1", "--unsafe")
	out := &strings.Builder{}
	migrate.Stdout, migrate.Stderr = out, out
	if err := migrate.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = migrate.Wait() // it is cut short below
		close(ended)
	}()
	defer func() {
		from.Virsh(t, "domjobabort", "web01")
		<-ended
	}()
	moving, err := source.find(t.Context(), "web01")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); moving.notBusy(t.Context()) == nil; time.Sleep(50 * time.Millisecond) {
		select {
		case <-ended:
			t.Fatalf("the migration ended: %s", out)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the migration does not begin")
		}
	}
	for name, h := range map[string]*Host{"source": source, "target": target} {
		if list, err := h.List(t.Context()); err != nil || len(list) != 1 {
			t.Errorf("%s: list %+v, %v", name, list, err)
		}
		_, err := h.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "a"})
		wantProblem(t, err, "web01 is being migrated", "wait until that is over")
		if !errors.Is(err, hypervisor.ErrMachineBusy) {
			t.Errorf("%s: %v, want ErrMachineBusy", name, err)
		}
	}
}
