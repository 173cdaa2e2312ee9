package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A server of disks that cannot serve has to end, so that its guard starts
// another one: one that hung would be taken for alive.
func TestAServerOfDisksThatCannotListenEnds(t *testing.T) {
	a := newApp(bytes.NewReader(nil), os.Stdout, os.Stderr)
	a.stateDir = t.TempDir()
	b := &bootedRun{Run: newID()}
	dir := b.dir(a)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.Socket = filepath.Join(dir, "boot.json", "disks") // a file stands where its folder would be
	if err := b.save(dir); err != nil {
		t.Fatal(err)
	}
	self, err := thisProcess()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- (&diskServer{a: a, dir: dir, booted: b, log: a.openRunLog(dir)}).run(context.Background(), self)
	}()
	select {
	case err := <-ended:
		if err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("it hangs")
	}
}

// A host lets QEMU's user through the folder of a run's socket, so nothing else
// may be in it or around it that is not everybody's.
func TestTheFolderOfTheDisksStandsAlone(t *testing.T) {
	run := newID()
	dir, err := socketFolder(run)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("it is %v (%v)", info, err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root's disks are served to another user")
	}
	above, err := os.Stat(filepath.Dir(dir))
	if err != nil || above.Mode().Perm()&0o001 == 0 {
		t.Errorf("the folder above it is closed: a host would open it and nobody would close it again (%v)", err)
	}
}
