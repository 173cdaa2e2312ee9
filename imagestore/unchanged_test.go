package imagestore

import (
	"slices"
	"testing"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// exports stores a disk again and again with the given change lists, each time
// counting from the export before.
func exports(t *testing.T, s *Store, every int, disks [][]byte, lists [][]lifeboat.Extent) []lifeboat.RestorePoint {
	t.Helper()
	var points []lifeboat.RestorePoint
	for i, data := range disks {
		since := ""
		if i > 0 {
			since = string(rune('a' + i - 1))
		}
		c, _ := tracked(data, lists[i], since, string(rune('a'+i)))
		c.CheckEvery = every
		points = append(points, mustCapture(t, s, c))
	}
	return points
}

func TestAChangeListThatLeavesSomethingOutIsFoundOut(t *testing.T) {
	data := randomDisk(31, 20<<20+700)
	empty := slices.Index(data[1<<20:], 0) + 1<<20
	for empty%format.BlockSize != 0 || !allZero(data[empty:empty+format.BlockSize]) {
		empty = (empty/format.BlockSize + 1) * format.BlockSize
	}
	full := 0
	for allZero(data[full : full+format.BlockSize]) {
		full += format.BlockSize
	}
	for name, at := range map[string]int{"new data where nothing was": empty, "other data": full, "the end of the disk": len(data) - 100} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, newDrive(t).Dir(), Write)
			after := slices.Clone(data)
			copy(after[at:], "written and not told of")
			points := exports(t, s, 3, [][]byte{data, after, after, after, after}, make([][]lifeboat.Extent, 5))
			var how []string
			for _, p := range points {
				how = append(how, p.Disks[0].FullRead)
			}
			// The first export is whole, two are believed, the third is looked at.
			if how[1] != "" || how[2] != "" || how[3] != "the source's change list was wrong" || !points[3].Disks[0].ChangeListWrong {
				t.Errorf("the exports read everything because of %q", how)
			}
			checkDisk(t, s, points[3].ID, "disk0", after)
			// Who lied once is not believed unseen the next time.
			if d := points[4].Disks[0]; d.FullRead != "" || d.CheckedBytes == 0 || d.ChangeListWrong {
				t.Errorf("after a lie: %+v", d)
			}
		})
	}
}

func TestAChangeListThatIsRightIsCheckedEverySoManyExportsAndUsed(t *testing.T) {
	s := openStore(t, newDrive(t).Dir(), Write)
	data := randomDisk(32, 24<<20)
	disks, lists := [][]byte{data}, [][]lifeboat.Extent{nil}
	for i := range 7 {
		data = slices.Clone(data)
		at := int64(3+2*i) << 20
		copy(data[at+100:], randomDisk(uint64(300+i), 150000))
		disks = append(disks, data)
		lists = append(lists, []lifeboat.Extent{{Offset: at, Length: 256 << 10}})
	}
	points := exports(t, s, 3, disks, lists)
	for i, p := range points {
		d := p.Disks[0]
		if checked := i > 0 && i%3 == 0; i > 0 && (d.FullRead != "" || (d.CheckedBytes > 0) != checked) {
			t.Errorf("export %d: %+v", i, d)
		}
		checkDisk(t, s, p.ID, "disk0", disks[i])
	}
}

func TestASampleTakesOneRegionOfEachStretch(t *testing.T) {
	for _, regions := range []int64{0, 1, 31, 32, 33, 5000, 1 << 20} {
		p := &diskPlan{size: regions * format.RegionSize, base: format.PointDisk{Size: regions * format.RegionSize}}
		picked := p.sample()
		want := min(max(regions/sampleShare, sampleLeast), regions)
		if int64(len(picked)) != want {
			t.Errorf("%d regions: %d picked, not %d", regions, len(picked), want)
		}
		whole := 0
		for i, s := range picked {
			if s.region < int64(i)*regions/want || s.region >= int64(i+1)*regions/want {
				t.Errorf("%d regions: number %d is region %d", regions, i, s.region)
			}
			if s.all {
				whole++
			}
		}
		if int64(whole) < min(regions, sampleLeast) || whole > 2*sampleLeast {
			t.Errorf("%d regions: %d are read whole", regions, whole)
		}
	}
}

// The same host keeps the lists of all disks of a machine.
func TestALieAboutOneDiskMakesTheOthersDoubtful(t *testing.T) {
	s := openStore(t, newDrive(t).Dir(), Write)
	night := func(a, b []byte, sinceA, sinceB, token string) lifeboat.RestorePoint {
		c := testMachine("m1", map[string]Source{
			"disk0": &memoryDisk{data: a, tracks: true}, "disk1": &memoryDisk{data: b, tracks: true}})
		c.Since["disk0"], c.Since["disk1"], c.CheckEvery = sinceA, sinceB, 2
		c.Tokens["disk0"], c.Tokens["disk1"] = token, token
		return mustCapture(t, s, c)
	}
	liar, other := randomDisk(41, 9<<20), randomDisk(42, 9<<20)
	night(liar, other, "", "", "a")
	night(liar, other, "a", "unknown", "b") // so only the first is due for a check
	copy(liar[3<<20:], "not told")
	copy(other[5<<20:], "not told either")
	p := night(liar, other, "b", "b", "c")
	for _, d := range p.Disks {
		if !d.ChangeListWrong {
			t.Errorf("%+v", d)
		}
	}
	checkDisk(t, s, p.ID, "disk0", liar)
	checkDisk(t, s, p.ID, "disk1", other)
	if report, err := s.Verify(t.Context(), VerifyOptions{}); err != nil || report.Points != 3 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestTheCheckOfAChangeListCountsAsProgress(t *testing.T) {
	for what, lies := range map[string]bool{"a list that is right": false, "a list that is wrong": true} {
		s := openStore(t, newDrive(t).Dir(), Write)
		data := randomDisk(34, 24<<20)
		first, _ := tracked(data, nil, "", "a")
		mustCapture(t, s, first)
		data = slices.Clone(data)
		copy(data[3<<20:], randomDisk(35, 150000))
		if lies {
			copy(data[9<<20:], randomDisk(36, 10<<20))
		}
		c, _ := tracked(data, []lifeboat.Extent{{Offset: 3 << 20, Length: 256 << 10}}, "a", "b")
		var last Progress
		c.CheckEvery, c.Progress = 1, func(p Progress) { last = p }
		d := mustCapture(t, s, c).Disks[0]
		if lies != d.ChangeListWrong {
			t.Fatalf("%s: %+v", what, d)
		}
		if least := d.CheckedBytes + 256<<10; last.TotalBytes < least || last.DoneBytes != last.TotalBytes {
			t.Errorf("%s: %d of %d bytes are done at the end, and %d were to be read at least", what, last.DoneBytes, last.TotalBytes, least)
		}
	}
}
