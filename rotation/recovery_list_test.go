package rotation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat/custody"
	"lifeboat/rotation"
)

var monday = time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)

// onShelf is a drive at a place with points, each as RUN:MACHINE, or for parts
// RUN:MACHINE:PART/OTHERPART.
func onShelf(label string, state custody.State, location string, points ...string) rotation.ShelfDrive {
	d := shelfDrive(label, tb, tb)
	d.Place = custody.Place{State: state, Location: location}
	for _, text := range points {
		f := strings.Split(text, ":")
		day := int(f[0][0] - '0')
		p := rotation.ShelfPoint{ID: text, RunID: f[0], MachineID: "id-" + f[1], TakenAt: monday.AddDate(0, 0, day), VerifiedAt: monday.AddDate(0, 0, day)}
		if len(f) > 2 {
			for _, part := range strings.Split(f[2], "/") {
				p.Parts = append(p.Parts, f[0]+":"+f[1]+":"+part)
			}
			p.ID = p.Parts[0]
			slices.Sort(p.Parts)
		}
		d.Points = append(d.Points, p)
	}
	return d
}

func TestTheRecoveryListIsTheSmallestOfOneInstant(t *testing.T) {
	policy := rotation.Policy{Locations: []rotation.Location{{Name: "bank", Offsite: true, LeadTime: 4 * time.Hour, Contact: "+43 1"}, {Name: "home", Offsite: true, LeadTime: 20 * time.Hour}}}
	attached := onShelf("C", custody.Onsite, "office", "3:web")
	attached.Attached = true
	suspect := onShelf("S", custody.Onsite, "office", "4:db", "4:web")
	suspect.Suspect = "rolled back"
	damaged := onShelf("A", custody.Onsite, "office", "3:db", "3:web")
	damaged.Damage = "3 blocks"
	for name, c := range map[string]struct {
		drives []rotation.ShelfDrive
		asked  []string
		want   string
	}{
		"one drive has all":                {[]rotation.ShelfDrive{onShelf("A", custody.Onsite, "office", "3:db", "3:web"), onShelf("B", custody.Offsite, "bank", "2:db", "2:web")}, nil, "run 3: A (db, web)"},
		"the newest run that is complete":  {[]rotation.ShelfDrive{onShelf("A", custody.Onsite, "office", "2:db", "2:web"), onShelf("B", custody.Offsite, "bank", "3:db")}, nil, "run 2: A (db, web)"},
		"only what is asked for":           {[]rotation.ShelfDrive{onShelf("A", custody.Onsite, "office", "2:db", "2:web"), onShelf("B", custody.Offsite, "bank", "3:db")}, []string{"id-db"}, "run 3: B (db)"},
		"a set":                            {[]rotation.ShelfDrive{onShelf("A", custody.Onsite, "office", "3:db"), attached}, nil, "run 3: C (web) A (db)"},
		"fewer before nearer":              {[]rotation.ShelfDrive{onShelf("A", custody.Onsite, "office", "3:db"), attached, onShelf("B", custody.Offsite, "bank", "3:db", "3:web")}, nil, "run 3: B (db, web)"},
		"of two the nearer":                {[]rotation.ShelfDrive{onShelf("B", custody.Offsite, "home", "3:db", "3:web"), onShelf("A", custody.Offsite, "bank", "3:db", "3:web"), onShelf("X", custody.Courier, "", "3:db", "3:web")}, nil, "run 3: A (db, web)"},
		"parts":                            {[]rotation.ShelfDrive{onShelf("A1", custody.Offsite, "bank", "3:db:1/2", "3:web"), onShelf("A2", custody.Offsite, "bank", "3:db:2/1")}, nil, "run 3: A1 (db (some of its disks), web) A2 (db (some of its disks))"},
		"a part that was never committed":  {[]rotation.ShelfDrive{onShelf("A1", custody.Onsite, "", "3:db:1/2", "2:db", "2:web", "3:web"), onShelf("A2", custody.Onsite, "")}, nil, "run 2: A1 (db, web)"},
		"a part that was copied":           {[]rotation.ShelfDrive{onShelf("A1", custody.Lost, "", "3:db:1/2", "3:web"), onShelf("A2", custody.Onsite, "", "3:db:2/1"), onShelf("B", custody.Onsite, "", "3:db:1/2", "3:web")}, nil, "run 3: A2 (db (some of its disks)) B (db (some of its disks), web)"},
		"what does not count":              {[]rotation.ShelfDrive{suspect, onShelf("L", custody.Lost, "", "4:db", "4:web"), onShelf("Q", custody.Quarantined, "", "4:db"), onShelf("A", custody.Offsite, "bank", "1:db", "1:web")}, nil, "run 1: A (db, web)"},
		"no run has all":                   {[]rotation.ShelfDrive{onShelf("A", custody.Offsite, "bank", "1:db", "3:web"), onShelf("B", custody.Offsite, "bank", "2:db")}, nil, "mixed: A (web) B (db)"},
		"one that stopped long ago":        {[]rotation.ShelfDrive{onShelf("A", custody.Onsite, "office", "1:db", "1:web", "9:db")}, nil, "mixed: A (db, web)"},
		"a damaged drive where another is": {[]rotation.ShelfDrive{damaged, onShelf("B", custody.Offsite, "bank", "3:db", "3:web")}, nil, "run 3: B (db, web)"},
		"only a damaged drive":             {[]rotation.ShelfDrive{damaged, onShelf("B", custody.Offsite, "bank", "1:db", "1:web")}, nil, "run 3: A (db, web)"},
		"none of one":                      {[]rotation.ShelfDrive{onShelf("A", custody.Offsite, "bank", "1:db")}, nil, "run 1: A (db) missing web: it has no restore point on any drive"},
		"nothing":                          {nil, []string{"id-db"}, "run : missing db: it has no restore point on any drive"},
	} {
		t.Run(name, func(t *testing.T) {
			s := rotation.Shelf{Drives: c.drives, Machines: []rotation.ShelfMachine{shelfMachine("web", 1), shelfMachine("db", 1)}}
			l := rotation.Recover(policy, s, c.asked)
			got := "run " + l.RunID + ":"
			if l.Mixed != "" {
				got = "mixed:"
			}
			for _, d := range l.Drives {
				got += " " + d.Label + " (" + d.Why + ")"
			}
			for m, why := range l.Missing {
				got += " missing " + m + ": " + why
			}
			if got != c.want {
				t.Errorf("\ngot  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestNoShorterRecoveryListWouldDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s rotation.Shelf
		for m := range rapid.IntRange(1, 6).Draw(t, "machines") {
			s.Machines = append(s.Machines, shelfMachine(fmt.Sprintf("m%d", m), 1))
		}
		for d := range rapid.IntRange(1, 20).Draw(t, "drives") {
			var points []string
			for _, m := range s.Machines {
				if rapid.IntRange(0, 3).Draw(t, "has") == 0 {
					points = append(points, "1:"+m.Name)
				}
			}
			s.Drives = append(s.Drives, onShelf(fmt.Sprintf("D%02d", d), rapid.SampledFrom([]custody.State{custody.Onsite, custody.Offsite, custody.Lost}).Draw(t, "state"), "", points...))
		}
		l := rotation.Recover(rotation.Policy{}, s, nil)
		if len(l.Machines)+len(l.Missing) != len(s.Machines) {
			t.Fatalf("%+v", l)
		}
		has := func(d rotation.ShelfDrive, m string) bool {
			return slices.ContainsFunc(d.Points, func(p rotation.ShelfPoint) bool { return p.MachineID == m })
		}
		var usable []rotation.ShelfDrive
		for _, d := range s.Drives {
			if d.Place.State != custody.Lost {
				usable = append(usable, d)
			}
		}
		for _, m := range l.Machines {
			for _, id := range m.Points {
				i := slices.IndexFunc(usable, func(d rotation.ShelfDrive) bool { return d.ID == id })
				if i < 0 || !has(usable[i], m.MachineID) || !slices.ContainsFunc(l.Drives, func(d rotation.NeededDrive) bool { return d.DriveID == id }) {
					t.Fatalf("%s is not on %s", m.Machine, id)
				}
			}
		}
		if len(usable) > 8 {
			return
		}
		for mask := range 1 << len(usable) {
			count, covered := 0, 0
			for i := range usable {
				count += mask >> i & 1
			}
			for _, m := range l.Machines {
				for i, d := range usable {
					if mask>>i&1 == 1 && has(d, m.MachineID) {
						covered++
						break
					}
				}
			}
			if covered == len(l.Machines) && count < len(l.Drives) {
				t.Fatalf("%d drives are enough, the list has %d", count, len(l.Drives))
			}
		}
	})
}
