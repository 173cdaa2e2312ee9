package libvirt

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const testUUID = "11111111-2222-4333-8444-555555555555"

func TestATokenIsTakenBackByItsOwnDomainAlone(t *testing.T) {
	name := newCheckpointName("Drive-A 7", time.Unix(1700000000, 0))
	if !strings.HasPrefix(name, "lifeboat-drivea7-006553f100-") {
		t.Errorf("the name is %s", name)
	}
	if got, size, ok := parseToken(token(testUUID, name, 512), strings.ToUpper(testUUID)); got != name || size != 512 || !ok {
		t.Errorf("the token gives %s, %d, %v", got, size, ok)
	}
	if _, _, ok := parseToken(token(testUUID, name, 512), "99999999-2222-4333-8444-555555555555"); ok {
		t.Error("another domain takes the token")
	}
	if token(testUUID, "", 512) != "" {
		t.Error("nothing has a token")
	}
	for _, text := range []string{"", "x", "libvirt1:::", "libvirt1:" + testUUID + ":lifeboat-a-b-c:5",
		"libvirt1:" + testUUID + ":" + name + ":-1", "libvirt1:" + testUUID + ":" + name + "</name>:5", "qemu1:" + name + ":5"} {
		if _, _, ok := parseToken(text, testUUID); ok {
			t.Errorf("%q is taken for a token", text)
		}
	}
}

func TestTheBaseIsTheTokensOwnCheckpointOrNone(t *testing.T) {
	sound := checkpoint{Name: "lifeboat-a-0000000001-00000001", Disks: []string{"vda"}, Sound: true}
	broken := checkpoint{Name: "lifeboat-a-0000000002-00000002", Disks: []string{"vda"}}
	lost := checkpoint{Name: "lifeboat-a-0000000004-00000004", Disks: []string{"vda"}, Lost: true}
	have := []checkpoint{sound, broken, lost}
	for _, test := range []struct {
		target, since string
		size          int64
		name, why     string
	}{
		{"vda", "", 512, "", whyFirst},
		{"vda", "nonsense", 512, "", whyUnknown},
		{"vda", token(testUUID, sound.Name, 512), 512, sound.Name, ""},
		{"vda", token(testUUID, sound.Name, 512), 1024, "", whyResized},
		{"vdb", token(testUUID, sound.Name, 512), 512, "", whyUnknown},
		{"vda", token(testUUID, broken.Name, 512), 512, "", whyBroken},
		{"vda", token(testUUID, lost.Name, 512), 512, "", whyUnknown},
		{"vda", token(testUUID, "lifeboat-a-0000000003-00000003", 512), 512, "", whyUnknown},
	} {
		if name, why := base(have, testUUID, test.target, test.since, test.size); name != test.name || why != test.why {
			t.Errorf("%s since %q: %q, %q, want %q, %q", test.target, test.since, name, why, test.name, test.why)
		}
	}
}

// TestNeverMoreCheckpointsThanDrives plays exports to many drives, some of which
// come to a point and some do not, with crashes that make checkpoints unsound.
func TestNeverMoreCheckpointsThanDrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var have []checkpoint
		points := map[string]string{} // the newest point's checkpoint, by drive
		for step := range rapid.IntRange(1, 60).Draw(t, "exports") {
			drive := fmt.Sprintf("drive%d", rapid.IntRange(0, 11).Draw(t, "drive"))
			if rapid.IntRange(0, 9).Draw(t, "crash") == 0 {
				for i := range have {
					have[i].Sound = rapid.Bool().Draw(t, "sound")
				}
			}
			var wanted []string
			if points[drive] != "" {
				wanted = []string{points[drive]}
			}
			gone := surplus(have, drive, wanted)
			before := have
			have = slices.DeleteFunc(slices.Clone(have), func(c checkpoint) bool { return slices.Contains(gone, c.Name) })
			for _, c := range have {
				d, _, _ := splitCheckpointName(c.Name)
				if !c.Sound || d == drive && !slices.Contains(wanted, c.Name) {
					t.Fatalf("%+v stays", c)
				}
			}
			if i := slices.IndexFunc(before, func(c checkpoint) bool { return c.Sound && slices.Contains(wanted, c.Name) }); i >= 0 && slices.Contains(gone, before[i].Name) {
				t.Fatalf("%s goes, and the drive's point counts from it", before[i].Name)
			}
			fresh := newCheckpointName(drive, time.Unix(int64(1000+step), 0))
			have = append(have, checkpoint{Name: fresh, Sound: true})
			switch rapid.IntRange(0, 2).Draw(t, "end") {
			case 0: // committed
				have = slices.DeleteFunc(have, func(c checkpoint) bool { return slices.Contains(wanted, c.Name) })
				points[drive] = fresh
			case 1: // not committed
				have = have[:len(have)-1]
			case 2: // died, and so did the guard
			}
			drives := map[string]bool{}
			for _, c := range have {
				d, _, _ := splitCheckpointName(c.Name)
				drives[d] = true
			}
			if len(drives) > mostDrives || len(have) > 2*mostDrives {
				t.Fatalf("there are %d checkpoints of %d drives", len(have), len(drives))
			}
		}
	})
}

func TestNobodyElsesCheckpointIsTouched(t *testing.T) {
	have := []checkpoint{{Name: "cp1"}, {Name: "virtnbdbackup.0"}, {Name: "lifeboat-x"}, {Name: "lifeboat-a-b-c"}}
	if gone := surplus(have, "a", nil); len(gone) > 0 {
		t.Errorf("%v would go", gone)
	}
}

func TestTheJobNamesEveryDiskOfTheDomain(t *testing.T) {
	text, err := backupXML("/pool/"+folderName(testUUID, "0badcafe"), []string{"vda", "vdb", "sda"},
		[]exportDisk{{key: "root", target: "vda", base: "lifeboat-a-0000000001-00000001"}, {key: "data", target: "vdb"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`<server transport="unix" socket="/pool/lifeboat-11111111222243338444555555555555-0badcafe/nbd">`,
		`<disk type="file" name="vda" backup="yes" backupmode="incremental" incremental="lifeboat-a-0000000001-00000001" exportname="root" exportbitmap="changes">`,
		`<disk type="file" name="vdb" backup="yes" backupmode="full" exportname="data">`,
		`<disk name="sda" backup="no">`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	socket := jobSocket(text)
	if computer, ours := parseFolder(socket, testUUID); computer != "0badcafe" || !ours {
		t.Errorf("the job is of %q (%v)", computer, ours)
	}
	if _, ours := parseFolder(socket, "99999999-2222-4333-8444-555555555555"); ours {
		t.Error("it is taken for another domain's")
	}
	if jobSocket("<domainbackup mode='push'/>") != "" || jobSocket("<") != "" {
		t.Error("a socket was read where none is")
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(token(testUUID, "lifeboat-a-0000000001-00000001", 512))
	f.Fuzz(func(t *testing.T, text string) {
		name, size, ok := parseToken(text, testUUID)
		if !ok {
			return
		}
		if size < 0 || strings.ContainsAny(name, "<>&\"' \n") {
			t.Errorf("%q gives %q and %d", text, name, size)
		}
		if xml, err := checkpointXML(name, []string{"vda"}, map[string]bool{"vda": true}); err != nil || !strings.Contains(xml, name) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
