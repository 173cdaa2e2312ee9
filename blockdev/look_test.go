package blockdev_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

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

// The mark and the table are left over, and somebody has made a file system of
// their own in our second part since.
func TestAFileSystemMadeInALeftLayoutIsSomething(t *testing.T) {
	path, _ := disk(t, 200<<20)
	d := layOut(t, path)
	output(t, "mkfs.ext4", "-q", "-F", "-L", "photos", d.Partitions[1].Path)
	c, err := blockdev.Look(context.Background(), of(t, path))
	if err != nil || c.Unfinished || c.Empty() {
		t.Errorf("%+v, %v", c, err)
	}
}

// A finished disk stays ours when its larger part cannot be read, and when its
// table is gone.
func TestADamagedDriveIsKnownAsOurs(t *testing.T) {
	path, _ := disk(t, 200<<20)
	d := layOut(t, path)
	if ours, err := blockdev.Ours(d); err != nil || ours {
		t.Errorf("unfinished: %v, %v", ours, err)
	}
	if err := blockdev.WriteStartHere(d, []byte("read this")); err != nil {
		t.Fatal(err)
	}
	if err := blockdev.Finish(d); err != nil {
		t.Fatal(err)
	}
	wipe := func(at string, from, length int64) {
		f, err := os.OpenFile(at, os.O_RDWR|os.O_SYNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, length), from); err != nil {
			t.Fatal(err)
		}
	}
	wipe(d.Partitions[1].Path, 0, 4096)
	if ours, err := blockdev.Ours(d); err != nil || !ours {
		t.Errorf("without its ext4: %v, %v", ours, err)
	}
	if err := blockdev.Peek(context.Background(), d.Partitions[1].Path, func(string) error { return nil }); !errors.Is(err, blockdev.ErrNoFilesystem) {
		t.Errorf("peek: %v", err)
	}
	wipe(path, 0, 1<<20)
	wipe(path, 199<<20, 1<<20)
	if ours, err := blockdev.Ours(d); err != nil || !ours {
		t.Errorf("without its table: %v, %v", ours, err)
	}
	output(t, "wipefs", "--all", "--force", d.Partitions[0].Path, path)
	if ours, err := blockdev.Ours(d); err != nil || ours {
		t.Errorf("emptied by hand: %v, %v", ours, err)
	}
}

// A stranger's stick does not choose which of the kernel's file systems reads it.
func TestOnlyFileSystemsOfDrivesAreMounted(t *testing.T) {
	path, _ := disk(t, 200<<20)
	output(t, "mkfs.minix", path)
	err := blockdev.Peek(context.Background(), path, func(string) error {
		t.Error("it was mounted")
		return nil
	})
	if !errors.Is(err, blockdev.ErrNoFilesystem) {
		t.Errorf("%v", err)
	}
}

// Whoever lists drives looks into a file system for a moment.
func TestAnUnmountWaitsForWhoeverOnlyLooks(t *testing.T) {
	path, _ := disk(t, 200<<20)
	d := layOut(t, path)
	at, err := blockdev.MountPartition(context.Background(), d.Partitions[1].Path, "test-look-"+d.Name, false)
	if err != nil {
		t.Fatal(err)
	}
	looking, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(500*time.Millisecond, func() { looking.Close() })
	if err := blockdev.Unmount(at); err != nil {
		t.Error(err)
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
	done, err := blockdev.Eject(of(t, path), d.Partitions[1].Path)
	if err != nil || len(done.Unmounted) != 1 || done.Unmounted[0] != at || len(done.Others) != 0 || done.PoweredDown {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := os.Stat(at); err == nil {
		t.Errorf("%s is left behind", at)
	}
}

// Another part of the same disk belongs to somebody else: it stays mounted, and the
// disk is not powered down under it.
func TestEjectLeavesWhatIsNotTheDrives(t *testing.T) {
	path, _ := disk(t, 200<<20)
	d := layOut(t, path)
	output(t, "mkfs.ext4", "-q", "-F", "-L", "data", d.Partitions[0].Path)
	data := t.TempDir()
	output(t, "mount", d.Partitions[0].Path, data)
	t.Cleanup(func() { exec.Command("umount", data).Run() })
	if err := blockdev.Finish(d); err != nil {
		t.Fatal(err)
	}
	output(t, "sfdisk", "--force", "--part-label", path, "1", "data")
	at, err := blockdev.MountPartition(context.Background(), d.Partitions[1].Path, "test-"+d.Name, false)
	if err != nil {
		t.Fatal(err)
	}
	done, err := blockdev.Eject(of(t, path), d.Partitions[1].Path)
	if err != nil || !slices.Equal(done.Unmounted, []string{at}) || done.PoweredDown || len(done.StillUsed) != 1 || !strings.HasSuffix(done.StillUsed[0], "is mounted at "+data) {
		t.Errorf("%+v, %v", done, err)
	}
	if now, mounted := blockdev.MountedAt(d.Partitions[0].Path); !mounted || now != data {
		t.Error("the other part was unmounted")
	}
	output(t, "umount", data)
}

func TestWhatTheSystemServesIsNoDrive(t *testing.T) {
	for at, system := range map[string]bool{"/": true, "/srv/data": true, "/var/lib/libvirt/images": true, "/opt": true, "/home": true, "/home/anna": true,
		"/boot/efi": true, "/mnt": false, "/mnt/usb": false, "/media/anna/A": false, "/run/media/anna/A": false, "/home/anna/usb": false,
		"/var/tmp/x": false, blockdev.MountFolder + "/A-1": false, "/backup/A": false} {
		d := blockdev.Device{Uses: []blockdev.Use{{Part: "/dev/sdx1", Kind: blockdev.UsedMounted, By: at}}}
		if d.System() != system {
			t.Errorf("%s: %v", at, d.System())
		}
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
			if _, err := blockdev.Eject(d, d.Path); err == nil {
				t.Errorf("%s was ejected", d.Path)
			}
		}
	}
}
