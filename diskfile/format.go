package diskfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"lifeboat"
)

// Format is how the bytes of a disk lie in a file.
type Format string

// The formats that can be read; VDI cannot be written. Of a VHDX, QEMU does not
// tell where it has holes: all of it is read.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VHDX  Format = "vhdx"
	VDI   Format = "vdi"
)

// Errors that callers branch on; they come inside a lifeboat.Problem.
var (
	// ErrInUse: a running machine, or the system itself, uses the disk.
	ErrInUse = errors.New("the disk is in use")
	// ErrFormat: the format of the file is not sure, or not what was said.
	ErrFormat = errors.New("the format of the disk is not sure")
	// ErrBacking: the image reads parts of itself from other files.
	ErrBacking = errors.New("the image depends on other files")
	// ErrExists: there is something where a disk was to be made.
	ErrExists = errors.New("there is something already")
	// ErrTooSmall: the device has no room for the disk.
	ErrTooSmall = errors.New("the device is too small")
	// ErrNoTool: a program that is needed is not installed.
	ErrNoTool = errors.New("a program is missing")
)

// headBytes is how much of a file's beginning tells its format.
const headBytes = 512

// magics are what files of each format begin with.
var magics = []struct {
	format Format
	offset int
	bytes  string
}{
	{QCOW2, 0, "QFI\xfb"},
	{VMDK, 0, "KDMV"},
	{VMDK, 0, "COWD"},
	{VMDK, 0, "# Disk DescriptorFile"},
	{VHDX, 0, "vhdxfile"},
	{VDI, 0x40, "\x7f\x10\xda\xbe"},
}

// extensions say what the name of a file promises.
var extensions = map[string]Format{
	".raw":   Raw,
	".qcow2": QCOW2,
	".vmdk":  VMDK,
	".vhdx":  VHDX,
	".vdi":   VDI,
}

// seems tells what the beginning of a file looks like; Raw is everything else.
func seems(head []byte) Format {
	for _, m := range magics {
		if len(head) >= m.offset && bytes.HasPrefix(head[m.offset:], []byte(m.bytes)) {
			return m.format
		}
	}
	return Raw
}

// Detect decides the format of a disk from its name and its first bytes.
//
// The first bytes of a raw disk belong to its guest. A guest that writes the
// header of another format there, one that names a file of the host as its
// backing file, would have that file exported and could read it after its own
// recovery. So the bytes alone never decide: a format other than raw needs the
// bytes and either the name of the file or the word of the caller. Where name
// and bytes disagree, Detect refuses, and the caller has to say.
func Detect(path string, device bool, head []byte, said Format) (Format, error) {
	looks := seems(head)
	byName, named := extensions[strings.ToLower(filepath.Ext(path))]
	switch {
	case said == Raw, said == "" && device, said == "" && named && byName == Raw:
		return Raw, nil
	case said != "" && looks == said:
		return said, nil
	case said != "":
		return "", refuse(path, fmt.Sprintf("it was said to be %s and does not begin like one", said), looks)
	case named && looks == byName:
		return byName, nil
	case named:
		return "", refuse(path, fmt.Sprintf("its name says %s, its first bytes say %s", byName, looks), looks)
	case looks == Raw:
		return Raw, nil
	default:
		return "", refuse(path, fmt.Sprintf("it begins like %s and its name does not say so; the guest of a raw disk can write such bytes", looks), looks)
	}
}

func refuse(path, why string, looks Format) error {
	next := fmt.Sprintf("say which it is: --format raw (the bytes as they are) or --format %s (only if you made the file as one)", looks)
	if looks == Raw {
		next = "say --format raw to take the bytes as they are, or name another file"
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: %s", path, why),
		Safe: "nothing was read or changed",
		Next: next,
		Err:  ErrFormat,
	}
}

// readHead reads the beginning of a file; a shorter file is no error.
func readHead(r io.ReaderAt) ([]byte, error) {
	head := make([]byte, headBytes)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the beginning: %w", err)
	}
	return head[:n], nil
}
