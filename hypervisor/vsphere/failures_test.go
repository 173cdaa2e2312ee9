package vsphere

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

func TestAMachineThatCannotBeHeldIsRefusedInWords(t *testing.T) {
	tests := []struct {
		name   string
		spec   func(*vcenter.MachineSpec)
		before func(t *testing.T, l *lab, m *vcenter.Machine)
		says   string
		is     error
	}{
		{"snapshot refused", nil, func(_ *testing.T, l *lab, _ *vcenter.Machine) { l.RefuseSnapshots() }, "snapshot of web01", nil},
		{"datastore full", nil, func(_ *testing.T, l *lab, _ *vcenter.Machine) { l.FillDatastore("LocalDS_0") }, "make room on the datastore", nil},
		{"migrating", nil, func(_ *testing.T, l *lab, _ *vcenter.Machine) { l.Migrate("web01") }, "migration", hypervisor.ErrMachineBusy},
		{"free ESXi", nil, func(_ *testing.T, l *lab, _ *vcenter.Machine) { l.FreeLicense() }, "licence", hypervisor.ErrUnsupported},
		{"no permission", nil, func(_ *testing.T, l *lab, _ *vcenter.Machine) { l.Deny("VirtualMachine.State.CreateSnapshot") }, "VirtualMachine.State.CreateSnapshot", nil},
		{"independent disk", func(s *vcenter.MachineSpec) { s.Disks[0].Mode = "independent_persistent" }, nil, "independent", hypervisor.ErrUnsupported},
		{"shared disk", func(s *vcenter.MachineSpec) { s.Disks[0].Shared = true }, nil, "shared", hypervisor.ErrUnsupported},
		{"template", func(s *vcenter.MachineSpec) { s.Running = false }, func(_ *testing.T, _ *lab, m *vcenter.Machine) {
			m.Change(func(vm *mo.VirtualMachine) { vm.Config.Template = true })
		}, "template", hypervisor.ErrUnsupported},
		{"passthrough", nil, func(_ *testing.T, _ *lab, m *vcenter.Machine) {
			m.Change(func(vm *mo.VirtualMachine) {
				vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, &types.VirtualPCIPassthrough{VirtualDevice: types.VirtualDevice{Key: 13000}})
			})
		}, "device of its host", hypervisor.ErrUnsupported},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t, vcenter.Options{})
			m := l.web01(t, test.spec)
			if test.before != nil {
				test.before(t, l, m)
			}
			_, err := l.host.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "a"})
			var p *lifeboat.Problem
			if !errors.As(err, &p) || p.Safe == "" || p.Next == "" || !strings.Contains(p.What+" "+p.Next, test.says) {
				t.Fatalf("it gives %v, %+v", err, p)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
			untouched(t, m)
			l.Heal()
			if test.spec == nil && test.name != "passthrough" {
				// Nothing of the failure is left: the next one works.
				mustRead(t, l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"}), "scsi0-0", m.Bytes(t, 0))
			}
		})
	}
}

func TestAGuestThatCannotBeQuiescedIsExportedAllTheSame(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	m.Change(tools)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	if c, note := still.Consistency(); c != lifeboat.ConsistentFilesystems || note != "" {
		t.Errorf("with Tools it is %s (%q)", c, note)
	}
	release(t, still)
	l.RefuseQuiescing()
	still = l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	if c, note := still.Consistency(); c != lifeboat.ConsistentCrash || !strings.Contains(note, "could not be frozen") {
		t.Errorf("when they refuse it is %s (%q)", c, note)
	}
	mustRead(t, still, "scsi0-0", m.Bytes(t, 0))
	release(t, still)
	untouched(t, m)
}

func TestAnExcludedDiskMayBeOneThatCannotBeHeld(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, func(s *vcenter.MachineSpec) {
		s.Disks = append(s.Disks, vcenter.DiskSpec{SizeBytes: 4 * mib, Mode: "independent_persistent"})
	})
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Exclude: map[string]bool{"scsi0-1": true}})
	mustRead(t, still, "scsi0-0", m.Bytes(t, 0))
	if _, err := still.Disk("scsi0-1"); err == nil || len(still.Machine().Disks) != 2 {
		t.Errorf("the excluded disk gives %v of %v", err, still.Machine().Disks)
	}
}

func TestACancelledFreezeLeavesNothing(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	l.Fail(vcenter.Failure{Method: "CreateSnapshot_Task", Endless: true, Times: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := l.host.Freeze(ctx, "web01", hypervisor.FreezeOptions{DriveID: "a"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it gives %v", err)
	}
	untouched(t, m)
	mustRead(t, l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"}), "scsi0-0", m.Bytes(t, 0))
}

func TestASessionThatExpiresHalfWayIsMadeAnew(t *testing.T) {
	for _, method := range []string{MethodRanges, MethodNFC} {
		l := newLab(t, vcenter.Options{AreasPerPage: 2})
		m := l.web01(t, nil)
		want := m.Bytes(t, 0)
		for _, calls := range []int{3, 9, 14, 20, 27} {
			l.ExpireAfter(calls)
			still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: method})
			l.ExpireAfter(calls)
			mustRead(t, still, "scsi0-0", want)
			l.ExpireSessions()
			release(t, still)
		}
		untouched(t, m)
	}
}

func TestAnExportGoesOnWithANewLeaseWhenTheFirstWentWithItsSession(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, func(s *vcenter.MachineSpec) { s.Disks = append(s.Disks, vcenter.DiskSpec{SizeBytes: 4 * mib}) })
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodNFC})
	mustRead(t, still, "scsi0-0", m.Bytes(t, 0))
	l.ExpireSessions()
	mustRead(t, still, "scsi0-1", m.Bytes(t, 1))
	if n := l.Calls("ExportSnapshot"); n != 2 {
		t.Errorf("%d leases were asked for", n)
	}
	release(t, still)
	untouched(t, m)
}

func TestWrongAnswersHalfWayMeanAnotherWay(t *testing.T) {
	wrongFiles := map[string]vcenter.FolderLie{
		"refused": vcenter.Refused, "all in place of a part": vcenter.Whole, "another part": vcenter.OtherRange,
	}
	for name, lie := range wrongFiles {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, vcenter.Options{})
			m := l.web01(t, nil)
			since := l.since(t)
			m.Write(t, 0, 0, []byte("changed"))
			want := m.Bytes(t, 0)
			still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Since: since})
			l.LieAboutFiles(0, lie)
			d, _ := still.Disk("scsi0-0")
			if err := d.ReadAt(t.Context(), make([]byte, 4096), 0); !errors.Is(err, hypervisor.ErrReadAgain) {
				t.Errorf("it gives %v", err)
			}
			release(t, still)
			l.Heal()
			l.readsByStream(t, since, want)
			untouched(t, m)
		})
	}
}

// since is the token of an export that ended well.
func (l *lab) since(t *testing.T) map[string]string {
	t.Helper()
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	defer release(t, still)
	return map[string]string{"scsi0-0": token(t, still, "scsi0-0")}
}

// readsByStream fails if the next export reads otherwise than as a stream, or
// wrongly.
func (l *lab) readsByStream(t *testing.T, since map[string]string, want []byte) {
	t.Helper()
	streams := l.Calls("GET /nfc")
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Since: since})
	mustRead(t, still, "scsi0-0", want)
	d, _ := still.Disk("scsi0-0")
	if _, ok, why := d.Changed(t.Context()); ok || l.Calls("GET /nfc") != streams+1 {
		t.Errorf("%d streams were read (%q)", l.Calls("GET /nfc")-streams, why)
	}
	release(t, still)
}

func TestConnectionsThatDropHalfWayAreNoMatter(t *testing.T) {
	for name, lie := range map[string]vcenter.FolderLie{"dropped": vcenter.Dropped, "short": vcenter.Short} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, vcenter.Options{})
			m := l.web01(t, nil)
			still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodRanges})
			l.LieAboutFiles(3, lie)
			mustRead(t, still, "scsi0-0", m.Bytes(t, 0))
		})
	}
}

func TestAHostThatRefusesRangesIsNotAskedEveryNight(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	since := l.since(t)
	want := m.Bytes(t, 0)
	var asked atomic.Int64
	l.LieAboutFiles(0, func(w http.ResponseWriter, r *http.Request, f *os.File) bool {
		if strings.HasSuffix(r.URL.Path, "-flat.vmdk") {
			asked.Add(1)
			return vcenter.Refused(w, r, f)
		}
		return false
	})
	var nights []int64
	for range avoidFor + 2 {
		l.readsByStream(t, since, want)
		nights = append(nights, asked.Swap(0))
		// As the next night's process, which knows what the notes say.
		knownWays.mu.Lock()
		clear(knownWays.notes)
		knownWays.mu.Unlock()
	}
	for i, n := range nights {
		if tried := i == 0 || i == avoidFor+1; tried != (n > 0) {
			t.Errorf("the requests of the nights were %v", nights)
			break
		}
	}
	untouched(t, m)
}

func TestAStreamOutOfOrderIsNeverAnImage(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	m.Write(t, 0, 0, bytes.Repeat([]byte("data"), 64<<10))
	want := m.Bytes(t, 0)
	l.LieAboutStreams(vcenter.OutOfOrder)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	if _, err := content(t, still, "scsi0-0"); !errors.Is(err, hypervisor.ErrReadAgain) {
		t.Fatalf("it gives %v", err)
	}
	release(t, still)
	streams := l.Calls("GET /nfc")
	still = l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	mustRead(t, still, "scsi0-0", want)
	if l.Calls("GET /nfc") != streams {
		t.Error("it was read as a stream again")
	}
	release(t, still)

	_, err := l.host.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{Method: "floppy"})
	if !errors.Is(err, hypervisor.ErrUnsupported) || !strings.Contains(err.Error(), MethodNFC) {
		t.Errorf("an unknown way gives %v", err)
	}
	still = l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodNFC})
	var p *lifeboat.Problem
	if _, err := content(t, still, "scsi0-0"); !errors.As(err, &p) || errors.Is(err, hypervisor.ErrReadAgain) {
		t.Errorf("forced, it gives %v", err)
	}
	release(t, still)
	untouched(t, m)
}

func TestStreamsThatEndEarlyAreErrors(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	spoil := map[string]func(){
		"truncated": func() { l.LieAboutStreams(vcenter.Truncated) },
		"dropped":   func() { l.DropStreams(1 << 20) },
	}
	for name, lie := range spoil {
		lie()
		still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodNFC})
		if _, err := content(t, still, "scsi0-0"); err == nil {
			t.Errorf("%s: it is taken for the disk", name)
		}
		release(t, still)
		l.Heal()
	}
	l.StreamByQEMU()
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodNFC})
	mustRead(t, still, "scsi0-0", m.Bytes(t, 0))
	release(t, still)
	untouched(t, m)
}

func TestASnapshotThatSomebodyRemovesBreaksTheStill(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodRanges})
	d, _ := still.Disk("scsi0-0")
	p := make([]byte, 4096)
	if err := d.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	m.Write(t, 0, 0, bytes.Repeat([]byte{0xee}, 4096))
	task, err := object.NewVirtualMachine(l.Client(t).Client, m.Ref).RemoveAllSnapshot(t.Context(), nil)
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	var problem *lifeboat.Problem
	if err := d.ReadAt(t.Context(), p, 0); !errors.Is(err, hypervisor.ErrStillBroken) || !errors.As(err, &problem) {
		t.Errorf("it gives %v", err)
	}
	release(t, still)
	untouched(t, m)
}

func TestALeaseLivesAsLongAsItsReader(t *testing.T) {
	l := newLab(t, vcenter.Options{LeaseTimeout: 5 * time.Second})
	m := l.web01(t, func(s *vcenter.MachineSpec) { s.Disks[0].SizeBytes = 48 * mib })
	m.Write(t, 0, 0, bytes.Repeat([]byte("data"), int(12*mib)))
	want := m.Bytes(t, 0)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodNFC})
	d, _ := still.Disk("scsi0-0")
	for at := int64(0); at < int64(len(want)); at += 12 * mib {
		got := make([]byte, 12*mib)
		if err := d.ReadAt(t.Context(), got, at); err != nil || !bytes.Equal(got, want[at:at+12*mib]) {
			t.Fatalf("after %d bytes: %v", at, err)
		}
		time.Sleep(2 * time.Second)
	}
	if n := l.Calls("ExportSnapshot"); n != 1 {
		t.Errorf("%d leases were made", n)
	}
}

func TestEachStreamIsItsOwnDisk(t *testing.T) {
	l := newLab(t, vcenter.Options{Datastores: 2})
	m := l.web01(t, func(s *vcenter.MachineSpec) {
		s.Disks = []vcenter.DiskSpec{
			{SizeBytes: 8 * mib}, {SizeBytes: 8 * mib, Datastore: "LocalDS_1"}, {SizeBytes: 8 * mib, Controller: "sata"},
			{SizeBytes: 8 * mib, Controller: "nvme"}, {SizeBytes: 8 * mib, Controller: "ide"},
		}
	})
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	read := 0
	for i, d := range l.keys(t, m) {
		mustRead(t, still, d, m.Bytes(t, i))
		read++
	}
	if read != 5 {
		t.Errorf("%d disks were read", read)
	}
}

// keys are the keys of the machine's disks in the order of the fixture.
func (l *lab) keys(t *testing.T, m *vcenter.Machine) []string {
	t.Helper()
	f, err := l.host.find(t.Context(), m.Name)
	if err != nil {
		t.Fatal(err)
	}
	disks := f.vdisks()
	keys := make([]string, len(disks))
	for i := range disks {
		for _, d := range disks {
			if d.device.Key == m.DiskKey(i) {
				keys[i] = d.Key
			}
		}
	}
	return keys
}

func TestAHostThatGoesAwayHalfWayIsAnError(t *testing.T) {
	for _, method := range []string{MethodRanges, MethodNFC} {
		l := newLab(t, vcenter.Options{})
		m := l.web01(t, nil)
		still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: method})
		l.Vanish()
		ctx, cancel := context.WithTimeout(t.Context(), bootCeiling)
		defer cancel()
		d, _ := still.Disk("scsi0-0")
		if err := d.ReadAt(ctx, make([]byte, 4096), 8*mib); err == nil || ctx.Err() != nil {
			t.Errorf("%s: it gives %v", method, err)
		}
		if err := still.Release(ctx); err == nil {
			t.Errorf("%s: nobody says that the snapshot is left", method)
		}
		l.Return()
		mustRead(t, l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"}), "scsi0-0", m.Bytes(t, 0))
	}
}

func TestDisksThatCannotBeMergedAreTold(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	l.web01(t, nil)
	l.KeepDeltas()
	release(t, l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"}))
	if !l.saw("consolidate") {
		t.Errorf("the operator was told %v", l.told)
	}
}

func TestASnapshotNeverFillsADatastore(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	var low atomic.Bool
	every, ask := roomEvery, askRoom
	roomEvery = 20 * time.Millisecond
	askRoom = func(ctx context.Context, s *still) ([]room, error) {
		list, err := ask(ctx, s)
		if err == nil && len(list) != 1 {
			t.Errorf("the room on %d datastores is looked at", len(list))
		}
		for i := range list {
			if low.Load() {
				list[i].freeBytes = 1 << 20
			}
		}
		return list, err
	}
	t.Cleanup(func() { roomEvery, askRoom = every, ask })
	for _, method := range []string{MethodRanges, MethodNFC} {
		low.Store(false)
		still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: method})
		mustRead(t, still, "scsi0-0", m.Bytes(t, 0))
		low.Store(true)
		for deadline := time.Now().Add(20 * time.Second); m.Snapshots() > 0 && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		var p *lifeboat.Problem
		if _, err := content(t, still, "scsi0-0"); !errors.Is(err, hypervisor.ErrStillBroken) || !errors.As(err, &p) || !strings.Contains(p.Next, "LocalDS_0") {
			t.Errorf("%s: it gives %v", method, err)
		}
		release(t, still)
		untouched(t, m)
	}
	if _, err := l.host.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "a"}); err == nil || errors.Is(err, hypervisor.ErrStillBroken) {
		t.Errorf("on a full datastore it gives %v", err)
	}
	untouched(t, m)
}
