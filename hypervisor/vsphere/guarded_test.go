package vsphere

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

func TestAStreamOfASnapshotThatIsMergedIsNoDisk(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodNFC})
	m.Write(t, 0, 20*mib, bytes.Repeat([]byte{0xee}, 4096))
	finish := l.MergeSlowly(t)
	if _, err := object.NewVirtualMachine(l.Client(t).Client, m.Ref).RemoveAllSnapshot(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := content(t, still, "scsi0-0"); !errors.Is(err, hypervisor.ErrStillBroken) {
		t.Errorf("%v, and a torn stream is believed", err)
	}
	finish()
}

func TestAStreamThatComesFartherMayDropOften(t *testing.T) {
	disk := sparseDisk(16<<20, 3)
	f := forwardOver(t, disk, func(n int) *modelStream {
		m := whole(disk)
		if n < 6 {
			m.failAt, m.fault = int64(n)*5<<19, io.ErrUnexpectedEOF
		}
		return m
	})
	got, err := readLikeAStore(t.Context(), f, int64(len(disk)), 2<<20, 256<<10)
	if err != nil || !bytes.Equal(got, disk) || f.opens != 6 {
		t.Fatalf("%v after %d streams", err, f.opens)
	}
}

func TestAStreamThatComesNoFartherIsToldInWords(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	l.DropStreams(1 << 20)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodNFC})
	var p *lifeboat.Problem
	if _, err := content(t, still, "scsi0-0"); !errors.As(err, &p) || p.Safe == "" || p.Next == "" {
		t.Errorf("it gives %v", err)
	}
	release(t, still)
	untouched(t, m)
}

func TestAStreamComesOverTLSOnly(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	l.web01(t, nil)
	s := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"}).(*still)
	for scheme, good := range map[string]bool{"https": true, "http": false} {
		urls, err := s.lease.streams(&types.HttpNfcLeaseInfo{DeviceUrl: []types.HttpNfcLeaseDeviceUrl{{Url: scheme + "://127.0.0.1/nfc/1"}}})
		if (err == nil && len(urls) == 1) != good {
			t.Errorf("%s: %v, %v", scheme, urls, err)
		}
	}
}

func TestTrackingIsSwitchedOnAfterALeftoverWent(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, func(s *vcenter.MachineSpec) { s.Tracking = false })
	dead := newClaim(time.Now())
	dead.born++
	theirs(t, l, m, newSnapshotName(), dead.text())
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	if token(t, still, "scsi0-0") == "" {
		t.Error("tracking is off, because of a snapshot that is gone")
	}
}

// claimed is the claim on the machine's only snapshot.
func claimed(t *testing.T, l *lab) claim {
	t.Helper()
	f, err := l.host.find(t.Context(), "web01")
	if err != nil {
		t.Fatal(err)
	}
	_, claims := ours(f.vm.Snapshot)
	if len(claims) != 1 {
		t.Fatalf("%d exports hold the machine", len(claims))
	}
	return claims[0]
}

func TestAnExportSaysThatItLives(t *testing.T) {
	every := beatEvery
	beatEvery = 10 * time.Millisecond
	t.Cleanup(func() { beatEvery = every })
	l := newLab(t, vcenter.Options{})
	l.web01(t, nil)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"})
	for deadline := time.Now().Add(bootCeiling); claimed(t, l).beats < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it was heard of %d times", claimed(t, l).beats)
		}
	}
	if claimed(t, l).streams {
		t.Error("it is said to read streams before it does")
	}
	if _, err := content(t, still, "scsi0-0"); err != nil {
		t.Fatal(err)
	}
	c := claimed(t, l)
	c.computer = "0123456789abcdef"
	if _, lives := c.lives("", c.alive.Add(time.Hour)); !lives || !c.streams {
		t.Error("an export that reads streams is taken for dead after an hour")
	}
	c.streams = false
	if _, lives := c.lives("", c.alive.Add(time.Hour)); lives {
		t.Error("an export that said nothing for an hour lives")
	}
	if err := still.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestASilentExportWhoseDisksAreSentIsLeftAlone(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	other := newClaim(time.Now().Add(-time.Hour))
	other.computer, other.by, other.beats = "0123456789abcdef", "ctl2", 1
	theirs(t, l, m, newSnapshotName(), other.text())
	end := m.Begin("VirtualMachine.ExportVmLRO", "ExportVm")
	if _, err := l.host.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{}); !errors.Is(err, hypervisor.ErrMachineBusy) || m.Snapshots() != 1 {
		t.Errorf("it gives %v", err)
	}
	end()
	release(t, l.freeze(t, hypervisor.FreezeOptions{}))
	untouched(t, m)
}
