package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
)

// tracked captures data with a change list that counts from the token since.
func tracked(data []byte, changed []lifeboat.Extent, since, token string) (Capture, *memoryDisk) {
	src := &memoryDisk{data: data, changed: changed, tracks: true}
	c := testMachine("m1", map[string]Source{"disk0": src})
	c.Since["disk0"], c.Tokens["disk0"] = since, token
	return c, src
}

func TestChangeListReadsLittleAndGivesTheTreeOfAFullRead(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	data := randomDisk(21, 40<<20+1000)
	c, _ := tracked(data, nil, "", "monday")
	first := mustCapture(t, s, c)
	if first.Disks[0].FullRead != fullFirst {
		t.Errorf("the first export says %q", first.Disks[0].FullRead)
	}
	after := slices.Clone(data)
	var changed []lifeboat.Extent
	for i := range 20 {
		at := int64(i) * 2 << 20
		e := lifeboat.Extent{Offset: at, Length: 64 << 10}
		copy(after[at+4096:at+20000], randomDisk(uint64(100+i), 20000))
		changed = append(changed, e)
	}
	c, src := tracked(after, changed, "monday", "tuesday")
	second := mustCapture(t, s, c)
	if second.Disks[0].FullRead != "" {
		t.Errorf("a good change list was not used: %s", second.Disks[0].FullRead)
	}
	if src.read > 4<<20 {
		t.Errorf("%d bytes were read for %d that changed", src.read, 20*64<<10)
	}
	// Another machine with the same bytes is read whole; its tree must be equal.
	whole := testMachine("m2", map[string]Source{"disk0": &memoryDisk{data: after}})
	third := mustCapture(t, s, whole)
	a, _ := s.record(t.Context(), second.ID)
	b, _ := s.record(t.Context(), third.ID)
	if a.Disks[0].Root != b.Disks[0].Root {
		t.Error("the tree of a change list differs from that of a full read")
	}
	if second.Disks[0].DataBytes != third.Disks[0].DataBytes {
		t.Errorf("data: %d with a change list, %d without", second.Disks[0].DataBytes, third.Disks[0].DataBytes)
	}
	if third.Disks[0].NewBytes != 0 {
		t.Errorf("%d bytes of the same disk were stored twice", third.Disks[0].NewBytes)
	}
	checkDisk(t, s, first.ID, "disk0", data)
	checkDisk(t, s, second.ID, "disk0", after)
}

func TestChangeListIsUsedOnlyWithTheTokenOfTheNewestPoint(t *testing.T) {
	s := openStore(t, newDrive(t).Dir(), Write)
	data := randomDisk(22, 9<<20)
	c, _ := tracked(data, nil, "", "monday")
	mustCapture(t, s, c)
	after := slices.Clone(data)
	copy(after[5<<20:], "changed and not told, because the list counts from another moment")
	c, _ = tracked(after, nil, "sunday", "tuesday")
	p := mustCapture(t, s, c)
	if p.Disks[0].FullRead == "" {
		t.Error("a list that counts from another moment was used")
	}
	checkDisk(t, s, p.ID, "disk0", after)
}

func TestChangeListThatMissesANeighbourIsGivenUp(t *testing.T) {
	s := openStore(t, newDrive(t).Dir(), Write)
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(i>>12*7 + 1)
	}
	c, _ := tracked(data, nil, "", "monday")
	mustCapture(t, s, c)
	after := slices.Clone(data)
	for b := 99; b < 103; b++ { // 100 is told, its neighbours are not
		copy(after[b*format.BlockSize:], fmt.Sprintf("block %d", b))
	}
	c, _ = tracked(after, []lifeboat.Extent{{Offset: 100 * format.BlockSize, Length: format.BlockSize}}, "monday", "tuesday")
	p := mustCapture(t, s, c)
	if !strings.Contains(p.Disks[0].FullRead, "wrong") {
		t.Errorf("full read: %q", p.Disks[0].FullRead)
	}
	checkDisk(t, s, p.ID, "disk0", after)
}

func TestDiskThatChangesItsSizeIsRight(t *testing.T) {
	for _, size := range []int{9<<20 + 512, 8 << 20, 5<<20 + 1, 17 << 20} {
		s := openStore(t, newDrive(t).Dir(), Write)
		data := randomDisk(23, 9<<20)
		c, _ := tracked(data, nil, "", "monday")
		mustCapture(t, s, c)
		after := make([]byte, size)
		copy(after, data)
		for i := len(data); i < size; i++ {
			after[i] = byte(i % 251)
		}
		changed := []lifeboat.Extent{}
		if size > len(data) {
			changed = append(changed, lifeboat.Extent{Offset: int64(len(data)), Length: int64(size - len(data))})
		}
		c, _ = tracked(after, changed, "monday", "tuesday")
		p := mustCapture(t, s, c)
		whole := mustCapture(t, s, testMachine("m2", map[string]Source{"disk0": &memoryDisk{data: after}}))
		a, _ := s.record(t.Context(), p.ID)
		b, _ := s.record(t.Context(), whole.ID)
		if a.Disks[0].Root != b.Disks[0].Root || p.Disks[0].DataBytes != whole.Disks[0].DataBytes {
			t.Errorf("size %d: another tree than a full read", size)
		}
		checkDisk(t, s, p.ID, "disk0", after)
	}
}

func TestMachinesAreCapturedAtTheSameTime(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	shared := randomDisk(24, 6<<20)
	points := make([]lifeboat.RestorePoint, 6)
	datas := make([][]byte, len(points))
	var group sync.WaitGroup
	for i := range points {
		datas[i] = slices.Clone(shared)
		copy(datas[i][i<<20:], randomDisk(uint64(200+i), 300000))
		group.Go(func() {
			c := testMachine(fmt.Sprint("m", i), map[string]Source{"disk0": &memoryDisk{data: datas[i]}, "disk1": &memoryDisk{data: shared}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i == 3 {
				// One of them is cancelled; the others may refer to its blocks.
				c.Sources["disk1"] = &cancelling{memoryDisk: &memoryDisk{data: shared}, after: 2 << 20, cancel: cancel}
			}
			var err error
			points[i], err = s.Capture(ctx, c)
			if err != nil && i != 3 {
				t.Error(err)
			}
		})
	}
	group.Wait()
	s.Close()
	r := openStore(t, drive.ReadOnlyDir(), Read)
	for i, p := range points {
		if i != 3 {
			checkDisk(t, r, p.ID, "disk0", datas[i])
			checkDisk(t, r, p.ID, "disk1", shared)
		}
	}
	if report, err := r.Verify(t.Context(), VerifyOptions{}); err != nil || report.Points != 5 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestSourceThatCannotBeReadFailsItsMachineOnly(t *testing.T) {
	s := openStore(t, newDrive(t).Dir(), Write)
	broken := errors.New("the still is broken")
	_, err := s.Capture(t.Context(), testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20), fail: broken}}))
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if points, _, _ := s.Points(t.Context()); len(points) != 0 {
		t.Error("half a point is listed")
	}
	data := randomDisk(2, 1<<20)
	p := mustCapture(t, s, testMachine("m2", map[string]Source{"disk0": &memoryDisk{data: data}}))
	checkDisk(t, s, p.ID, "disk0", data)
}

func TestExcludedDiskComesBackEmpty(t *testing.T) {
	s := openStore(t, newDrive(t).Dir(), Write)
	c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}})
	c.Machine.Disks = append(c.Machine.Disks, lifeboat.Disk{Key: "swap", SizeBytes: 5 << 20, Excluded: "swap"})
	p := mustCapture(t, s, c)
	checkDisk(t, s, p.ID, "swap", make([]byte, 5<<20))
	if _, err := s.Disk(t.Context(), p.ID, "nonesuch"); !errors.Is(err, ErrNoPoint) {
		t.Errorf("%v", err)
	}
}

func TestDriveThatIsPulledOutFailsTheExportAndKeepsItsPoints(t *testing.T) {
	n := newNight(t, false)
	for call := 1; call < 30; call += 4 {
		d := n.base.Clone(uint64(call))
		d.VanishAt(call)
		err := n.export(d.Dir())
		var p *lifeboat.Problem
		if !errors.Is(err, lifeboat.ErrDriveGone) || !errors.As(err, &p) {
			t.Errorf("call %d: %v", call, err)
		}
		n.check(t, d.Restart(), err)
	}
}

func TestFullDriveFailsTheExportAndKeepsItsPoints(t *testing.T) {
	n := newNight(t, false)
	for _, room := range []int64{0, 100 << 10, 700 << 10} {
		d := n.base.Clone(7)
		d.FillAfter(room)
		err := n.export(d.Dir())
		var p *lifeboat.Problem
		if !errors.Is(err, lifeboat.ErrDriveFull) || !errors.As(err, &p) || p.Safe != "every restore point committed before is whole" {
			t.Errorf("%d bytes of room: %v", room, err)
		}
		d.FillAfter(1 << 40)
		n.check(t, d.Restart(), err)
	}
	small := baddrive.New(1, baddrive.Options{TotalBytes: 64 << 20})
	createStore(t, small.Dir())
	s, err := Open(t.Context(), small.Dir(), []Secret{testIdentity().Secret()}, OpenOptions{Mode: Write})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Capture(t.Context(), testMachine("m1", map[string]Source{})); !errors.Is(err, lifeboat.ErrDriveFull) {
		t.Errorf("a drive without room for a prune: %v", err)
	}
}
