package durable_test

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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

// A pipe would hold up whoever opens it, and a lock writes its note into the
// file: on a drive with the node of a disk, that would be into that disk.
func TestAListingLooksAtFilesOnlyWhenItIsAsked(t *testing.T) {
	path := t.TempDir()
	d := openOS(t, path, false)
	for _, name := range []string{"packs", "packs/a", "packs/b"} {
		if err := os.MkdirAll(filepath.Join(path, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(path, "packs", "c")); err != nil {
		t.Fatal(err)
	}
	entries, err := d.List("packs")
	if err != nil || len(entries) != 3 {
		t.Fatal(entries, err)
	}
	os.Remove(filepath.Join(path, "packs", "a"))
	if _, err := entries[0].Info(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an entry whose file went away after the listing: %v", err)
	}
	if info, err := entries[1].Info(); err != nil || !info.IsDir() || !entries[1].IsDir() {
		t.Errorf("a folder: %v, %v", info, err)
	}
	if info, err := entries[2].Info(); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("a link was followed: %v, %v", info, err)
	}
}

func TestNothingButFilesIsOpenedAsAFile(t *testing.T) {
	path := t.TempDir()
	mkfifo(t, filepath.Join(path, "pipe"))
	names := []string{"pipe"}
	disk := filepath.Join(path, "disk")
	if err := unix.Mknod(disk, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err == nil { // the null device
		names = append(names, "disk")
	}
	socket, err := net.Listen("unix", filepath.Join(path, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	d := openOS(t, path, false)
	for _, name := range append(names, "socket") {
		_, openErr := d.Open(name)
		_, createErr := d.Create(name)
		_, lockErr := d.Lock(name, true)
		_, sharedErr := d.Lock(name, false)
		_, listErr := d.List(name)
		_, subErr := d.Sub(name)
		for i, err := range []error{openErr, createErr, lockErr, sharedErr, listErr, subErr, d.SyncDir(name), d.Mkdir(name)} {
			if err == nil {
				t.Errorf("%s, call %d: it passed for a file or a folder", name, i)
			}
		}
		if err := d.Remove(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
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

func TestWhoMayOnlyReadSharesTheLockThatIsThere(t *testing.T) {
	path := t.TempDir()
	d, reader := openOS(t, path, false), openOS(t, path, true)
	alone, err := d.Lock("lock", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Lock("lock", false); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("beside one alone: %v", err)
	}
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}
	shared, err := reader.Lock("lock", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Lock("lock", true); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("alone beside a reader: %v", err)
	}
	if err := shared.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhoHasNoRightToWriteSharesTheLock(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	d := openOS(t, t.TempDir(), false)
	alone, err := d.Lock("lock", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}
	var shared io.Closer
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with this function
		unix.SetfsuidRetUid(65534)
		var err error
		shared, err = d.Lock("lock", false)
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	if _, err := d.Lock("lock", true); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("alone beside a reader: %v", err)
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
