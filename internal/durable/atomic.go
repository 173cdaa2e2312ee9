package durable

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strings"
)

const tempSuffix = ".tmp"

// WriteFileAtomic stores data under name so that, once it returns nil, the whole
// file is still there after a power cut. On error, name holds the old file or
// the new one, never a mixture.
func WriteFileAtomic(dir Dir, name string, data []byte) error {
	_, err := WriteFrom(dir, name, bytes.NewReader(data))
	return err
}

// WriteFrom is [WriteFileAtomic] for what does not fit in memory. It returns
// how many bytes the file has.
func WriteFrom(dir Dir, name string, r io.Reader) (int64, error) {
	temp := tempName(name)
	n, err := writeSynced(dir, temp, r)
	if err == nil {
		err = dir.Rename(temp, name)
	}
	if err != nil {
		// The medium may be gone; what is left is found by [IsTemp].
		dir.Remove(temp)
		return n, fmt.Errorf("write %s: %w", name, err)
	}
	if err := dir.SyncDir(path.Dir(name)); err != nil {
		return n, fmt.Errorf("write %s: sync its folder: %w", name, err)
	}
	return n, nil
}

// writeSynced makes a new file whose bytes are on the medium; its name is not.
func writeSynced(dir Dir, name string, r io.Reader) (int64, error) {
	f, err := dir.Create(name)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, r)
	if err == nil {
		// Sync before rename: otherwise the name can outlive the bytes.
		err = f.Sync()
	}
	return n, errors.Join(err, f.Close())
}

// CopyFile copies a file from one folder to another as [WriteFileAtomic] would.
func CopyFile(dst Dir, to string, src Dir, from string) error {
	f, err := src.Open(from)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	defer f.Close()
	_, err = WriteFrom(dst, to, io.NewSectionReader(f, 0, math.MaxInt64))
	return err
}

// ReadWhole reads a whole file of at most limit bytes. A longer one is an error:
// what lies on a drive does not decide how much memory is used.
func ReadWhole(dir Dir, name string, limit int64) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("read %s: %d bytes, where at most %d are allowed", name, size, limit)
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data[:n], nil
}

// IsTemp says that a file is what a write left behind that never finished.
func IsTemp(name string) bool { return strings.HasSuffix(name, tempSuffix) }

// RemoveTemps deletes what unfinished writes left in a folder. The caller holds
// the lock that keeps other writers out.
func RemoveTemps(dir Dir, folder string) error {
	entries, err := dir.List(folder)
	if err != nil {
		return fmt.Errorf("list %s: %w", folder, err)
	}
	for _, e := range entries {
		if !IsTemp(e.Name()) || e.IsDir() {
			continue
		}
		if err := dir.Remove(path.Join(folder, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what an unfinished write left: %w", err)
		}
	}
	return nil
}

// tempName is different every time, so that two writers of one name never share
// a file and the last rename wins with a whole one.
func tempName(name string) string {
	var random [6]byte
	rand.Read(random[:])
	return name + "." + hex.EncodeToString(random[:]) + tempSuffix
}
