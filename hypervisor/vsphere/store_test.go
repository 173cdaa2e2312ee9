package vsphere

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/fixtures/guests"
	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/qemu"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
)

// newStore makes a drive's store in a folder.
func newStore(t *testing.T) *imagestore.Store {
	t.Helper()
	dir, err := durable.OpenOS(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	id, err := imagestore.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	err = imagestore.Create(t.Context(), dir, imagestore.CreateOptions{
		Drive: lifeboat.Drive{ID: imagestore.NewID(), Label: "A1"}, Site: imagestore.NewSite("a test"), Program: "test", Now: time.Now(),
		Slots: []imagestore.NewSlot{{Name: "control machine", Recipient: id.Recipient()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	store, err := imagestore.Open(t.Context(), dir, []imagestore.Secret{id.Secret()}, imagestore.OpenOptions{Mode: imagestore.Write})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// export brings web01 onto a drive as the program does.
func (l *lab) export(t *testing.T, store *imagestore.Store, method string) (lifeboat.RestorePoint, error) {
	t.Helper()
	o := hypervisor.FreezeOptions{DriveID: store.Drive().ID, Since: map[string]string{}, Method: method}
	f, err := l.host.find(t.Context(), "web01")
	if err != nil {
		t.Fatal(err)
	}
	newest, err := store.Newest(t.Context(), f.id())
	if err != nil && !errors.Is(err, imagestore.ErrNoPoint) {
		t.Fatal(err)
	}
	for _, d := range newest.Disks {
		o.Since[d.Key] = d.Token
	}
	still := l.freeze(t, o)
	defer release(t, still)
	consistency, _ := still.Consistency()
	c := imagestore.Capture{
		Machine: still.Machine(), RunID: "run", TakenAt: still.TakenAt(), Consistency: consistency, Host: "vc", Program: "test",
		Sources: map[string]imagestore.Source{}, Tokens: map[string]string{}, Since: o.Since,
		CheckEvery: l.checkEvery,
	}
	for _, d := range c.Machine.Disks {
		disk, err := still.Disk(d.Key)
		if err != nil {
			t.Fatal(err)
		}
		c.Sources[d.Key], c.Tokens[d.Key] = disk, disk.Token()
	}
	return store.Capture(t.Context(), c)
}

// inStore returns a point's disk, and fails if it is not these bytes.
func inStore(t *testing.T, store *imagestore.Store, p lifeboat.RestorePoint, key string, want []byte) []byte {
	t.Helper()
	disk, err := store.Disk(t.Context(), p.ID, key)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, disk.SizeBytes())
	if _, err := disk.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("disk %s of the point is not what the guest had", key)
	}
	return got
}

func TestAStoreHoldsWhatTheGuestHad(t *testing.T) {
	for _, method := range []string{"", MethodRanges, MethodNFC} {
		l := newLab(t, vcenter.Options{AreasPerPage: 3})
		m := l.web01(t, func(s *vcenter.MachineSpec) {
			s.Disks = []vcenter.DiskSpec{{SizeBytes: 33*mib + 512}, {SizeBytes: 20 * mib, Controller: "sata"}}
		})
		store := newStore(t)
		keys := l.keys(t, m)
		for night := range 4 {
			for i := range 6 {
				m.Write(t, i%2, int64(night*6+i)*mib/2+777, bytes.Repeat([]byte{byte(night + 1)}, 70_000))
			}
			want := [][]byte{m.Bytes(t, 0), m.Bytes(t, 1)}
			p, err := l.export(t, store, method)
			if err != nil {
				t.Fatalf("night %d, method %q: %v", night, method, err)
			}
			for i, key := range keys {
				inStore(t, store, p, key, want[i])
			}
			for _, d := range p.Disks {
				switch whole := night == 0 || method == MethodNFC; {
				case whole && d.FullRead == "":
					t.Errorf("night %d, method %q: disk %s was read in parts", night, method, d.Key)
				case !whole && (d.FullRead != "" || d.ReadBytes > 3*2*64<<10+1<<20):
					t.Errorf("night %d, method %q: %d bytes of disk %s were read (%s)", night, method, d.ReadBytes, d.Key, d.FullRead)
				}
			}
		}
		untouched(t, m)
	}
}

// bootCeiling is for a computer that is busy with other tests.
const bootCeiling = 3 * time.Minute

// A machine of VMware's, with drivers for VMware's hardware only, goes through
// both ways of reading and a drive, and starts on plain QEMU.
func TestARealGuestComesBackAndBoots(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a real guest: run without -short to enable it")
	}
	for _, name := range []string{"qemu-system-x86_64", "qemu-img", "syslinux", "mformat", "apt-get"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs the program %s: run build/need guests qemu to enable it", name)
		}
	}
	images, err := guests.Build(t.Context(), "", guests.LeanVMware)
	if err != nil {
		t.Fatal(err)
	}
	image := images[guests.LeanVMware]
	l := newLab(t, vcenter.Options{})
	m := l.web01Of(t, image)
	want := m.Bytes(t, 0)
	store := newStore(t)
	var point lifeboat.RestorePoint
	var disk []byte
	for _, method := range []string{MethodRanges, MethodNFC} {
		if point, err = l.export(t, store, method); err != nil {
			t.Fatal(err)
		}
		disk = inStore(t, store, point, "scsi0-0", want)
	}
	file := filepath.Join(t.TempDir(), "root.raw")
	if err := os.WriteFile(file, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("qemu-img", "compare", image.Disks["root"], file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	bootPoint(t, point, file)
}

// web01Of is a machine with a real guest's disk.
func (l *lab) web01Of(t *testing.T, image guests.Image) *vcenter.Machine {
	t.Helper()
	return l.AddMachine(t, vcenter.MachineSpec{
		Name: "web01", Tracking: true, MemoryMiB: image.Machine.MemoryBytes >> 20,
		Disks: []vcenter.DiskSpec{{Image: image.Disks["root"]}},
		NICs:  []vcenter.NICSpec{{Model: "vmxnet3", MAC: image.Machine.NICs[0].MAC}},
	})
}

// bootPoint starts the machine of a point on plain QEMU and waits until its
// service is ready.
func bootPoint(t *testing.T, point lifeboat.RestorePoint, file string) {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	host, err := qemu.Open(qemu.Options{Name: "recovery", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	err = host.Define(ctx, hypervisor.Definition{
		Machine: point.Machine, Name: point.Machine.Name,
		Disks:    map[string]hypervisor.Backing{"scsi0-0": {File: &hypervisor.FileBacking{Path: file, Format: "raw"}}},
		Networks: []hypervisor.Network{{Kind: hypervisor.NetworkUser}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := host.PowerOn(ctx, point.Machine.Name); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := host.PowerOff(ctx, point.Machine.Name, 0); err != nil {
			t.Error(err)
		}
	}()
	log := filepath.Join(dir, point.Machine.Name, "serial.log")
	for deadline := time.Now().Add(bootCeiling); ; time.Sleep(100 * time.Millisecond) {
		text, _ := os.ReadFile(log)
		if strings.Contains(string(text), "READY") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is not ready; its serial line: %s", text[max(0, len(text)-1500):])
		}
	}
}
