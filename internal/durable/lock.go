package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked: another process, or another part of this one, holds the lock.
var ErrLocked = errors.New("locked by another run")

// Lock takes the lock that the named file stands for, shared or alone, without
// waiting. The kernel drops it when the process ends, however it ends. Who
// holds it alone writes who it is into the file, for the error of the next one.
//
// Where nothing can be written a shared lock is taken on the file that is there,
// and granted where there is none; one alone is refused with [ErrReadOnly].
func (d *OSDir) Lock(name string, alone bool) (io.Closer, error) {
	if err := CheckName("lock", name); err != nil {
		return nil, err
	}
	f, err := d.lockFile(name, alone)
	if err != nil && d.readOnly && !alone {
		return noLock{}, nil // nobody could hold it
	}
	if err != nil {
		return nil, explain(err)
	}
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s/%s: %w%s", d.path, name, ErrLocked, holder(f))
		}
		return nil, fmt.Errorf("lock %s/%s: %w", d.path, name, explain(err))
	}
	if alone {
		// Only a note for people: a lock without it is a lock all the same.
		f.Truncate(0)
		f.WriteAt([]byte(whoAmI()), 0)
	}
	return &fileLock{file: f, alone: alone}, nil
}

// lockFile opens the file of a lock, and makes it where there is none. For a
// shared lock it need not be writable.
func (d *OSDir) lockFile(name string, alone bool) (*os.File, error) {
	if err := d.checkFile("lock", name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	err := d.checkWrite("lock", name)
	var f *os.File
	if err == nil {
		f, err = d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, d.fileMode())
	}
	if err == nil || alone || !d.readOnly && !errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	if f, readErr := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0); readErr == nil {
		return f, nil
	}
	return nil, err
}

type fileLock struct {
	file  *os.File
	alone bool
}

// Close gives the lock back. The file stays: removing it would let two
// processes hold locks on two files of one name.
func (l *fileLock) Close() error {
	if l.alone {
		l.file.Truncate(0)
	}
	return l.file.Close()
}

type noLock struct{}

func (noLock) Close() error { return nil }

// holder reads the note of whoever holds the lock alone; a lock that readers
// share has none.
func holder(f *os.File) string {
	note := make([]byte, 200)
	n, _ := f.ReadAt(note, 0)
	who := strings.TrimSpace(strings.ToValidUTF8(string(note[:n]), "?"))
	if who == "" {
		return ""
	}
	return " (" + who + ")"
}

func whoAmI() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s, process %d on %s, since %s\n", filepath.Base(os.Args[0]), os.Getpid(), host,
		time.Now().UTC().Format(time.RFC3339))
}
