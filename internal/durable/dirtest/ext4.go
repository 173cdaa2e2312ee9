package dirtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Ext4 is a real file system on a loop device.
type Ext4 struct {
	// Path is where it is mounted, Image the file behind the device.
	Path, Image string
}

// MountExt4 makes a file system of that size with the given folder's content
// (empty for none) and mounts it with the given options, such as "ro,noload",
// until the test ends. It skips the test where that cannot be done.
func MountExt4(t *testing.T, sizeBytes int64, content, options string) Ext4 {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system on a loop device: run the tests as root to enable it")
	}
	for _, program := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs the program %s: install the packages e2fsprogs and mount to enable it", program)
		}
	}
	folder := t.TempDir()
	fs := Ext4{Path: filepath.Join(folder, "mnt"), Image: filepath.Join(folder, "image")}
	f, err := os.Create(fs.Image)
	must(t, err)
	must(t, f.Truncate(sizeBytes))
	must(t, f.Close())
	must(t, os.Mkdir(fs.Path, 0o755))
	args := []string{"-q", "-F", "-m", "0"}
	if content != "" {
		args = append(args, "-d", content)
	}
	if out, err := exec.Command("mkfs.ext4", append(args, fs.Image)...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	if options != "" {
		options = "," + options
	}
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop"+options, fs.Image, fs.Path).CombinedOutput(); err != nil {
		t.Skipf("no loop device could be mounted (%v: %s): a machine or container with /dev/loop-control enables it", err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(fs.Path, 0); err != nil {
			t.Errorf("unmount: %v", err)
			unix.Unmount(fs.Path, unix.MNT_DETACH)
		}
	})
	return fs
}
