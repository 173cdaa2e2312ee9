package diskfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"strings"

	"lifeboat"
)

// outside returns the names of the other files that an image would read, as
// they stand in it. Extents of a VMDK that lie beside it are part of it.
func outside(r io.ReaderAt, format Format) ([]string, error) {
	switch format {
	case QCOW2:
		return outsideQCOW2(r)
	case VMDK:
		return outsideVMDK(r)
	default: // QEMU itself refuses VHDX and VDI files that have a parent.
		return nil, nil
	}
}

// maxNameBytes is the longest name of a backing file that QEMU writes.
const maxNameBytes = 1023

// outsideQCOW2 reads the header; numbers in it are big-endian.
func outsideQCOW2(r io.ReaderAt) ([]string, error) {
	head, err := readHead(r)
	if err != nil {
		return nil, err
	}
	if len(head) < 104 {
		head = append(head, make([]byte, 104-len(head))...)
	}
	var names []string
	if offset := binary.BigEndian.Uint64(head[8:]); offset != 0 {
		length := binary.BigEndian.Uint32(head[16:])
		name := make([]byte, min(length, maxNameBytes))
		if _, err := r.ReadAt(name, int64(offset&(1<<62-1))); err != nil {
			return nil, fmt.Errorf("read the name of the backing file: %w", err)
		}
		names = append(names, string(name))
	}
	const externalData = 1 << 2
	if version := binary.BigEndian.Uint32(head[4:]); version >= 3 && binary.BigEndian.Uint64(head[72:])&externalData != 0 {
		names = append(names, "an external data file")
	}
	return names, nil
}

// maxDescriptorBytes bounds the text that describes a VMDK; it is a few hundred
// bytes as a rule. What is longer is refused, because QEMU would read on.
const maxDescriptorBytes = 64 << 10

var (
	vmdkParent = regexp.MustCompile(`(?i)parentFileNameHint\s*=\s*"([^"\r\n]*)"`)
	vmdkHasNo  = regexp.MustCompile(`(?mi)^\s*parentCID\s*=\s*"?ffffffff"?\s*$`)
)

func outsideVMDK(r io.ReaderAt) ([]string, error) {
	text, err := vmdkDescriptor(r)
	if err != nil {
		return nil, err
	}
	var names []string
	if m := vmdkParent.FindSubmatch(text); m != nil {
		names = append(names, string(m[1]))
	} else if len(text) > 0 && !vmdkHasNo.Match(text) {
		names = append(names, "a parent without a name")
	}
	for line := range strings.Lines(string(text)) {
		// A slash leads out of the folder, a colon to another protocol.
		if name := vmdkExtent(line); strings.ContainsAny(name, `/\:`) {
			names = append(names, name)
		}
	}
	return names, nil
}

// vmdkExtent returns the file that a line names as a part of the disk. It takes
// for such a line whatever QEMU might, for example: RW 2048 FLAT "x-flat.vmdk" 0
func vmdkExtent(line string) string {
	head, rest, quoted := strings.Cut(line, `"`)
	fields := strings.Fields(head)
	if !quoted || len(fields) == 0 {
		return ""
	}
	switch strings.ToUpper(fields[0]) {
	case "RW", "RDONLY", "NOACCESS":
		name, _, _ := strings.Cut(rest, `"`)
		return name
	default:
		return ""
	}
}

// vmdkDescriptor returns the text that describes a VMDK: the file itself, or
// what its header points to (in sectors, little-endian), up to a zero byte.
func vmdkDescriptor(r io.ReaderAt) ([]byte, error) {
	head, err := readHead(r)
	if err != nil {
		return nil, err
	}
	offset := int64(0)
	switch {
	case bytes.HasPrefix(head, []byte("COWD")):
		return nil, vmdkProblem("the image is of a kind of VMDK that only ESXi writes", "name the descriptor, the small .vmdk file beside it")
	case bytes.HasPrefix(head, []byte("KDMV")) && len(head) >= 44:
		offset = int64(binary.LittleEndian.Uint64(head[28:]) & (1<<50 - 1) * sector)
		if offset == 0 {
			return nil, nil
		}
	}
	text, err := io.ReadAll(io.NewSectionReader(r, offset, maxDescriptorBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the description of the image: %w", err)
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	if len(text) > maxDescriptorBytes {
		return nil, vmdkProblem("the description of the image is longer than any known", "find out who made this image; export the machine through its host, or have the program that made the image write it again")
	}
	return text, nil
}

func vmdkProblem(what, next string) error {
	return &lifeboat.Problem{What: what, Safe: "nothing was read or changed", Next: next, Err: ErrFormat}
}

// refuseOutside makes the problem of an image that depends on other files.
func refuseOutside(path string, names []string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: the image reads parts of itself from elsewhere: %q", path, names),
		Safe: "nothing was read or changed",
		Next: "if you know these files and trust the image, say --allow-backing",
		Err:  ErrBacking,
	}
}
