package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/fixtures/dirsuite"
	"lifeboat/internal/durable"
)

func TestOSDirKeepsTheContractOfDir(t *testing.T) {
	dirsuite.Run(t, func(t *testing.T, readOnly bool) durable.Dir {
		return openOS(t, folderWithHere(t, readOnly), readOnly)
	})
}

func TestNoSymbolicLinkLeadsOutOfTheFolder(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), "x")
	path := t.TempDir()
	for name, target := range map[string]string{"file": filepath.Join(outside, "secret"), "folder": outside,
		"up": "../" + filepath.Base(outside)} {
		if err := os.Symlink(target, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	d := openOS(t, path, false)
	_, openErr := d.Open("file")
	_, throughErr := d.Open("folder/secret")
	_, createErr := d.Create("folder/new")
	_, createLinkErr := d.Create("file")
	_, listErr := d.List("folder")
	_, subErr := d.Sub("up")
	_, lockErr := d.Lock("file", true)
	_, statErr := d.Stat("up/secret")
	for i, err := range []error{openErr, throughErr, createErr, createLinkErr, listErr, subErr, lockErr, statErr,
		d.Mkdir("folder/new"), d.Remove("folder/secret"), d.Rename("folder/secret", "x"), d.SyncDir("up")} {
		if err == nil {
			t.Errorf("call %d went through a link", i)
		}
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside there are %v, %v", entries, err)
	}
}

func TestAPipeOnTheDriveDoesNotHoldUpAReader(t *testing.T) {
	path := t.TempDir()
	mkfifo(t, filepath.Join(path, "pipe"))
	if _, err := openOS(t, path, false).Open("pipe"); err == nil {
		t.Error("a pipe was opened as a file")
	}
}

func TestPrivateFilesAreReadByTheirOwnerOnly(t *testing.T) {
	path := t.TempDir()
	d, err := durable.OpenPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Mkdir("a"), durable.WriteFileAtomic(d, "a/b", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"a": 0o700, "a/b": 0o600} {
		info, err := os.Stat(filepath.Join(path, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestAHeldLockNamesItsHolder(t *testing.T) {
	d := openOS(t, t.TempDir(), false)
	l, err := d.Lock("lock", true)
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	_, err = d.Lock("lock", true)
	if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), "on "+host) {
		t.Errorf("got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	shared, err := d.Lock("lock", false)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	if _, err = d.Lock("lock", true); strings.Contains(err.Error(), host) {
		t.Errorf("readers are blamed on a writer that has finished: %v", err)
	}
}

func TestWhatIsNoFolderIsNotOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if _, err := durable.OpenOS(path, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	write(t, path, "")
	if _, err := durable.OpenOS(path, false); err == nil {
		t.Error("a file was opened as a folder")
	}
}

func openOS(t *testing.T, path string, readOnly bool) durable.Dir {
	t.Helper()
	d, err := durable.OpenOS(path, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.(*durable.OSDir).Close() })
	return d
}

func folderWithHere(t *testing.T, here bool) string {
	path := t.TempDir()
	if here {
		write(t, filepath.Join(path, "here"), "there")
	}
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
