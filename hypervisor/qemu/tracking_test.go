package qemu

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// modelDisk is a disk with bitmaps as QEMU keeps them.
type modelDisk struct {
	marks map[string]map[int]bool
	state map[string]*bitmap
	made  int
}

func newModelDisk() *modelDisk {
	return &modelDisk{marks: map[string]map[int]bool{}, state: map[string]*bitmap{}}
}

func (d *modelDisk) bitmaps(context.Context) ([]bitmap, error) {
	var list []bitmap
	for _, b := range d.state {
		list = append(list, *b)
	}
	return list, nil
}

func (d *modelDisk) revive(_ context.Context, name string, others []string) error {
	for _, n := range append([]string{name}, others...) {
		if b, ok := d.state[n]; !ok || b.Inconsistent {
			return fmt.Errorf("bitmap %s cannot be used", n)
		}
	}
	d.state[name].Recording = true
	for _, other := range others {
		for block := range d.marks[other] {
			d.marks[name][block] = true
		}
	}
	return nil
}

func (d *modelDisk) remove(_ context.Context, name string) error {
	if _, ok := d.state[name]; !ok {
		return fmt.Errorf("no bitmap %s", name)
	}
	delete(d.state, name)
	delete(d.marks, name)
	return nil
}

func (d *modelDisk) write(block int) {
	for name, b := range d.state {
		if b.Recording {
			d.marks[name][block] = true
		}
	}
}

// begin is the transaction of a freeze.
func (d *modelDisk) begin(drive, base string) string {
	d.made++
	name := newBitmapName(drive, time.Unix(int64(d.made), 0))
	d.state[name] = &bitmap{Name: name, Recording: true}
	d.marks[name] = map[int]bool{}
	if base != "" {
		d.state[base].Recording = false
	}
	return name
}

func (d *modelDisk) crash() {
	for _, b := range d.state {
		b.Recording, b.Inconsistent = false, true
	}
}

// TestAChangeListNeverMissesAWrite plays exports to several drives that end in
// every way, machines that crash, and guests that write, and looks at each
// change list that is believed.
func TestAChangeListNeverMissesAWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		disk := newModelDisk()
		drives := []string{"aaaa", "bbbb", "cccc"}
		token := map[string]string{}
		since := map[string]map[int]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"write", "write", "export", "export", "crash"}).Draw(t, "step") {
			case "write":
				block := rapid.IntRange(0, 9).Draw(t, "block")
				disk.write(block)
				for _, s := range since {
					s[block] = true
				}
			case "crash":
				disk.crash()
			case "export":
				drive := rapid.SampledFrom(drives).Draw(t, "drive")
				playExport(ctx, t, disk, drive, token, since)
			}
			checkBitmapCount(t, disk, drives)
		}
	})
}

func playExport(ctx context.Context, t *rapid.T, disk *modelDisk, drive string, token map[string]string, since map[string]map[int]bool) {
	base := token[drive]
	why, err := settleBase(ctx, disk, drive, base)
	if err != nil {
		t.Fatal(err)
	}
	if why != "" {
		base = ""
	}
	if base != "" {
		for block := range since[drive] {
			if !disk.marks[base][block] {
				t.Fatalf("drive %s: block %d was written since its point and is not in its list", drive, block)
			}
		}
	}
	fresh := disk.begin(drive, base)
	// While it is read the guest goes on writing.
	during := rapid.IntRange(0, 9).Draw(t, "during")
	disk.write(during)
	commit := func() {
		token[drive] = fresh
		since[drive] = map[int]bool{during: true}
	}
	for other, s := range since {
		if other != drive {
			s[during] = true
		}
	}
	keep := base
	switch rapid.SampledFrom([]string{"committed", "not committed", "killed", "killed after the commit"}).Draw(t, "end") {
	case "committed":
		commit()
		keep = fresh
	case "killed after the commit":
		commit()
		return
	case "killed":
		note(since, drive, during)
		return
	default:
		note(since, drive, during)
	}
	if _, err := settleBase(ctx, disk, drive, keep); err != nil {
		t.Fatal(err)
	}
}

func note(since map[string]map[int]bool, drive string, block int) {
	if s, ok := since[drive]; ok {
		s[block] = true
	}
}

func checkBitmapCount(t *rapid.T, disk *modelDisk, drives []string) {
	if most := 3 * len(drives); len(disk.state) > most {
		t.Fatalf("%d bitmaps have gathered", len(disk.state))
	}
}

func TestTheDriveThatWasLongestUnusedMakesRoom(t *testing.T) {
	var all []bitmap
	for i := range mostDrives {
		all = append(all, bitmap{Name: fmt.Sprintf("lb-%04d-%010x-00000000", i, 100+i)})
	}
	all = append(all, bitmap{Name: "somebody-elses"}, bitmap{Name: "lb-0000-0000000001-00000001"})
	if got := surplus(all, "0003"); got != nil {
		t.Errorf("a drive that is known makes %v go", got)
	}
	got := surplus(all, "9999")
	slices.Sort(got)
	want := []string{"lb-0000-0000000001-00000001", "lb-0000-0000000064-00000000"}
	if !slices.Equal(got, want) {
		t.Errorf("%v go, not %v", got, want)
	}
}

func FuzzToken(f *testing.F) {
	f.Add(token("lb-a-0000000000-00000000", 1<<40))
	f.Add("qemu1::-1")
	f.Fuzz(func(t *testing.T, s string) {
		name, size, ok := parseToken(s)
		if !ok || name == "" {
			return
		}
		if again, sizeAgain, _ := parseToken(token(name, size)); again != name || sizeAgain != size {
			t.Errorf("%q comes back as %q, %d", s, again, sizeAgain)
		}
	})
}
