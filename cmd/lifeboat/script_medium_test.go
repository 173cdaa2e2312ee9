package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rogpeppe/go-internal/testscript"

	"lifeboat/blockdev"
	"lifeboat/fixtures/medium"
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

// medium KIND FOLDER IMAGE [SIZE|OPTIONS]: mounts an image with one of
// [medium.Kinds]; with a size it makes it.
func scriptMedium(ts *testscript.TestScript, _ bool, args []string) {
	kind, at, image, last := medium.Kind(args[0]), ts.MkAbs(args[1]), ts.MkAbs(args[2]), ""
	if len(args) > 3 {
		last = args[3]
	}
	ts.Check(os.MkdirAll(at, 0o755))
	if _, err := os.Stat(image); err != nil {
		ts.Check(medium.Make(kind, image, scriptSize(ts, last)))
		last = ""
	}
	m, err := medium.Attach(kind, image, at, last)
	ts.Check(err)
	media.Store(at, m)
	ts.Defer(m.Drop)
}

// media are the mounted ones, by their folders.
var media sync.Map

// ext4 FOLDER IMAGE [SIZE|OPTIONS] is medium with that kind.
func scriptExt4(ts *testscript.TestScript, neg bool, args []string) {
	scriptMedium(ts, neg, append([]string{string(medium.Ext4)}, args...))
}

// unmount FOLDER
func scriptUnmount(ts *testscript.TestScript, _ bool, args []string) {
	at := ts.MkAbs(args[0])
	if m, ok := media.LoadAndDelete(at); ok {
		ts.Check(m.(*medium.Medium).Detach())
		return
	}
	ts.Check(unix.Unmount(at, 0))
}

// loop NAME FILE: a block device over a file; its path goes into a variable.
func scriptLoop(ts *testscript.TestScript, _ bool, args []string) {
	image := ts.MkAbs(args[1])
	device, err := medium.Loop(image)
	ts.Check(err)
	ts.Defer(func() { dropLoop(device, image) })
	ts.Setenv(args[0], filepath.Clean(device))
}

// dropLoop takes a block device away, with what a script left mounted of it.
func dropLoop(device, image string) {
	if d, err := blockdev.Of(device); err == nil && medium.StandsFor(device, image) {
		for _, at := range d.Mounted() {
			unix.Unmount(at, unix.MNT_DETACH)
			os.Remove(at)
		}
	}
	medium.DropLoop(device, image)
}

// unmountdisk DEVICE: unmounts all parts of it.
func scriptUnmountDisk(ts *testscript.TestScript, _ bool, args []string) {
	d, err := blockdev.Of(args[0])
	ts.Check(err)
	for _, at := range d.Mounted() {
		ts.Check(blockdev.Unmount(at))
	}
}
