package rotation_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

const tb = 1_000_000_000_000

func shelfDrive(label string, total, free int64) rotation.ShelfDrive {
	return rotation.ShelfDrive{Drive: lifeboat.Drive{ID: "id-" + label, Label: label}, TotalBytes: total, FreeBytes: free}
}

func shelfMachine(name string, disks ...int64) rotation.ShelfMachine {
	m := rotation.ShelfMachine{ID: "id-" + name, Name: name, Home: map[string]map[string]string{}}
	for i, size := range disks {
		m.Disks = append(m.Disks, rotation.ShelfDisk{Key: fmt.Sprintf("d%d", i), DataBytes: size})
		m.DataBytes += size
	}
	return m
}

func homed(m rotation.ShelfMachine, labels ...string) rotation.ShelfMachine {
	home := map[string]string{}
	for i, d := range m.Disks {
		home[d.Key] = "id-" + labels[min(i, len(labels)-1)]
	}
	m.Home = map[string]map[string]string{"A": home}
	return m
}

func place(drives []rotation.ShelfDrive, machines ...rotation.ShelfMachine) rotation.Placement {
	p := rotation.Placing{Set: rotation.Set{Name: "A"}, Drives: drives, Machines: machines}
	for _, d := range drives {
		p.Set.Drives = append(p.Set.Drives, d.Label)
	}
	return rotation.Place(p)
}

func TestMachinesArePlacedWholeAndSpreadOnlyWhereNoDriveTakesThem(t *testing.T) {
	two := []rotation.ShelfDrive{shelfDrive("A1", 2*tb, 2*tb), shelfDrive("A2", 1*tb, 1*tb)}
	lost := shelfDrive("A1", 2*tb, 2*tb)
	lost.Place.State = custody.Lost
	for name, c := range map[string]struct {
		drives   []rotation.ShelfDrive
		machines []rotation.ShelfMachine
		// want is machine=drives, or what the refusal says.
		want []string
	}{
		"the largest first": {two, []rotation.ShelfMachine{shelfMachine("small", tb/2), shelfMachine("big", 3*tb/2)},
			[]string{"big on A1: all of it has room on drive A1", "small on A2: all of it"}},
		"one too big for any drive": {two, []rotation.ShelfMachine{shelfMachine("huge", tb, 3*tb/4)},
			[]string{"huge on A1 A2: no drive of the set has room for all of it"}},
		"one that fits nowhere": {two, []rotation.ShelfMachine{shelfMachine("huge", 2*tb, tb/2)},
			[]string{"huge refused: huge needs 3.0 TB (its data and 20% to grow); A1 has room for 1.9 TB, A2 has room for 950 GB; one of its disks alone needs 2.4 TB, and a disk is never divided: a drive of 3.2 TB would do"}},
		"one disk too big": {two, []rotation.ShelfMachine{shelfMachine("huge", 2*tb)},
			[]string{"huge refused: huge needs 2.4 TB (its data and 20% to grow); A1 has room for 1.9 TB, A2 has room for 950 GB; another drive of 2.5 TB in set A would do"}},
		"where it lies it stays": {two, []rotation.ShelfMachine{homed(shelfMachine("db", tb/4), "A2"), homed(shelfMachine("file", tb/4, tb/4), "A2", "A1")},
			[]string{"db on A2: it lies there already", "file on A1 A2: it lies there already"}},
		"a new disk goes to the others": {two, []rotation.ShelfMachine{func() rotation.ShelfMachine {
			m := homed(shelfMachine("db", tb/4), "A2")
			m.Disks = append(m.Disks, rotation.ShelfDisk{Key: "new", DataBytes: tb / 4})
			return m
		}()}, []string{"db on A2: all of it has room on drive A2"}},
		"a drive that is lost": {[]rotation.ShelfDrive{lost, two[1]}, []rotation.ShelfMachine{homed(shelfMachine("db", tb/4), "A1")},
			[]string{"db on A2: drive A1 cannot be used: it is lost; all of it has room on drive A2; 250 GB has to be written anew"}},
		"a drive that is full": {[]rotation.ShelfDrive{shelfDrive("A1", 2*tb, 35*tb/100), two[1]}, []rotation.ShelfMachine{homed(shelfMachine("db", tb), "A1"), homed(shelfMachine("web", tb/2), "A1"), homed(shelfMachine("tiny", tb/100), "A1")},
			[]string{"db on A1: it lies there", "tiny on A1: it lies there", "web on A2: drive A1 is full; all of it has room on drive A2; 500 GB has to be written anew"}},
		"full, and nowhere to go": {[]rotation.ShelfDrive{shelfDrive("A1", tb, 0)}, []rotation.ShelfMachine{homed(shelfMachine("db", tb), "A1")},
			[]string{"db on A1: it lies there", "warning: drive A1 is nearly full: 200 GB is missing"}},
		"a drive that was never seen": {[]rotation.ShelfDrive{shelfDrive("A1", 0, 0)}, []rotation.ShelfMachine{shelfMachine("db", 1)},
			[]string{"db refused: db needs 1 B (its data and 20% to grow); A1: its size is not known: attach it once; another drive"}},
		"a retired machine needs no place": {two, []rotation.ShelfMachine{{ID: "x", Name: "x", Retired: true, DataBytes: 9 * tb}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := place(c.drives, c.machines...)
			var got []string
			for _, m := range p.Machines {
				if m.Refused != "" {
					got = append(got, m.Machine+" refused: "+m.Refused)
					continue
				}
				got = append(got, m.Machine+" on "+strings.ReplaceAll(strings.Join(m.DriveIDs(), " "), "id-", "")+": "+m.Why)
			}
			for _, w := range p.Warnings {
				got = append(got, "warning: "+w)
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %q", got)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("got  %s\nwant %s", got[i], c.want[i])
				}
			}
		})
	}
}

func drawPlacing(t *rapid.T) rotation.Placing {
	p := rotation.Placing{Set: rotation.Set{Name: "A"}, Growth: rapid.SampledFrom([]float64{0, 0.01, 0.5}).Draw(t, "growth")}
	for i := range rapid.IntRange(0, 5).Draw(t, "drives") {
		label := fmt.Sprintf("A%d", i)
		total := rapid.Int64Range(0, 2000).Draw(t, "total")
		d := shelfDrive(label, total, rapid.Int64Range(0, total).Draw(t, "free"))
		d.Place.State = rapid.SampledFrom([]custody.State{custody.Onsite, custody.Offsite, custody.Onsite, custody.Lost}).Draw(t, "state")
		p.Drives, p.Set.Drives = append(p.Drives, d), append(p.Set.Drives, label)
	}
	for i := range rapid.IntRange(0, 8).Draw(t, "machines") {
		m := shelfMachine(fmt.Sprintf("m%d", i), rapid.SliceOfN(rapid.Int64Range(0, 1500), 1, 4).Draw(t, "disks")...)
		if len(p.Drives) > 0 && rapid.Bool().Draw(t, "known") {
			m = homed(m, rapid.SampledFrom(p.Set.Drives).Draw(t, "home"))
		}
		p.Machines = append(p.Machines, m)
	}
	return p
}

func TestADriveInPlaceOfALostOneTakesItsLabel(t *testing.T) {
	lost, made := shelfDrive("A1", 2*tb, 2*tb), shelfDrive("A1", 2*tb, 2*tb)
	lost.ID, lost.Place.State = "id-lost", custody.Lost
	p := rotation.Place(rotation.Placing{Set: rotation.Set{Name: "A", Drives: []string{"A1"}}, Drives: []rotation.ShelfDrive{lost, made},
		Machines: []rotation.ShelfMachine{shelfMachine("db", tb/4)}})
	if len(p.Refused()) > 0 || len(p.Drives) != 1 || p.Drives[0].DriveID != made.ID || p.Drives[0].Unusable != "" {
		t.Errorf("%+v", p)
	}
}

func TestAPlacementKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawPlacing(t)
		out := rotation.Place(in)
		if d := cmp.Diff(out, rotation.Place(in)); d != "" {
			t.Fatalf("not the same twice:\n%s", d)
		}
		slices.Reverse(in.Machines)
		if d := cmp.Diff(out, rotation.Place(in)); d != "" {
			t.Fatalf("it depends on the order of the machines:\n%s", d)
		}
		if len(out.Machines) != len(in.Machines) {
			t.Fatalf("%d of %d machines are spoken of", len(out.Machines), len(in.Machines))
		}
		fresh := map[string]int64{}
		drives := map[string]rotation.PlacedDrive{}
		for _, d := range out.Drives {
			drives[d.DriveID] = d
		}
		for _, m := range in.Machines {
			got, _ := out.Machine(m.ID)
			if (got.Refused == "") == (len(got.Drives) != len(m.Disks)) || got.Refused == "" && got.Why == "" {
				t.Fatalf("%+v", got)
			}
			for _, disk := range m.Disks {
				home, on := m.Home["A"][disk.Key], got.Drives[disk.Key]
				if got.Refused != "" {
					if home != "" && drives[home].Unusable == "" {
						t.Fatalf("refused though it lies on %s: %+v", home, got)
					}
					continue
				}
				if d, ok := drives[on]; !ok || d.Unusable != "" {
					t.Fatalf("disk %s of %s is on %q", disk.Key, m.Name, on)
				}
				if home == on {
					continue
				}
				fresh[on] += disk.DataBytes
				if home != "" && drives[home].Unusable == "" && !strings.Contains(got.Why, "is full") {
					t.Fatalf("moved without a reason: %+v", got)
				}
				if home != "" && got.MoveBytes == 0 && disk.DataBytes > 0 {
					t.Fatalf("a move that costs nothing: %+v", got)
				}
			}
			if len(got.DriveIDs()) > 1 && len(m.Home) == 0 {
				need := int64(0)
				for _, disk := range m.Disks {
					need += disk.DataBytes
				}
				for _, d := range out.Drives {
					if d.NeedBytes == 0 && d.Unusable == "" && float64(d.RoomBytes) > float64(need)*1.6 {
						t.Fatalf("split though %s is free: %+v", d.Label, got)
					}
				}
			}
		}
		for id, bytes := range fresh {
			d := drives[id]
			if bytes > d.RoomBytes || d.NeedBytes > d.RoomBytes {
				t.Fatalf("%s takes %d new, needs %d and has room for %d", d.Label, bytes, d.NeedBytes, d.RoomBytes)
			}
		}
		for _, d := range in.Drives {
			if got := drives[d.ID]; got.RoomBytes > int64(math.Ceil(0.95*float64(d.TotalBytes))) {
				t.Fatalf("no reserve: %+v", got)
			}
		}
	})
}
