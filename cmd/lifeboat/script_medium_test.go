package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rogpeppe/go-internal/testscript"
)

// Media of scripts that begin with: [!mount] skip. Each is taken away when the
// script ends.

// tmpfs FOLDER SIZE: a file system in memory of that size.
func scriptTmpfs(ts *testscript.TestScript, _ bool, args []string) {
	at := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(at, 0o755))
	ts.Check(unix.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("size=%d", scriptSize(ts, args[1]))))
	ts.Defer(func() { unix.Unmount(at, unix.MNT_DETACH) })
}

// ext4 FOLDER IMAGE [SIZE|OPTIONS]: mounts an image; with a size it makes it.
func scriptExt4(ts *testscript.TestScript, _ bool, args []string) {
	at, image, options := ts.MkAbs(args[0]), ts.MkAbs(args[1]), "loop"
	ts.Check(os.MkdirAll(at, 0o755))
	if _, err := os.Stat(image); err != nil {
		ts.Check(makeExt4(image, scriptSize(ts, args[2])))
	} else if len(args) > 2 {
		options += "," + args[2]
	}
	if err := mountExt4(image, at, options); err != nil {
		ts.Fatalf("%v", err)
	}
	ts.Defer(func() { unix.Unmount(at, unix.MNT_DETACH) })
}

func makeExt4(image string, size int64) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return runTool("mkfs.ext4", "-q", "-F", "-m", "0", image)
}

func mountExt4(image, at, options string) error {
	return runTool("mount", "-t", "ext4", "-o", options, image, at)
}

func runTool(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// canMount says why no file system can be mounted here, or "".
func canMount() string {
	if os.Geteuid() != 0 {
		return "mounts a file system on a loop device: run the tests as root to enable it"
	}
	for _, program := range []string{"mkfs.ext4", "mount", "losetup"} {
		if _, err := exec.LookPath(program); err != nil {
			return "needs " + program + ": install the packages e2fsprogs and mount to enable it"
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return "needs loop devices: a machine or container with /dev/loop-control enables it"
	}
	return ""
}

func scriptUnmount(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(unix.Unmount(ts.MkAbs(args[0]), 0))
}

// loop NAME FILE: a block device over a file; its path goes into a variable.
func scriptLoop(ts *testscript.TestScript, _ bool, args []string) {
	out, err := exec.Command("losetup", "--find", "--show", ts.MkAbs(args[1])).Output()
	ts.Check(err)
	device := strings.TrimSpace(string(out))
	ts.Defer(func() { exec.Command("losetup", "--detach", device).Run() })
	ts.Setenv(args[0], filepath.Clean(device))
}
