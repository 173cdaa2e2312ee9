package vsphere

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

// slow gives its bytes out late, so that something can happen meanwhile.
type slow struct {
	*memoryDisk
	pause time.Duration
	first chan struct{} // closed at the first read
}

func (d *slow) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if d.first != nil && offset == 0 {
		close(d.first)
	}
	if err := sleep(ctx, d.pause); err != nil {
		return err
	}
	return d.memoryDisk.ReadAt(ctx, p, offset)
}

// manyDisks is a machine with disks on four kinds of controllers, one of them
// left out, that starts from the third.
func manyDisks() (hypervisor.Definition, map[string]*memoryDisk) {
	d := definition("db01")
	bytesOf := map[string]*memoryDisk{"scsi0-0": pattern(3), "scsi0-1": pattern(5), "sata0-2": pattern(4), "ide1-0": pattern(2)}
	bytesOf["scsi0-1"].runs = []lifeboat.Extent{{Offset: 0, Length: mib}, {Offset: 3*mib + 512, Length: 1000}}
	d.Machine.Disks = []lifeboat.Disk{
		{Key: "scsi0-0", SizeBytes: 3 * mib, Bus: lifeboat.BusPVSCSI, Place: "0:0"},
		{Key: "scsi0-1", SizeBytes: 5 * mib, Bus: lifeboat.BusPVSCSI, Place: "0:1"},
		{Key: "sata0-2", SizeBytes: 4 * mib, Bus: lifeboat.BusSATA, Place: "0:2", BootIndex: 1},
		{Key: "ide1-0", SizeBytes: 2 * mib, Bus: lifeboat.BusIDE, Place: "1:0"},
		{Key: "scsi1-0", SizeBytes: 6 * mib, Bus: lifeboat.BusLSISAS, Place: "1:0", Excluded: "swap"},
	}
	d.Disks = map[string]hypervisor.Backing{}
	for key, disk := range bytesOf {
		d.Disks[key] = hypervisor.Backing{Copy: disk}
	}
	return d, bytesOf
}

// stored returns the bytes of the disks that a machine was imported with, by key.
func stored(t *testing.T, s *vcenter.Server, h *Host, name string, imported int) map[string][]byte {
	t.Helper()
	m, ok := s.Machine(name)
	if !ok {
		t.Fatalf("the server has no machine %s", name)
	}
	f, err := h.find(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, d := range f.vdisks() {
		for i := range imported {
			if m.DiskKey(i) == d.device.Key {
				all[d.Key] = m.Bytes(t, i)
			}
		}
	}
	return all
}

func TestEveryByteOfEveryDiskArrivesInItsPlace(t *testing.T) {
	for kind, esxi := range map[string]bool{"vCenter": false, "ESXi": true} {
		t.Run(kind, func(t *testing.T) {
			s, h := served(t, vcenter.Options{ESXi: esxi})
			d, bytesOf := manyDisks()
			if err := h.Define(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			f, err := h.find(t.Context(), d.Name)
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, disk := range f.disks() {
				keys = append(keys, disk.Key)
				if want, _ := d.Machine.Disk(disk.Key); disk.Bus != want.Bus || disk.SizeBytes != want.SizeBytes {
					t.Errorf("%s: %+v", disk.Key, disk)
				}
				if (disk.BootIndex == 1) != (disk.Key == "sata0-2") {
					t.Errorf("%s has the place %d in the boot order", disk.Key, disk.BootIndex)
				}
			}
			if got := strings.Join(keys, " "); got != "ide1-0 scsi0-0 scsi0-1 scsi1-0 sata0-2" {
				t.Errorf("disks: %s", got)
			}
			got := stored(t, s, h, d.Name, len(d.Disks))
			for key, disk := range bytesOf {
				want := disk.data
				if disk.runs != nil {
					// Holes are zeros, in whole grains.
					want = make([]byte, len(disk.data))
					copy(want, disk.data[:mib])
					copy(want[3*mib:], disk.data[3*mib:3*mib+64<<10])
				}
				if !bytes.Equal(got[key], want) {
					t.Errorf("disk %s is not what was sent", key)
				}
			}
			if err := h.PowerOn(t.Context(), d.Name); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnImportEndsWithItsSessionAndSaysSo(t *testing.T) {
	s, h := served(t, vcenter.Options{LeaseTimeout: 2 * time.Second})
	d := definition("web01")
	disk := &slow{memoryDisk: pattern(8), pause: 600 * time.Millisecond, first: make(chan struct{})}
	d.Disks["scsi0-1"] = hypervisor.Backing{Copy: disk}
	go func() {
		<-disk.first
		s.ExpireSessions()
	}()
	err := h.Define(t.Context(), d)
	if p := problem(t, err); !errors.Is(err, errTransferOver) || !strings.Contains(p.Safe, "nothing is left") || !strings.Contains(p.Next, "again") {
		t.Errorf("%+v", p)
	}
	if _, err := h.find(t.Context(), "web01"); !errors.Is(err, hypervisor.ErrNoMachine) {
		t.Errorf("the half-made machine: %v", err)
	}
	disk.first = nil
	if err := h.Define(t.Context(), d); err != nil {
		t.Fatalf("again: %v", err)
	}
	if got := stored(t, s, h, "web01", 1)["scsi0-1"]; !bytes.Equal(got, disk.data) {
		t.Error("the disk is not what was sent")
	}
}

func TestADatastoreThatFillsUpDuringAnUploadIsSaidAndCleaned(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	s.FillDatastore("LocalDS_0")
	d := definition("web01")
	d.Machine.Disks[0].SizeBytes = 64 * mib
	d.Disks["scsi0-1"] = hypervisor.Backing{Copy: pattern(64)}
	err := h.Define(t.Context(), d)
	if p := problem(t, err); !strings.Contains(p.Next, "datastore") || !strings.Contains(p.Safe, "nothing is left") {
		t.Errorf("%+v", p)
	}
	s.Heal()
	if _, err := h.find(t.Context(), "web01"); !errors.Is(err, hypervisor.ErrNoMachine) {
		t.Errorf("the half-made machine: %v", err)
	}
}

func TestAServerThatGoesAwayDuringAnUploadLeavesWordOfWhatMayBeLeft(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	d := definition("web01")
	disk := &slow{memoryDisk: pattern(8), pause: 200 * time.Millisecond, first: make(chan struct{})}
	d.Disks["scsi0-1"] = hypervisor.Backing{Copy: disk}
	go func() {
		<-disk.first
		s.Vanish()
	}()
	p := problem(t, h.Define(t.Context(), d))
	if !strings.Contains(p.What, "half-made") || !strings.Contains(p.Next, "delete web01 on the server") {
		t.Errorf("%+v", p)
	}
	s.Return()
	if list, err := h.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("when it is back: %+v, %v", list, err)
	}
}

func TestAnImportThatTheServerRefusesIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		fault types.BaseMethodFault
		word  string
	}{
		"no privilege": {&types.NoPermission{PrivilegeId: "VApp.Import"}, "VApp.Import"},
		"free ESXi":    {&types.RestrictedVersion{}, "licence"},
		"no room":      {&types.NoDiskSpace{}, "make room"},
		"something":    {&types.InvalidVmConfig{}, "tasks and events"},
	} {
		s, h := served(t, vcenter.Options{})
		s.Fail(vcenter.Failure{Method: "ImportVApp", Fault: c.fault})
		if p := problem(t, h.Define(t.Context(), definition("web01"))); !strings.Contains(p.Next, c.word) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestAnExpiredCertificateIsRefusedUnlessItIsPinned(t *testing.T) {
	s := vcenter.Start(t, vcenter.Options{Expired: true})
	o := serverOptions(s)
	pin := o.Thumbprint
	o.Thumbprint = ""
	_, err := opened(t, o).find(t.Context(), "web01")
	if p := problem(t, err); !strings.Contains(p.Next, pin) {
		t.Errorf("next: %s", p.Next)
	}
	o.Thumbprint = pin
	if _, err := opened(t, o).find(t.Context(), "web01"); !errors.Is(err, hypervisor.ErrNoMachine) {
		t.Errorf("pinned: %v", err)
	}
}

func TestTheServersOwnDiskFollowsARecoveredMachineOnlyIfItIsTheMachines(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	other := s.AddMachine(t, vcenter.MachineSpec{Name: "other", Disks: []vcenter.DiskSpec{{SizeBytes: mib}}})
	if err := h.Define(t.Context(), definition("web01")); err != nil {
		t.Fatal(err)
	}
	f, err := h.find(t.Context(), "web01")
	if err != nil {
		t.Fatal(err)
	}
	if list := f.foreignDisks(); len(list) != 0 {
		t.Fatalf("its own disks are somebody else's: %+v", list)
	}
	// Somebody attaches a disk of another machine.
	g, err := h.find(t.Context(), other.Name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unit := int32(9)
	foreign := *g.vdisks()[0].device
	foreign.Key, foreign.ControllerKey, foreign.UnitNumber = -1, f.vdisks()[0].device.ControllerKey, &unit
	if err := h.reconfigure(t.Context(), c, f.ref, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: &foreign},
	}}); err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(t.Context(), "web01"); err != nil {
		t.Fatal(err)
	}
	if got := other.Bytes(t, 0); int64(len(got)) != mib {
		t.Errorf("the other machine's disk has %d bytes", len(got))
	}
}

func TestAnImportOutlivesAnswersToItsRenewalsThatAreLost(t *testing.T) {
	s, h := served(t, vcenter.Options{LeaseTimeout: 4 * time.Second})
	var lost atomic.Int64
	loseAnswers(t, h, func(answer soap.HasFault) bool {
		_, is := answer.(*methods.HttpNfcLeaseProgressBody)
		return is && lost.Add(1) <= 2
	})
	d := definition("web01")
	disk := &slow{memoryDisk: pattern(8), pause: 4400 * time.Millisecond}
	d.Disks["scsi0-1"] = hypervisor.Backing{Copy: disk}
	if err := h.Define(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, s, h, "web01", 1)["scsi0-1"]; !bytes.Equal(got, disk.data) || lost.Load() < 3 {
		t.Errorf("the disk is not what was sent, or only %d renewals were asked for", lost.Load())
	}
}

func TestAnImportWhoseLeaseIsOverEndsAtOnce(t *testing.T) {
	s, h := served(t, vcenter.Options{LeaseTimeout: 10 * time.Second})
	s.Fail(vcenter.Failure{Method: "HttpNfcLeaseProgress", Fault: &types.InvalidState{}})
	d := definition("web01")
	disk := pattern(8)
	disk.gate = make(chan struct{}) // nobody opens it
	d.Disks["scsi0-1"] = hypervisor.Backing{Copy: disk}
	began := time.Now()
	if p := problem(t, h.Define(t.Context(), d)); !strings.Contains(p.Safe, "nothing is left") {
		t.Errorf("%+v", p)
	}
	// One renewal, a quarter of the lease's time.
	if took := time.Since(began); took > 7*time.Second {
		t.Errorf("it took %v", took)
	}
}
