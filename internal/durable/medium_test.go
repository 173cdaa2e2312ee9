package durable_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/fixtures/dirsuite"
	"lifeboat/fixtures/medium"
	"lifeboat/internal/durable"
)

const mib = 1 << 20

func TestOnRealFileSystemsDirKeepsItsContract(t *testing.T) {
	for _, kind := range medium.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			fs := medium.New(t, kind, 32*mib)
			dirsuite.Run(t, func(t *testing.T, readOnly bool) durable.Dir {
				path, err := os.MkdirTemp(fs.Path, "")
				if err != nil {
					t.Fatal(err)
				}
				if readOnly {
					write(t, filepath.Join(path, "here"), "there")
				}
				return openOS(t, path, readOnly)
			})
		})
	}
}

func TestAReadOnlyMountIsNoticed(t *testing.T) {
	fs := medium.New(t, medium.Ext4, 32*mib)
	fs.Write(t, "here", "there")
	fs.Again(t, "ro,noload")
	d := openOS(t, fs.Path, false)
	if !d.ReadOnly() {
		t.Fatal("it was opened for writing")
	}
	if _, err := d.Create("a"); !errors.Is(err, durable.ErrReadOnly) {
		t.Errorf("got %v", err)
	}
}

func TestReadingADriveThatIsMountedForWritingLeavesNoTraceOnIt(t *testing.T) {
	fs := medium.New(t, medium.Ext4, 32*mib)
	fs.Write(t, "here", "there")
	fs.Again(t, "strictatime")
	d := openOS(t, fs.Path, true)
	accessed := func(name string) unix.Timespec {
		var stat unix.Stat_t
		if err := unix.Stat(filepath.Join(fs.Path, name), &stat); err != nil {
			t.Fatal(err)
		}
		return stat.Atim
	}
	file, folder := accessed("here"), accessed(".")
	if _, err := durable.ReadWhole(d, "here", 100); err != nil {
		t.Fatal(err)
	}
	if _, err := d.List("."); err != nil {
		t.Fatal(err)
	}
	if accessed("here") != file || accessed(".") != folder {
		t.Error("the time of the last access was written")
	}
}

func TestAFullDriveIsSaidToBeFull(t *testing.T) {
	fs := medium.New(t, medium.Ext4, 8*mib)
	d := openOS(t, fs.Path, false)
	before, _, err := d.Space()
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFileAtomic(d, "a", make([]byte, 16*mib)); !errors.Is(err, lifeboat.ErrDriveFull) {
		t.Fatalf("got %v", err)
	}
	if after, _, err := d.Space(); err != nil || after < before*9/10 {
		t.Errorf("the failed write keeps its space: %d of %d left, %v", after, before, err)
	}
}

func TestADriveThatStopsIsGoneAndNothingIsTriedAgain(t *testing.T) {
	fs := medium.New(t, medium.Ext4, 32*mib)
	fs.Write(t, "here", "there")
	d := openOS(t, fs.Path, false)
	f, err := d.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	here, err := d.Open("here")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	fs.Pull(t)
	first := f.Sync()
	if !errors.Is(first, lifeboat.ErrDriveGone) || f.Sync() != first {
		t.Errorf("sync: %v, then %v", first, f.Sync())
	}
	_, readErr := here.ReadAt(make([]byte, 1), 0)
	_, createErr := d.Create("b")
	for i, err := range []error{readErr, createErr, d.Mkdir("c"), d.SyncDir(".")} {
		if !errors.Is(err, lifeboat.ErrDriveGone) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func TestOnExt4WhatWasAcknowledgedSurvivesAShutdownMidway(t *testing.T) {
	for round := range 5 {
		fs := medium.New(t, medium.Ext4, 32*mib)
		d := openOS(t, fs.Path, false)
		journal, _, err := durable.OpenJournal(d, "j")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 + round {
			if err := errors.Join(journal.Append(i), durable.WriteFileAtomic(d, "a", bytes.Repeat([]byte{byte(i)}, 10_000*(i+1)))); err != nil {
				t.Fatal(err)
			}
		}
		if f, err := d.Create("never synced"); err == nil {
			f.Write(make([]byte, mib))
			f.Close()
		}
		fs.Pull(t)
		journal.Close()
		d.(*durable.OSDir).Close()
		fs.Again(t, "")
		again := openOS(t, fs.Path, false)
		last := 3 + round - 1
		records, err := durable.ReadJournal(again, "j")
		if err != nil || len(records) != last+1 {
			t.Errorf("round %d: %d records, %v", round, len(records), err)
		}
		if got, err := durable.ReadWhole(again, "a", mib); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(last)}, 10_000*(last+1))) {
			t.Errorf("round %d: %d bytes, %v", round, len(got), err)
		}
		again.(*durable.OSDir).Close()
	}
}

func TestABadSectorIsDamageAndNotADriveThatIsGone(t *testing.T) {
	fs := medium.New(t, medium.Ext4, 32*mib)
	d := openOS(t, fs.Path, false)
	bad := durable.ExplainRead(d, unix.EIO)
	if !errors.Is(bad, lifeboat.ErrDamaged) || errors.Is(bad, lifeboat.ErrDriveGone) {
		t.Errorf("got %v", bad)
	}
	fs.Pull(t)
	gone := durable.ExplainRead(d, unix.EIO)
	if !errors.Is(gone, lifeboat.ErrDriveGone) || errors.Is(gone, lifeboat.ErrDamaged) {
		t.Errorf("got %v", gone)
	}
}

func TestDropCacheMakesTheNextReadComeFromTheMedium(t *testing.T) {
	fs := medium.New(t, medium.Ext4, 32*mib)
	d := openOS(t, fs.Path, false)
	if err := durable.WriteFileAtomic(d, "a", make([]byte, 8*mib)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(fs.Path, "a")
	if cached(t, path) == 0 {
		t.Skip("this kernel keeps nothing of a file just written")
	}
	f, err := d.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.DropCache(100, 8*mib-200); err != nil {
		t.Fatal(err)
	}
	if n := cached(t, path); n != 0 {
		t.Errorf("%d pages are still in memory", n)
	}
}

// The file and the device below it are in memory when the medium rots. In user
// space the second of them hides it from whoever empties the first alone.
func TestWhatRottedAfterItWasWrittenIsSeenOnceTheCacheIsDropped(t *testing.T) {
	for _, kind := range medium.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			m := medium.New(t, kind, 32*mib)
			d := openOS(t, m.Path, false)
			data := make([]byte, 4*mib)
			rand.NewChaCha8([32]byte{1}).Read(data)
			if err := durable.WriteFileAtomic(d, "a", data); err != nil {
				t.Fatal(err)
			}
			if why := d.Cached(); why != "" {
				t.Fatalf("as root it does not reach the medium: %s", why)
			}
			f, err := d.Open("a")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			read := func() []byte {
				got := make([]byte, len(data))
				if n, err := f.ReadAt(got, 0); n != len(got) {
					t.Fatal(err)
				}
				return got
			}
			if !bytes.Equal(read(), data) {
				t.Fatal("it is not what was written")
			}
			m.Rot(t, data[mib:mib+64])
			if err := f.DropCache(0, int64(len(data))); err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(read(), data) {
				t.Error("the read came from memory")
			}
		})
	}
}

// cached counts the pages of a file that are in memory.
func cached(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	pages := make([]byte, (len(data)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)),
		uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	n := 0
	for _, p := range pages {
		n += int(p & 1)
	}
	return n
}

func mkfifo(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}
