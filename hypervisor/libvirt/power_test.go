//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bytes"
	"errors"
	"image/png"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"lifeboat/fixtures/guests"
	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

// leanGuest puts a small real guest under the daemon, off, with its serial line
// in the file that it returns.
func leanGuest(t *testing.T, d *libvirtd.Daemon, kind guests.Kind, more string) (serial string) {
	t.Helper()
	images, err := guests.Build(t.Context(), os.Getenv("LIFEBOAT_GUEST_CACHE"), kind)
	if err != nil {
		t.Skipf("needs what guests are built of: build/need guests: %v", err)
	}
	disk, serial := d.Dir+"/"+string(kind)+".qcow2", d.Dir+"/"+string(kind)+".log"
	if out, err := exec.Command("qemu-img", "convert", "-O", "qcow2", images[kind].Disks["root"], disk).CombinedOutput(); err != nil {
		t.Fatalf("copy the guest: %v: %s", err, out)
	}
	define(t, d, `<domain type='qemu'><name>`+string(kind)+`</name><memory unit='MiB'>192</memory><vcpu>1</vcpu>`+more+`
		<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
		<cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>
		<on_reboot>destroy</on_reboot><devices>
		<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='`+disk+`'/><target dev='vda' bus='virtio'/></disk>
		<interface type='user'><mac address='52:54:00:77:00:20'/><model type='virtio'/></interface>
		<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
		<serial type='pty'><log file='`+serial+`' append='off'/></serial>
		<graphics type='vnc'><listen type='socket'/></graphics><video><model type='vga'/></video></devices></domain>`)
	return serial
}

// waitFor waits until a file holds the words.
func waitFor(t *testing.T, path, words string) {
	t.Helper()
	for range 600 {
		if data, _ := os.ReadFile(path); bytes.Contains(data, []byte(words)) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	data, _ := os.ReadFile(path)
	t.Fatalf("%q did not come within a minute; the file ends: %s", words, data[max(0, len(data)-2000):])
}

func TestAGuestIsStartedShownAndAskedToShutDown(t *testing.T) {
	d := libvirtd.Start(t)
	h := openOn(t, d)
	serial := leanGuest(t, d, guests.Lean, "")
	ctx := t.Context()
	for range 2 { // one that runs is left alone
		if err := h.PowerOn(ctx, "lean"); err != nil {
			t.Fatal(err)
		}
	}
	console, err := h.Console(ctx, "lean")
	if err != nil || console.SerialLog != serial || !strings.HasSuffix(console.VNCSocket, "vnc.sock") {
		t.Errorf("console %+v, %v", console, err)
	}
	data, err := h.Screenshot(ctx, "lean")
	if err != nil {
		t.Fatal(err)
	}
	if picture, err := png.Decode(bytes.NewReader(data)); err != nil || picture.Bounds().Dx() < 100 {
		t.Errorf("the picture: %v", err)
	}
	waitFor(t, serial, "READY lean")
	begin := time.Now()
	if err := h.PowerOff(ctx, "lean", 3*time.Minute); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 150*time.Second {
		t.Errorf("it went off after %v, so nobody asked the guest", took)
	}
	waitFor(t, serial, "STOPPED lean")
	if err := h.PowerOff(ctx, "lean", 0); err != nil {
		t.Errorf("one that is off: %v", err)
	}
	if console, err := h.Console(ctx, "lean"); err != nil || console.VNCSocket != "" || console.SerialLog != serial {
		t.Errorf("console of one that is off: %+v, %v", console, err)
	}
	if _, err := h.Screenshot(ctx, "lean"); err == nil {
		t.Error("a machine that is off has a picture")
	}
}

func TestAGuestThatDoesNotListenLosesItsPower(t *testing.T) {
	d := libvirtd.Start(t)
	h := openOn(t, d)
	defineSmall(t, d, "deaf", "")
	if err := h.PowerOn(t.Context(), "deaf"); err != nil {
		t.Fatal(err)
	}
	d.Virsh(t, "suspend", "deaf")
	if list, err := h.List(t.Context()); err != nil || list[0].Power != hypervisor.PowerPaused {
		t.Errorf("list %+v, %v, want a machine that is paused", list, err)
	}
	if err := h.PowerOff(t.Context(), "deaf", time.Second); err != nil {
		t.Fatal(err)
	}
	if list, err := h.List(t.Context()); err != nil || list[0].Power != hypervisor.PowerOff {
		t.Errorf("list %+v, %v, want a machine that is off", list, err)
	}
}

// A domain that libvirt does not keep is there while it runs, and gone after.
func TestATransientMachineIsListedAndGoesWithItsPower(t *testing.T) {
	d := libvirtd.Start(t)
	h := openOn(t, d)
	uuid := defineSmall(t, d, "passing", "")
	d.Virsh(t, "start", "passing")
	d.Virsh(t, "undefine", "passing")
	list, err := h.List(t.Context())
	if err != nil || len(list) != 1 || list[0].HostID != uuid || list[0].Machine.Native == nil {
		t.Fatalf("list %+v, %v", list, err)
	}
	found, err := h.find(t.Context(), "passing")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.PowerOff(t.Context(), "passing", time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := found.look(t.Context()); !errors.Is(err, hypervisor.ErrMachineGone) {
		t.Errorf("a look at it afterwards: %v, want ErrMachineGone", err)
	}
	if err := h.PowerOn(t.Context(), "passing"); !errors.Is(err, hypervisor.ErrNoMachine) {
		t.Errorf("a start afterwards: %v, want ErrNoMachine", err)
	}
}

func TestOnlyWhatAMachineOfOursPrintedIsRead(t *testing.T) {
	d := libvirtd.Start(t)
	h := openOn(t, d)
	own := "<metadata>" + ours{ID: strings.Repeat("ab", 16)}.text() + "</metadata>"
	words := "ALERT!  LABEL=root does not exist.  Dropping to a shell!"
	for name, more := range map[string]string{"ours": own, "theirs": ""} {
		log := d.Dir + "/" + name + ".log"
		defineSmall(t, d, name, more+"<devices><serial type='pty'><log file='"+log+"' append='on'/></serial></devices>")
		if err := os.WriteFile(log, []byte(strings.Repeat("x", 20<<20)+"\r\n"+words+"\r\nmore"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := h.NoRoot(t.Context(), "ours"); err != nil || got != words {
		t.Errorf("ours: %q, %v", got, err)
	}
	if got, err := h.NoRoot(t.Context(), "theirs"); err != nil || got != "" {
		t.Errorf("theirs: %q, %v", got, err)
	}
	defineSmall(t, d, "quiet", strings.ReplaceAll(own, "ab", "cd")+"<devices><serial type='pty'><log file='"+d.Dir+"/quiet.log' append='on'/></serial></devices>")
	if got, err := h.NoRoot(t.Context(), "quiet"); err != nil || got != "" {
		t.Errorf("one that printed nothing: %q, %v", got, err)
	}
}
