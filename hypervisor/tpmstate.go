package hypervisor

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// The bounds of what an emulated TPM keeps: swtpm's files are far smaller.
const (
	mostTPMFiles   = 2
	longestTPMFile = 1 << 20
)

// tpmFile is the file of swtpm's that has to travel: what a module of either
// version keeps without power. Its lock and log do not, nor what it has in its
// memory: a machine that is booted from a point starts its module anew.
var tpmFile = regexp.MustCompile(`^tpm2?-00\.permall$`)

// PackTPM returns the state of an emulated TPM in the form of
// [lifeboat.TPM].State: swtpm's files in a tar archive, in the order of their
// names. A folder without any gives nil. swtpm replaces its files as a whole, so
// that the folder of a running machine can be read.
func PackTPM(dir string) ([]byte, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of a TPM: %w", err)
	}
	var archive bytes.Buffer
	w, n := tar.NewWriter(&archive), 0
	for _, e := range entries {
		if !e.Type().IsRegular() || !tpmFile.MatchString(e.Name()) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody has just removed the machine
		}
		if err != nil {
			return nil, fmt.Errorf("read the state of a TPM: %w", err)
		}
		if n++; n > mostTPMFiles || len(data) > longestTPMFile {
			return nil, fmt.Errorf("%s holds more than the state of a TPM", dir)
		}
		err = w.WriteHeader(&tar.Header{Name: e.Name(), Mode: 0o600, Size: int64(len(data)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			return nil, err
		}
	}
	if n == 0 {
		return nil, nil
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}

// UnpackTPM writes the state of an emulated TPM into a folder that it makes,
// readable by this user alone. What is not a file of swtpm's is refused.
func UnpackTPM(state []byte, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write the state of a TPM: %w", err)
	}
	r := tar.NewReader(bytes.NewReader(state))
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the state of a TPM cannot be read: %w", err)
		}
		if n == mostTPMFiles || h.Typeflag != tar.TypeReg || !tpmFile.MatchString(h.Name) || h.Size > longestTPMFile {
			return fmt.Errorf("the state of a TPM holds %q, which is none of its files", GuestWords(h.Name))
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("the state of a TPM cannot be read: %w", err)
		}
		if err := writeNew(filepath.Join(dir, h.Name), data); err != nil {
			return fmt.Errorf("write the state of a TPM: %w", err)
		}
	}
}

// writeNew writes a file that is not there yet, and waits until it is on disk.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
