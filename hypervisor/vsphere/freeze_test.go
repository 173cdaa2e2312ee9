package vsphere

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

// lab is a host over a simulated server, and what it told the operator.
type lab struct {
	*vcenter.Server
	host  *Host
	notes *keptNotes
	// checkEvery is the store's; 0 is its own choice.
	checkEvery int

	mu   sync.Mutex
	told []string
}

// keptNotes are notes in memory.
type keptNotes struct {
	mu   sync.Mutex
	kept map[string][]byte
}

func (n *keptNotes) Note(_ context.Context, hostID, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kept[hostID+"/"+name], nil
}

func (n *keptNotes) SetNote(_ context.Context, hostID, name string, data []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept[hostID+"/"+name] = data
	return nil
}

func newLab(t *testing.T, o vcenter.Options) *lab {
	t.Helper()
	shortPauses(t)
	l := &lab{Server: vcenter.Start(t, o), notes: &keptNotes{kept: map[string][]byte{}}}
	l.host = l.open(t)
	return l
}

// open is another process's view of the server.
func (l *lab) open(t *testing.T) *Host {
	t.Helper()
	long, _ := l.Thumbprints()
	h, err := Open(Options{Name: "vc", URL: l.URL, User: l.User, Password: l.Password, Thumbprint: long, Notes: l.notes,
		Note: func(_, text string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.told = append(l.told, text)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// saw says whether the operator was told something.
func (l *lab) saw(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.told, func(s string) bool { return strings.Contains(s, text) })
}

// web01 is a machine that runs, its changes tracked, with data on its disks.
func (l *lab) web01(t *testing.T, change func(*vcenter.MachineSpec)) *vcenter.Machine {
	t.Helper()
	spec := vcenter.MachineSpec{Name: "web01", Running: true, Tracking: true, Disks: []vcenter.DiskSpec{{SizeBytes: 24 * mib}}}
	if change != nil {
		change(&spec)
	}
	m := l.AddMachine(t, spec)
	for i, d := range spec.Disks {
		m.Write(t, i, 0, sparseDisk(int(d.SizeBytes), uint64(i)+40))
	}
	return m
}

// tools lets VMware Tools run in the guest.
func tools(vm *mo.VirtualMachine) {
	if vm.Guest == nil {
		vm.Guest = &types.GuestInfo{}
	}
	vm.Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
}

func (l *lab) freeze(t *testing.T, o hypervisor.FreezeOptions) hypervisor.Still {
	t.Helper()
	still, err := l.host.Freeze(t.Context(), "web01", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := still.Release(context.Background()); err != nil {
			t.Errorf("release: %v", err)
		}
	})
	return still
}

// content reads a disk of a still as the store does.
func content(t *testing.T, s hypervisor.Still, key string) ([]byte, error) {
	t.Helper()
	d, err := s.Disk(key)
	if err != nil {
		t.Fatal(err)
	}
	return readLikeAStore(t.Context(), asParts{d}, d.SizeBytes(), 8*mib, 1*mib)
}

type asParts struct{ hypervisor.StillDisk }

func (a asParts) extents(ctx context.Context, e lifeboat.Extent) ([]lifeboat.Extent, error) {
	return a.Extents(ctx, e)
}
func (a asParts) readAt(ctx context.Context, p []byte, offset int64) error {
	return a.ReadAt(ctx, p, offset)
}

func mustRead(t *testing.T, s hypervisor.Still, key string, want []byte) {
	t.Helper()
	got, err := content(t, s, key)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("disk %s is not what it was", key)
	}
}

// untouched fails if an export left anything on the machine.
func untouched(t *testing.T, m *vcenter.Machine) {
	t.Helper()
	if m.Snapshots() != 0 || m.Deltas() != 0 {
		t.Errorf("%d snapshots and %d deltas are left", m.Snapshots(), m.Deltas())
	}
}

func token(t *testing.T, s hypervisor.Still, key string) string {
	t.Helper()
	d, err := s.Disk(key)
	if err != nil {
		t.Fatal(err)
	}
	return d.Token()
}

func TestAStillIsTheMachineAsItStood(t *testing.T) {
	tests := []struct {
		name, method string
		running      bool
		esxi         bool
	}{
		{"as the host likes", "", true, false},
		{"in ranges", MethodRanges, true, false},
		{"as a stream", MethodNFC, true, false},
		{"off", "", false, false},
		{"in ranges of an ESXi", MethodRanges, true, true},
		{"as a stream of an ESXi", MethodNFC, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t, vcenter.Options{ESXi: test.esxi, AreasPerPage: 3})
			m := l.web01(t, func(s *vcenter.MachineSpec) { s.Running = test.running })
			want := m.Bytes(t, 0)
			still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: test.method})
			m.Write(t, 0, 3*mib, bytes.Repeat([]byte{0x99}, int(4*mib)))
			mustRead(t, still, "scsi0-0", want)
			c, note := still.Consistency()
			if test.running && (c != lifeboat.ConsistentCrash || note == "") || !test.running && c != lifeboat.ConsistentOff {
				t.Errorf("it is %s (%q)", c, note)
			}
			if d := still.Machine(); d.Name != "web01" || d.Native == nil || len(d.Disks) != 1 || d.Disks[0].SizeBytes != 24*mib {
				t.Errorf("it describes %+v", d)
			}
			if token(t, still, "scsi0-0") == "" {
				t.Error("there is no token")
			}
			release(t, still)
			release(t, still)
			untouched(t, m)
			if got := m.Bytes(t, 0); !bytes.Equal(got[3*mib:7*mib], bytes.Repeat([]byte{0x99}, int(4*mib))) {
				t.Error("what the guest wrote meanwhile is lost")
			}
		})
	}
}

func TestOnlyWhatChangedIsRead(t *testing.T) {
	l := newLab(t, vcenter.Options{AreasPerPage: 3})
	m := l.web01(t, nil)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	since := map[string]string{"scsi0-0": token(t, still, "scsi0-0")}
	if err := still.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	var written []lifeboat.Extent
	for i := range int64(9) {
		e := lifeboat.Extent{Offset: i*2*mib + 5000, Length: 9000}
		m.Write(t, 0, e.Offset, bytes.Repeat([]byte{byte(i) + 1}, int(e.Length)))
		written = append(written, e)
	}
	want := m.Bytes(t, 0)
	still = l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Since: since})
	d, err := still.Disk("scsi0-0")
	if err != nil {
		t.Fatal(err)
	}
	changed, ok, why := d.Changed(t.Context())
	if !ok {
		t.Fatalf("everything is read: %s", why)
	}
	var sum int64
	for _, e := range changed {
		sum += e.Length
		got := make([]byte, e.Length)
		if err := d.ReadAt(t.Context(), got, e.Offset); err != nil || !bytes.Equal(got, want[e.Offset:e.End()]) {
			t.Fatalf("%v is read wrongly: %v", e, err)
		}
	}
	for _, w := range written {
		if len(parts(changed, w)) != 1 || parts(changed, w)[0] != w {
			t.Errorf("%v was written and is not in %v", w, changed)
		}
	}
	if sum > 9*2*64<<10 || l.Calls("GET /nfc") != 0 {
		t.Errorf("%d bytes are read, %d streams", sum, l.Calls("GET /nfc"))
	}
	// The same point counts for another drive's export as well, of any age.
	if err := still.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	still = l.freeze(t, hypervisor.FreezeOptions{DriveID: "b", Since: since})
	if d, err = still.Disk("scsi0-0"); err != nil {
		t.Fatal(err)
	}
	if again, ok, _ := d.Changed(t.Context()); !ok || !slices.Equal(again, changed) {
		t.Errorf("the same token gives %v", again)
	}
}

func TestWhyADiskIsReadWhole(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	good := token(t, still, "scsi0-0")
	release(t, still)
	tests := []struct {
		name, since string
		before      func()
		why         string
	}{
		{"first", "", nil, whyFirst},
		{"of another host", "qemu1:lb-a:5", nil, whyUnknown},
		{"lied about", good, func() { l.LieAboutAreas(vcenter.NoProgress) }, "makes no sense"},
		{"overlapping", good, func() { l.LieAboutAreas(vcenter.BeyondTheEnd) }, "makes no sense"},
		{"descending", good, func() {
			m.Write(t, 0, 0, []byte{1})
			m.Write(t, 0, 9*mib, []byte{1})
			l.LieAboutAreas(vcenter.Descending)
		}, "makes no sense"},
		{"not told", good, func() {
			l.Heal()
			l.Fail(vcenter.Failure{Method: "QueryChangedDiskAreas", Fault: &types.FileFault{File: "web01-ctk.vmdk"}})
		}, whyAsked},
		{"refused", good, func() { l.Heal(); l.LieAboutFiles(0, vcenter.Refused) }, whyStream},
		{"reset", good, func() { l.Heal(); m.ResetTracking() }, whyReset},
		{"resized", good, func() { m.Resize(t, 0, 25*mib) }, whyResized},
	}
	for _, test := range tests {
		if test.before != nil {
			test.before()
		}
		want := m.Bytes(t, 0)
		still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Since: map[string]string{"scsi0-0": test.since}})
		d, err := still.Disk("scsi0-0")
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, why := d.Changed(t.Context()); ok || !strings.Contains(why, test.why) {
			t.Errorf("%s: %v, %q", test.name, ok, why)
		}
		mustRead(t, still, "scsi0-0", want)
		release(t, still)
	}
	untouched(t, m)
}

func release(t *testing.T, s hypervisor.Still) {
	t.Helper()
	if err := s.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTrackingIsSwitchedOnWhereItCanBe(t *testing.T) {
	for _, running := range []bool{true, false} {
		l := newLab(t, vcenter.Options{})
		m := l.web01(t, func(s *vcenter.MachineSpec) { s.Tracking, s.Running = false, running })
		still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
		since := token(t, still, "scsi0-0")
		if since == "" || !l.saw("switched change tracking on") {
			t.Fatalf("running %v: no token, told %v", running, l.told)
		}
		mustRead(t, still, "scsi0-0", m.Bytes(t, 0))
		release(t, still)
		untouched(t, m)
		m.Write(t, 0, 5*mib, []byte("changed"))
		still = l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Since: map[string]string{"scsi0-0": since}})
		d, _ := still.Disk("scsi0-0")
		if changed, ok, why := d.Changed(t.Context()); !ok || len(parts(changed, lifeboat.Extent{Offset: 5 * mib, Length: 7})) != 1 {
			t.Errorf("running %v: %v %q", running, changed, why)
		}
		release(t, still)
	}
}

func TestTrackingWaitsWhileOthersHaveSnapshots(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, func(s *vcenter.MachineSpec) { s.Tracking = false })
	theirs(t, l, m, "before the update", "")
	want := m.Bytes(t, 0)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Since: map[string]string{"scsi0-0": mark{change: tracking + "/1", size: 24 * mib}.token()}})
	d, _ := still.Disk("scsi0-0")
	if _, ok, why := d.Changed(t.Context()); ok || !strings.Contains(why, "snapshots") || d.Token() != "" {
		t.Errorf("%v, %q, %q", ok, why, d.Token())
	}
	m.Write(t, 0, 0, bytes.Repeat([]byte{1}, int(mib)))
	mustRead(t, still, "scsi0-0", want)
	release(t, still)
	if m.Snapshots() != 1 {
		t.Errorf("%d snapshots are left, not theirs alone", m.Snapshots())
	}
}

// theirs makes a snapshot as somebody else would.
func theirs(t *testing.T, l *lab, m *vcenter.Machine, name, description string) {
	t.Helper()
	c := l.Client(t)
	task, err := object.NewVirtualMachine(c.Client, m.Ref).CreateSnapshot(t.Context(), name, description, false, false)
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestASnapshotThatWasLeftBehindGoes(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	theirs(t, l, m, "before the update", "by hand")
	dead := newClaim(time.Now())
	dead.born++
	theirs(t, l, m, newSnapshotName(), dead.text())
	want := m.Bytes(t, 0)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	if !l.saw("left it behind") {
		t.Errorf("the operator was told %v", l.told)
	}
	mustRead(t, still, "scsi0-0", want)
	release(t, still)
	if m.Snapshots() != 1 {
		t.Errorf("%d snapshots are left", m.Snapshots())
	}
}

func TestAMachineThatAnotherExportHoldsIsBusy(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	for _, h := range []*Host{l.host, l.open(t)} {
		if _, err := h.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "b"}); !errors.Is(err, hypervisor.ErrMachineBusy) {
			t.Errorf("the second export gets %v", err)
		}
	}
	release(t, still)
	untouched(t, m)

	other := newClaim(time.Now())
	other.computer, other.by, other.beats = "0123456789abcdef", "ctl2", 1
	theirs(t, l, m, newSnapshotName(), other.text())
	_, err := l.host.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "b"})
	var p *lifeboat.Problem
	if !errors.Is(err, hypervisor.ErrMachineBusy) || !errors.As(err, &p) || !strings.Contains(p.What+p.Next, "ctl2") {
		t.Errorf("the export beside one of another computer gets %v", err)
	}
	if m.Snapshots() != 1 {
		t.Error("its snapshot was removed")
	}
}
