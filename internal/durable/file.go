package durable

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

type readFile struct {
	dir  *OSDir
	file *os.File
}

func (f *readFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.file.ReadAt(p, off)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, f.dir.explainRead(err)
}

func (f *readFile) Size() (int64, error) {
	info, err := f.file.Stat()
	if err != nil {
		return 0, explain(err)
	}
	return info.Size(), nil
}

// DropCache widens the range to whole pages, because the kernel keeps a page
// that is only partly inside it. Pages not yet written stay: sync first. Below a
// file system in user space the memory of the device is emptied too. What is
// out of reach, [Dir.Cached] tells.
func (f *readFile) DropCache(offset, length int64) error {
	page := int64(os.Getpagesize())
	start := offset / page * page
	end := (offset + length + page - 1) / page * page
	if err := unix.Fadvise(int(f.file.Fd()), start, end-start, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("drop %s from the cache: %w", f.file.Name(), explain(err))
	}
	if err := f.dir.dropDevice(); err != nil {
		return fmt.Errorf("drop the device below %s from the cache: %w", f.file.Name(), err)
	}
	return nil
}

func (f *readFile) Close() error { return explain(f.file.Close()) }

// writeFile remembers its first failure: after it nothing that was written can
// be trusted, and a second sync would report success for bytes that are gone.
type writeFile struct {
	file   *os.File
	failed error
}

func (f *writeFile) Write(p []byte) (int, error) {
	if f.failed != nil {
		return 0, f.failed
	}
	n, err := f.file.Write(p)
	f.failed = explain(err)
	return n, f.failed
}

func (f *writeFile) Sync() error {
	if f.failed == nil {
		f.failed = explain(f.file.Sync())
	}
	return f.failed
}

func (f *writeFile) Close() error { return explain(f.file.Close()) }
