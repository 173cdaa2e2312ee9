//go:build libvirt_dlopen && cgo

package libvirt

import (
	"os"
	"strings"
	"testing"

	lv "libvirt.org/go/libvirt"

	"lifeboat"
	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

// virt-clone copies metadata too: the copy is another machine, and what was made
// for the first one is not the copy's to delete.
func TestACopyOfADefinitionTakesNothingOfItsOriginalAlong(t *testing.T) {
	daemon := libvirtd.Start(t)
	h := openHost(t, daemon)
	m := lifeboat.Machine{Version: lifeboat.MachineVersion, Name: "web01", CPUs: 1, MemoryBytes: 64 << 20,
		Disks: []lifeboat.Disk{{Key: "root", SizeBytes: diskBytes, Bus: lifeboat.BusVirtio}}}
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m}))
	original, err := h.find(t.Context(), "web01")
	must(t, err)
	image := imageOf(t, h, "web01", "root")
	text := daemon.Virsh(t, "dumpxml", "--inactive", original.uuid)
	const copied = "99999999-2222-4333-8444-555555555555"
	text = strings.Replace(strings.ReplaceAll(text, original.uuid, "UUID"), "<uuid>UUID", "<uuid>"+copied, 1)
	text = strings.ReplaceAll(strings.Replace(text, "<name>web01<", "<name>copy<", 1), "UUID", original.uuid)
	define(t, daemon, text)
	d, err := h.find(t.Context(), "copy")
	must(t, err)
	forgetAtEnd(t, d)
	if id, _, err := d.identity(t.Context()); err != nil || id != hypervisor.DerivedID(Kind, copied) {
		t.Errorf("the copy has the id %s (%v)", id, err)
	}
	if err := h.Remove(t.Context(), "copy"); err == nil {
		t.Error("the copy was removed, which Lifeboat did not define")
	}
	p, err := h.pool(t.Context(), h.o.Pool)
	must(t, err)
	name := strings.TrimPrefix(image, p.path+"/")
	for of, volumes := range map[*domain][]string{d: {name}, original: {name, volumeName("web01", copied, "root.qcow2")}} {
		if alone, err := of.madeAlone(t.Context(), p, volumes); err != nil || len(alone) > 0 {
			t.Errorf("%s would delete %v (%v)", of.name, alone, err)
		}
	}
	if _, err := os.Stat(image); err != nil {
		t.Errorf("the original's disk: %v", err)
	}
}

func TestAnExportWhoseTrackingCannotBeTidiedBeginsNone(t *testing.T) {
	h, err := Open(Options{Name: "gone", URI: "qemu+unix:///system?socket=" + t.TempDir() + "/none", ScratchDir: "/tmp"})
	must(t, err)
	t.Cleanup(func() { h.Close() })
	doc, err := parseDomain(smallDomain("", ""))
	must(t, err)
	s := &still{domain: &domain{h: h, name: "web01", uuid: testUUID}, disks: map[string]*stillDisk{}, noted: map[string]string{}, xml: doc,
		options: hypervisor.FreezeOptions{DriveID: "drive-a"}, sources: []diskSource{{key: "vda", target: "vda", kind: "file", format: "qcow2"}},
		description: lifeboat.Machine{Disks: []lifeboat.Disk{{Key: "vda", SizeBytes: 512}}}}
	if _, err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.fresh) > 0 || s.disks["vda"].Token() != "" {
		t.Errorf("it would begin %v", s.fresh)
	}
	must(t, s.beginTracking(t.Context()))
}

func TestOnlyWhatLibvirtSaysOfABitmapCondemnsIt(t *testing.T) {
	for code, want := range map[lv.ErrorNumber]bool{
		lv.ERR_CHECKPOINT_INCONSISTENT: true, lv.ERR_CONFIG_UNSUPPORTED: true,
		lv.ERR_OPERATION_TIMEOUT: false, lv.ERR_INTERNAL_ERROR: false, lv.ERR_RPC: false, lv.ERR_OPERATION_INVALID: false,
	} {
		if got := saysUnsound(errorOf(int(code), "x")); got != want {
			t.Errorf("code %d: %v", code, got)
		}
	}
	c := checkpoint{Name: "lifeboat-a-0000000001-00000001", Disks: []string{"vda"}, Unsaid: true}
	if gone := surplus([]checkpoint{c}, "a", []string{c.Name}); len(gone) > 0 {
		t.Errorf("%v goes", gone)
	}
	if name, why := base([]checkpoint{c}, testUUID, "vda", token(testUUID, c.Name, 512), 512); name != "" || why != whyUnsaid {
		t.Errorf("changes are counted from %q (%s)", name, why)
	}
}

func TestAnInstantDoesNotBeginWhileAGuestMayBeFrozen(t *testing.T) {
	if (&watcher{frozen: true}).hold() == nil {
		t.Error("it begins")
	}
	must(t, (&watcher{}).hold())
}
