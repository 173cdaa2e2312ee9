package blockdev

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"golang.org/x/sys/unix"
)

// StartLabel is the name of the FAT file system.
const StartLabel = "LIFEBOAT"

const startHere = "/START-HERE.TXT"

// WriteStartHere makes the first partition of a laid out disk a FAT file system
// that any PC reads, with START-HERE.txt in it and nothing else, and reads the
// file back. It needs neither a FAT driver nor a mount. It may be called again.
func WriteStartHere(d Device, text []byte) error {
	if len(d.Partitions) != 2 {
		return fmt.Errorf("%s has %d partitions, and not the two of a drive", d.Path, len(d.Partitions))
	}
	p := d.Partitions[0]
	f, err := openAlone(p.Path)
	if err != nil {
		return fmt.Errorf("write START-HERE.txt: %w", err)
	}
	defer f.Close()
	if err := fillFAT(f, p.SizeBytes, d.SectorBytes, text); err != nil {
		return fmt.Errorf("write START-HERE.txt to %s: %w", p.Path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", p.Path, err)
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("read %s back: %w", p.Path, err)
	}
	got, err := readFAT(f, p.SizeBytes, d.SectorBytes)
	if err == nil && !bytes.Equal(got, text) {
		err = errors.New("it is not what was written")
	}
	if err != nil {
		return fmt.Errorf("read START-HERE.txt back from %s: %w", p.Path, err)
	}
	return nil
}

// ReadStartHere returns START-HERE.txt of the FAT partition of a drive.
func ReadStartHere(d Device) ([]byte, error) {
	if len(d.Partitions) != 2 {
		return nil, fmt.Errorf("%s has %d partitions, and not the two of a drive", d.Path, len(d.Partitions))
	}
	f, err := os.Open(d.Partitions[0].Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readFAT(f, d.Partitions[0].SizeBytes, d.SectorBytes)
}

func fillFAT(f *os.File, size, sector int64, text []byte) error {
	fs, err := fat32.Create(file.New(f, false), size, 0, sector, StartLabel, false)
	if err != nil {
		return err
	}
	out, err := fs.OpenFile(startHere, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return errors.Join(err, out.Close())
	}
	return errors.Join(out.Close(), fs.Close())
}

// longestStart bounds what is read: the text has a few pages.
const longestStart = 1 << 20

func readFAT(f *os.File, size, sector int64) ([]byte, error) {
	fs, err := fat32.Read(file.New(f, true), size, 0, sector)
	if err != nil {
		return nil, err
	}
	in, err := fs.OpenFile(startHere, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	// The library reads on to the end of the last cluster.
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(in, min(info.Size(), longestStart)))
}
