package blockdev_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"lifeboat/blockdev"
	"lifeboat/fixtures/medium"
)

// Whatever a power cut leaves of a layout is known as ours and unfinished, and
// laid out again; what somebody else wrote since is not.
func TestALayoutThatWasCutOffIsKnownAndMadeAgain(t *testing.T) {
	const size, mib = 200 << 20, 1 << 20
	for name, cut := range map[string]func(f *os.File){
		"after the last step": func(*os.File) {},
		"before the primary header": func(f *os.File) {
			f.WriteAt(make([]byte, 512), 512)
		},
		"in the primary table": func(f *os.File) {
			f.WriteAt(make([]byte, mib-512), 512)
		},
		"before any table": func(f *os.File) {
			f.WriteAt(make([]byte, mib-446), 446)
			f.WriteAt(make([]byte, mib), size-mib)
		},
		"before the file system": func(f *os.File) {
			f.WriteAt(make([]byte, mib-446), 446)
			f.WriteAt(make([]byte, size-mib), mib)
		},
	} {
		path, image := disk(t, size)
		layOut(t, path)
		if err := medium.DropLoop(path, image); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(image, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		cut(f)
		f.Close()
		path = attach(t, image)
		c, err := blockdev.Look(context.Background(), of(t, path))
		if err != nil || !c.Unfinished || !c.Empty() {
			t.Errorf("%s: %+v, %v", name, c, err)
			continue
		}
		d := layOut(t, path)
		if err := blockdev.Finish(d); err != nil {
			t.Fatal(err)
		}
		if c, err := blockdev.Look(context.Background(), of(t, path)); err != nil || c.Empty() {
			t.Errorf("%s: finished, it looks empty: %+v, %v", name, c, err)
		}
	}
}

func TestATableOfSomebodyElseIsNotALayoutThatWasCutOff(t *testing.T) {
	path, image := disk(t, 200<<20)
	layOut(t, path)
	exec.Command("partx", "-d", path).Run()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt(make([]byte, 1<<20-446), 446) // the mark stays, as with other programs
	f.WriteAt([]byte("EFI PART of another"), 512)
	f.WriteAt(make([]byte, 1<<20), 199<<20) // and its second copy
	f.Close()
	if c, err := blockdev.Look(context.Background(), of(t, path)); err != nil || c.Empty() {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAMountedDiskIsNotLaidOut(t *testing.T) {
	path, _ := disk(t, 200<<20)
	d := layOut(t, path)
	at, err := blockdev.MountPartition(context.Background(), d.Partitions[1].Path, "test-"+d.Name, false)
	if err != nil {
		t.Fatal(err)
	}
	d = of(t, path)
	if err := blockdev.CheckWritable(d); err == nil {
		t.Error("it may be written to")
	}
	if _, err := blockdev.LayOut(context.Background(), d, "B"); err == nil {
		t.Error("it was laid out")
	}
	// The kernel's word counts though our own look was before the mount.
	d.Uses = nil
	if err := blockdev.CheckWritable(d); err == nil {
		t.Error("a look of before the mount was believed")
	}
	done, err := blockdev.Eject(of(t, path))
	if err != nil || len(done.Unmounted) != 1 || done.Unmounted[0] != at || len(done.Others) != 0 || done.PoweredDown {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := os.Stat(at); err == nil {
		t.Errorf("%s is left behind", at)
	}
}

func TestTheDiskOfTheSystemIsRefused(t *testing.T) {
	all, err := blockdev.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.System() {
			if err := blockdev.CheckWritable(d); err == nil {
				t.Errorf("%s may be written to", d.Path)
			}
			if _, err := blockdev.Eject(d); err == nil {
				t.Errorf("%s was ejected", d.Path)
			}
		}
	}
}
