package blockdev_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/blockdev"
	"lifeboat/fixtures/medium"
)

// disk is a loop device over a file that is as large as a disk and takes no room.
func disk(t *testing.T, sizeBytes int64, options ...string) (device, image string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a loop device needs root: run the tests as root")
	}
	image = filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(sizeBytes); err != nil {
		t.Fatal(err)
	}
	return attach(t, image, options...), image
}

func attach(t *testing.T, image string, options ...string) string {
	t.Helper()
	device, err := medium.Loop(image, options...)
	if err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	t.Cleanup(func() { detach(t, device, image) })
	return device
}

func detach(t *testing.T, device, image string) {
	t.Helper()
	if d, err := blockdev.Of(device); err == nil && medium.StandsFor(device, image) {
		for _, at := range d.Mounted() {
			t.Errorf("%s is still mounted at %s", device, at)
			exec.Command("umount", at).Run()
		}
	}
	if err := medium.DropLoop(device, image); err != nil {
		t.Error(err)
	}
}

func of(t *testing.T, path string) blockdev.Device {
	t.Helper()
	d, err := blockdev.Of(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func layOut(t *testing.T, path string) blockdev.Device {
	t.Helper()
	d, err := blockdev.LayOut(context.Background(), of(t, path), "A")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// What was planned for one disk is not done to another that took its name.
func TestADiskThatWasSwappedIsNotLaidOut(t *testing.T) {
	path, _ := disk(t, 200<<20)
	planned := of(t, path)
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(other, 200<<20); err != nil {
		t.Fatal(err)
	}
	output(t, "mkfs.ext4", "-q", "-F", "-L", "precious", other)
	output(t, "losetup", "--detach", path)
	output(t, "losetup", path, other)
	t.Cleanup(func() { exec.Command("losetup", "--detach", path).Run() })
	planned.Model = of(t, path).Model // which a disk of the same kind has
	if of(t, path).Sequence == "" {
		t.Skip("this kernel does not count media (diskseq, Linux 5.15)")
	}
	_, err := blockdev.LayOut(context.Background(), planned, "A")
	if err == nil || !strings.Contains(err.Error(), "not the disk any more") {
		t.Errorf("%v", err)
	}
	output(t, "e2fsck", "-fn", path)
}

func TestALaidOutDiskIsReadByOtherPrograms(t *testing.T) {
	for _, options := range [][]string{nil, {"--sector-size", "4096"}} {
		path, _ := disk(t, 512<<20, options...)
		d := layOut(t, path)
		text := strings.Repeat("read this\r\n", 1000)
		if err := blockdev.WriteStartHere(d, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := blockdev.Finish(d); err != nil {
			t.Fatal(err)
		}
		if out := output(t, "sfdisk", "--verify", path); !strings.Contains(out, "No errors detected") {
			t.Errorf("sfdisk: %s", out)
		}
		if out := output(t, "blkid", "-p", "-o", "export", d.Partitions[0].Path); !strings.Contains(out, "LABEL=LIFEBOAT\n") || !strings.Contains(out, "VERSION=FAT32") {
			t.Errorf("the first partition: %s", out)
		}
		if out := output(t, "blkid", "-p", "-o", "export", d.Partitions[1].Path); !strings.Contains(out, "LABEL=A\n") || !strings.Contains(out, "TYPE=ext4") {
			t.Errorf("the second partition: %s", out)
		}
		output(t, "fsck.fat", "-n", d.Partitions[0].Path)
		output(t, "e2fsck", "-fn", d.Partitions[1].Path)
		if _, err := exec.LookPath("mtype"); err == nil {
			if got := output(t, "mtype", "-i", d.Partitions[0].Path, "::START-HERE.TXT"); got != text {
				t.Errorf("mtype reads %d bytes of %d", len(got), len(text))
			}
		}
		got, err := blockdev.ReadStartHere(d)
		if err != nil || string(got) != text {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		c, err := blockdev.Look(context.Background(), d)
		if err != nil || c.Empty() {
			t.Errorf("a finished disk looks empty: %+v, %v", c, err)
		}
	}
}
