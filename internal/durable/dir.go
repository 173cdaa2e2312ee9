// Package durable is where bytes meet a medium: a folder that may be pulled out
// of the machine, small files that survive a power cut, and the lock that keeps
// two programs apart.
//
// Everything above it reads and writes a drive through [Dir] and nothing else,
// so that the drive can be replaced by one that lies. The operating system's
// implementation never follows a name out of its folder.
package durable

import (
	"io"
	"io/fs"
)

// Dir is a folder on a medium. Names are slash-separated, relative, and may not
// leave the folder. Its methods may be called from several goroutines.
//
// Nothing is on the medium before it was synced: a file's bytes by
// [WriteFile.Sync], its name by [Dir.SyncDir] of the folder that holds it. An
// error of either means that every byte since the last good one must be
// distrusted; it is never tried again.
type Dir interface {
	// Open opens a file for reading.
	Open(name string) (ReadFile, error)
	// Create makes a new file for writing; one that exists is an error.
	Create(name string) (WriteFile, error)
	// Mkdir makes one folder; one that exists is not an error.
	Mkdir(name string) error
	// Rename gives a file another name, replacing what had it.
	Rename(from, to string) error
	// Remove deletes a file or an empty folder.
	Remove(name string) error
	// List returns the entries of a folder, sorted by name; "." is the folder
	// itself.
	List(name string) ([]fs.DirEntry, error)
	// Stat looks at a file or folder.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a folder durable.
	SyncDir(name string) error
	// Space tells how many bytes can still be written, and how many there are
	// in all.
	Space() (free, total int64, err error)
	// Lock takes the lock that the named file stands for, shared or alone,
	// without waiting. It fails with an error that wraps [ErrLocked].
	Lock(name string, alone bool) (io.Closer, error)
	// ReadOnly says that nothing can be written here at all, locks included.
	ReadOnly() bool
	// Cached says why reads may be answered from a memory that
	// [ReadFile.DropCache] does not reach, or "" when they come from the medium.
	Cached() string
	// Sub returns a folder inside this one as a Dir of its own.
	Sub(name string) (Dir, error)
	// String says where the folder is, for messages.
	String() string
}

// ReadFile is a file open for reading.
type ReadFile interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
	// DropCache asks the system to forget what it keeps of this range, so that
	// the next read comes from the medium.
	DropCache(offset, length int64) error
}

// WriteFile is a file open for writing, from its start to its end.
type WriteFile interface {
	io.Writer
	io.Closer
	// Sync returns once every byte written so far is on the medium.
	Sync() error
}
